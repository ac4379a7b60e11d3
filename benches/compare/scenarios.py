"""What is asked of every peer, and which answer is right."""

from dataclasses import dataclass

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
    reference: str = "nginx"  # whom the others are compared with
    tls: bool = False  # over TLS 1.3
    streams: int = 0  # over HTTP/2, so many requests at a time on each connection
    reached_after: int = 0  # the status comes only after up to so many requests (a limit)
    body: int = 0  # bytes that are posted; 0: GET
    how: str = "load"  # as fast as it goes; "websocket": messages through tunnels; "resume": TLS sessions that go on
    share: float = 0.0  # at this share of the rate that the reference reaches in `plain`, for the time that answers take
    log: bool = False  # every peer writes an access log
    workers: int = 1  # on as many cores, which load and upstream then have as well
    about: str = ""


ALL = {
    scenario.name: scenario
    for scenario in (
        Scenario("plain", "/1k", length=1024, about="1 KiB proxied, keep-alive"),
        Scenario(
            "plain_xff",
            "/1k",
            length=1024,
            headers=(("X-Forwarded-For", "198.51.100.7"),),
            about="the same with the client named by a trusted proxy",
        ),
        Scenario(
            "browser",
            "/page",
            length=12288,
            headers=tuple(BROWSER.items()),
            about="20 request fields (1.5 KiB of cookies), 15 response fields, 12 KiB proxied",
        ),
        Scenario("deny", "/deny", status=403, about="refused at the edge: not internal"),
        Scenario("limited", "/limited", status=429, reached_after=300, about="refused at the edge: above the limit"),
        Scenario("three", "/three", length=1024, about="1 KiB proxied, three limits that let it pass"),
        Scenario("probe", "/version", about="a guarded probe, answered at the edge"),
        Scenario("b100k", "/100k", length=100 << 10, connections=16, reference="nginx-tuned", about="100 KiB proxied"),
        Scenario("b10m", "/10m", length=10 << 20, connections=4, reference="nginx-tuned", about="10 MiB proxied"),
        Scenario(
            "static", "/static/10k", length=10 << 10, about="a file of 10 KiB, served by the peer itself"
        ),
        Scenario(
            "post",
            "/1k",
            length=1024,
            body=8 << 10,
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
        Scenario("tls", "/1k", length=1024, tls=True, about="1 KiB proxied over TLS 1.3, keep-alive"),
        Scenario(
            "tls_new",
            "/1k",
            length=1024,
            tls=True,
            headers=(("Connection", "close"),),
            connections=16,
            about="a new TLS 1.3 connection (full handshake, ECDSA P-256) for each 1 KiB proxied",
        ),
        Scenario(
            "tls_h2",
            "/1k",
            length=1024,
            tls=True,
            streams=32,
            connections=16,
            about="1 KiB proxied over HTTP/2 and TLS 1.3, 32 requests at a time on each connection",
        ),
        Scenario(
            "tls_h2_few",
            "/1k",
            length=1024,
            tls=True,
            streams=2,
            connections=32,
            about="1 KiB proxied over HTTP/2 and TLS 1.3, two requests at a time on each connection",
        ),
        Scenario(
            "tls_resumed",
            "/1k",
            length=1024,
            tls=True,
            how="resume",
            about="a new TLS 1.3 connection that resumes a session for each 1 KiB proxied, one after the other",
        ),
        Scenario(
            "tls_100k",
            "/100k",
            length=100 << 10,
            tls=True,
            connections=16,
            reference="nginx-tuned",
            about="100 KiB proxied over TLS 1.3",
        ),
        Scenario("websocket", "/1k", length=1024, how="websocket", about="a message of 125 bytes there and back through a WebSocket"),
        Scenario("plain_log", "/1k", length=1024, log=True, about="1 KiB proxied, with access logs"),
        Scenario(
            "deny_log", "/deny", status=403, log=True, about="refused at the edge, with access logs"
        ),
        Scenario("at_30", "/1k", length=1024, share=0.3, about="1 KiB proxied at 30 % of what nginx reaches"),
        Scenario("at_70", "/1k", length=1024, share=0.7, about="1 KiB proxied at 70 % of what nginx reaches"),
        Scenario(
            "two_cores",
            "/1k",
            length=1024,
            workers=2,
            about="1 KiB proxied by two workers on two cores",
        ),
    )
}
# Scenarios that measure memory, and whether over TLS.
MEMORY = {"mem": False, "mem_tls": True}
NAMES = [*ALL, *MEMORY]

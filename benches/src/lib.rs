//! What the benchmarks and the allocation test share: a plan as a production site would have it, and requests to it.

use std::net::IpAddr;

use probegate::config::{self, Source, System};
use probegate::limiter::Limiter;
use probegate::plan::Plan;
use probegate::request::judge::{self, Question, Scratch, Showing};
use probegate::request::target::Target;
use probegate::wire::h1::request::{HeadBounds, RequestParser};
use probegate::wire::head::FieldView;
use probegate::wire::head::RequestHead;
use probegate_policies::limit::Seed;
use probegate_policies::now::Now;

/// Trusted proxies, two services, guarded probes with a token of two slots, a guarded route, one limit on everything.
const CONFIG: &str = r#"
client_ip: {trusted_proxies: [10.0.0.0/8, 192.0.2.0/24, "2001:db8:1::/48"]}
networks: {office: [203.0.113.0/24, 198.51.100.128/25, "2001:db8:2::/48"]}
tokens:
  probe:
    slots:
      - {name: new, sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}
      - {name: old, sha256: cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4}
limits: {per_client: {rate: 1000000/s, burst: 1000000}}
services:
  shop:
    hosts: [shop.example.com, "*.shop.example.com"]
    upstream: {servers: ["127.0.0.1:8000"]}
    limits: [per_client]
    probes: {readyz: {allow: {any: [{network: internal}, {token: probe}]}}}
    routes:
      - {path: /admin/, allow: {network: office}}
      - {path: /accounts/login/}
  other:
    hosts: [other.example.com]
    upstream: {servers: ["127.0.0.1:8001"]}
"#;

/// A plain request of a client behind one proxy.
pub const PLAIN: &str = "GET /products/42?colour=blue HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\
    X-Forwarded-For: 198.51.100.7\r\n\r\n";

/// What a browser sends: twenty fields and 1.5 KiB of cookies, through two proxies.
pub fn browser() -> String {
    let mut text = String::from("GET /products/42?colour=blue HTTP/1.1\r\nHost: shop.example.com\r\n");
    for (name, value) in [
        ("Connection", "keep-alive"),
        ("Cache-Control", "max-age=0"),
        ("Sec-Ch-Ua", "\"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\""),
        ("Sec-Ch-Ua-Mobile", "?0"),
        ("Sec-Ch-Ua-Platform", "\"Linux\""),
        ("Upgrade-Insecure-Requests", "1"),
        (
            "User-Agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        ),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-User", "?1"),
        ("Sec-Fetch-Dest", "document"),
        ("Referer", "https://shop.example.com/products/"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
        ("If-None-Match", "\"5f2b-61a8c1\""),
        ("X-Forwarded-For", "203.0.113.9, 198.51.100.7, 10.1.2.3"),
        ("X-Forwarded-Proto", "https"),
    ] {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Cookie: sessionid={}; csrftoken={}\r\n\r\n", "a".repeat(32), "b".repeat(1450)));
    text
}

/// The plan and its limits.
pub fn plan() -> Result<(Plan, Limiter), String> {
    plan_of(CONFIG)
}

/// The same with limits by everything that requests have in common, which count exactly and in windows.
pub fn plan_with_keys() -> Result<(Plan, Limiter), String> {
    let keys = "[client_ip, {header: User-Agent}, {cookie: sessionid}, {query: colour}, path, method, host, service, route, token, client_certificate]";
    let limits = format!(
        "limits: {{all: {{rate: 1000000/s, burst: 1000000, key: {keys}, headers: always}}, windows: {{rate: 1000000/s, algorithm: fixed_window, key: {keys}}}, per_client:"
    );
    plan_of(
        &CONFIG
            .replace("limits: {per_client:", &limits)
            .replace("limits: [per_client]", "limits: [per_client, all, windows]"),
    )
}

fn plan_of(config: &str) -> Result<(Plan, Limiter), String> {
    let source = Source { name: "bench".to_owned(), text: config.to_owned() };
    let loaded = config::compile(&source, &System::new("")).map_err(|problems| problems.to_string())?;
    let limiter = Limiter::new(&loaded.plan, 1, None, &Seed([1, 2, 3, 4]));
    Ok((loaded.plan, limiter))
}

/// Bounds for heads, as by default.
pub const BOUNDS: HeadBounds = HeadBounds { head: 32 * 1024, fields: 100, target: 8 * 1024 };

/// Parses a head.
pub fn parse(text: &str) -> Result<RequestHead, String> {
    let mut head = RequestHead::default();
    match RequestParser::default().advance(text.as_bytes(), &BOUNDS, &mut head) {
        Ok(true) => Ok(head),
        other => Err(format!("{other:?}")),
    }
}

/// The proxy that all requests come through.
pub const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));

/// One judgement, from the parsed head on, as a worker does it: target, path, identity, service, part, access, limit.
pub fn judge(case: &mut Case<'_>) -> bool {
    case.clock += 1;
    let fields = FieldView { bytes: case.bytes, fields: &case.head.fields };
    let Ok(target) = Target::of(case.head, case.bytes) else {
        return false;
    };
    let question = Question {
        method: case.head.method.of(case.bytes),
        path: target.path,
        query: target.query,
        host: target.host,
        fields: &fields,
        peer: PEER,
        showing: Showing::default(),
        missing: None,
        probes_only: false,
        redirect: None,
        bans: None,
        now: Now { nanos: case.clock, unix: 1_800_000_000 },
        worker: 0,
    };
    judge::judge(case.plan, case.limiter, &question, &mut case.scratch, &mut ()).verdict.is_ok()
}

/// A request to judge again and again.
#[derive(Debug)]
pub struct Case<'a> {
    plan: &'a Plan,
    limiter: &'a Limiter,
    head: &'a RequestHead,
    bytes: &'a [u8],
    scratch: Scratch,
    clock: u64,
}

impl<'a> Case<'a> {
    /// A request with this head.
    pub fn new(plan: &'a Plan, limiter: &'a Limiter, head: &'a RequestHead, text: &'a str) -> Self {
        Self { plan, limiter, head, bytes: text.as_bytes(), scratch: Scratch::default(), clock: 1 }
    }
}

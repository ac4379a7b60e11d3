//! `explain`: its words, and that a live gateway does what it says.

use crate::harness::{Client, Config, Ended, Folder, Gateway, TOKEN, Upstream, ok, probegate, root, run};

const CONFIG: &str = "\
client_ip: {trusted_proxies: [127.0.0.1]}
networks: {office: [203.0.113.0/24]}
tokens: {probe: {slots: [{name: ci, env: PROBE_TOKEN}]}}
limits: {few: {rate: 10/h, burst: 4, methods: [POST]}}
services:
  shop:
    hosts: [shop.example]
    upstream: {servers: [\"127.0.0.1:8000\"]}
    limits: [few]
    probes:
      readyz: {allow: {any: [{network: internal}, {token: probe}]}}
      startupz: {deny: close}
      version: {serve: answer, allow: {network: office}, deny: 404}
    routes:
      - {path: /admin/, allow: {all: [{network: office}, {token: probe}]}, deny: 404}
";

fn explain(arguments: &[&str]) -> Ended {
    run(&mut probegate([&["explain"], arguments].concat()))
}

/// Explains with [`CONFIG`]; where its file is, is written as `FILE`.
fn explained(arguments: &[&str]) -> (Option<i32>, String) {
    let folder = Folder::new();
    let file = folder.write("probegate.yaml", CONFIG).display().to_string();
    let result = explain(&[&["--config", &file], arguments].concat());
    assert_eq!(result.err, "");
    (result.code, result.out.replace(&file, "FILE"))
}

#[test]
fn the_walk_over_the_forwarding_header_is_told() {
    let header = "X-Forwarded-For: 10.1.2.3, , 198.51.100.7, 127.0.0.1";
    let (code, text) = explained(&["-H", header, "GET", "http://shop.example/readyz"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        text,
        "\
request   GET http://shop.example/readyz from 127.0.0.1
path      `/readyz`
peer      127.0.0.1, a trusted proxy: `x-forwarded-for` is walked from the right
          `127.0.0.1`: a trusted proxy
          `198.51.100.7`: the client; what stands left of it is not looked at
client    198.51.100.7 (xff[-2])
service   `shop` answers for host `shop.example` (FILE:6)
part      probe `readyz` at `/readyz` (FILE:11)
rule        network internal (FILE:11): refuses: the client is not in an allowed network
rule        token probe (FILE:11): refuses: no token was presented
rule      any [network internal, token probe] (FILE:11): refuses: the client is not in an allowed network
verdict   refused: 403, the client is not in an allowed network (outside_network)
"
    );
}

#[test]
fn an_unknown_client_and_a_closed_connection() {
    let (code, text) = explained(&["-H", "X-Forwarded-For: junk", "GET", "http://shop.example/startupz"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        text,
        "\
request   GET http://shop.example/startupz from 127.0.0.1
path      `/startupz`
peer      127.0.0.1, a trusted proxy: `x-forwarded-for` is walked from the right
          `junk`: not an address: the walk ends here
client    unknown (malformed@-1): no network lets it in
service   `shop` answers for host `shop.example` (FILE:6)
part      probe `startupz` at `/startupz` (FILE:12)
rule      network internal (default): refuses: a trusted proxy did not say who the client is
verdict   refused: the connection is closed, a trusted proxy did not say who the client is (identity_unknown)
"
    );
}

#[test]
fn a_permit_names_its_token_and_never_shows_it() {
    let token = format!("X-Probe-Token: {TOKEN}");
    let (code, text) =
        explained(&["-H", "X-Forwarded-For: 203.0.113.9", "-H", &token, "GET", "http://shop.example/admin/x"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "\
request   GET http://shop.example/admin/x from 127.0.0.1
path      `/admin/x`
peer      127.0.0.1, a trusted proxy: `x-forwarded-for` is walked from the right
          `203.0.113.9`: the client; what stands left of it is not looked at
client    203.0.113.9 (xff[-1])
service   `shop` answers for host `shop.example` (FILE:6)
part      route `/admin` (FILE:15)
rule        network office (FILE:15): lets it in
rule        token probe (FILE:15): lets it in
rule      all [network office, token probe] (FILE:15): lets it in
verdict   passes: it goes to the app (token `probe`, slot `ci`)
"
    );
}

#[test]
fn a_limit_an_odd_path_and_a_peer_that_is_no_proxy() {
    let arguments = ["--from", "198.51.100.7", "-H", "X-Forwarded-For: 10.0.0.1", "POST", "http://shop.example/a/../b"];
    let (code, text) = explained(&arguments);
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        "\
request   POST http://shop.example/a/../b from 198.51.100.7
path      `/b`, sent as `/b`
peer      198.51.100.7, not a trusted proxy: forwarding fields are ignored
client    198.51.100.7 (peer)
service   `shop` answers for host `shop.example` (FILE:6)
part      no probe and no route: no rule of its own
limit     `few` (FILE:4): counts this request by client_ip (/32, /64), as `198.51.100.7`: 10/h, burst 4; a new client has 4 left after it; beyond that, 429 (limit_exceeded)
verdict   passes: it goes to the app
"
    );
}

#[test]
fn what_is_refused_before_it_is_judged() {
    for (arguments, verdict) in [
        (&["-H", "bad header", "GET", "/"][..], "refused: 400, a header field is not a valid one (field_invalid)"),
        (&["-H", "Host: a, b", "GET", "/"], "refused: 400, the host is not a valid one (host_invalid)"),
        (&["TRACE", "/"], "refused: 405, the method is not allowed here (method_not_allowed)"),
    ] {
        let (code, text) = explained(arguments);
        assert_eq!(code, Some(1));
        assert_eq!(text, format!("request   refused before it is judged\nverdict   {verdict}\n"), "{arguments:?}");
    }
    let (code, text) = explained(&["GET", "http://other.example/"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("service   none answers for host `other.example`\nverdict   refused: 421,"), "{text}");
}

#[test]
fn without_a_file_the_default_is_explained() {
    let result = explain(&["--from", "198.51.100.7", "GET", "/readyz"]);
    assert_eq!(result.code, Some(1));
    assert!(result.out.contains("rule      network internal (default configuration:"), "{}", result.out);
    assert_eq!(explain(&["GET", "/readyz"]).code, Some(0), "from 127.0.0.1");
    let bad = root().join("gateway/tests/config/bad/many.yaml").display().to_string();
    let result = explain(&["-c", &bad, "GET", "/"]);
    assert_eq!((result.code, &*result.out), (Some(64), ""), "a file that cannot be used");
    assert!(result.err.contains("error: unknown key `adress`"), "{}", result.err);
    assert_eq!(explain(&["--from", "nobody", "GET", "/"]).code, Some(64));
}

/// What became of a request: the status (444: the connection was closed), and the reason in the log.
type Outcome = (u16, String);

/// What `explain` says about it: whether it passes, and otherwise status and reason.
fn predicted(file: &str, request: &Request) -> Option<Outcome> {
    let mut arguments = vec!["-c", file, "--from", request.from];
    for field in request.fields {
        arguments.extend(["-H", field]);
    }
    let url = format!("http://{}{}", request.host, request.target);
    arguments.extend([request.method, &url]);
    let result = explain(&arguments);
    let verdict = result.out.lines().last().unwrap().strip_prefix("verdict   ").unwrap();
    let passes = verdict.starts_with("passes: ");
    assert_eq!(result.code, Some(i32::from(!passes)), "{}", result.out);
    let refused = verdict.strip_prefix("refused: ");
    assert_eq!(refused.is_none(), passes, "{verdict}");
    refused.map(|refused| {
        let status = refused.split(',').next().unwrap();
        let status = if status == "the connection is closed" { 444 } else { status.parse().unwrap() };
        let reason = refused.rsplit_once('(').unwrap().1.trim_end_matches(')');
        (status, reason.to_owned())
    })
}

/// What the gateway does with it.
fn observed(gateway: &Gateway, request: &Request, number: usize) -> Option<Outcome> {
    let from: std::net::Ipv4Addr = request.from.parse().unwrap();
    let mut client = Client::connect_from(from.octets(), gateway.address());
    let target = format!("{}?number={number}", request.target);
    let fields = request.fields.iter().map(|field| format!("{field}\r\n")).collect::<Vec<_>>().concat();
    client.send(format!(
        "{} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{fields}\r\n",
        request.method, request.host
    ));
    let (answer, _) = client.rest();
    let line = gateway.access(&target);
    let status = u16::try_from(line["status"].as_u64().unwrap()).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    match status {
        444 => assert_eq!(answer, ""),
        _ => assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}"),
    }
    line["reason"].as_str().map(|reason| (status, reason.to_owned()))
}

struct Request {
    from: &'static str,
    host: &'static str,
    method: &'static str,
    target: &'static str,
    fields: &'static [&'static str],
}

#[test]
fn a_live_gateway_does_what_explain_says() {
    const TOKEN_FIELD: &str = "X-Probe-Token: c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
    const OFFICE: &str = "X-Forwarded-For: 203.0.113.9";
    const STRANGER: &str = "X-Forwarded-For: 198.51.100.7";
    assert!(TOKEN_FIELD.ends_with(TOKEN));
    let app = Upstream::answering(|_| ok("answered"));
    let (before, after) = CONFIG.split_once("services:\n").unwrap();
    let config = Config::before(&app)
        .top(before)
        .service(after.split_once("limits: [few]\n").unwrap().1.replace("\n    ", "\n").trim_start());
    let config = config.service("hosts: [shop.example]\nlimits: [few]\nmax_body: 1KiB").to_string();
    let gateway = Gateway::with(&config).env("PROBE_TOKEN", TOKEN).start();
    let file = gateway.config_path().display().to_string();

    let of = |from, method, target, fields| Request { from, host: "shop.example", method, target, fields };
    let table = [
        of("127.0.0.1", "GET", "/", &[STRANGER]),
        of("127.0.0.1", "GET", "/readyz", &[STRANGER]),
        of("127.0.0.1", "GET", "/readyz", &["X-Forwarded-For: 10.1.2.3"]),
        of("127.0.0.1", "GET", "/readyz", &["X-Forwarded-For: 10.1.2.3, 198.51.100.7"]),
        of("127.0.0.1", "GET", "/readyz", &[STRANGER, TOKEN_FIELD]),
        of("127.0.0.1", "GET", "/readyz", &[STRANGER, TOKEN_FIELD, TOKEN_FIELD]),
        of("127.0.0.1", "GET", "/readyz", &[STRANGER, "X-Probe-Token: wrong"]),
        of("127.0.0.1", "GET", "/readyz", &["X-Forwarded-For: garbage"]),
        of("127.0.0.1", "GET", "/readyz", &[]),
        of("127.0.0.2", "GET", "/readyz", &[STRANGER]),
        of("127.0.0.1", "POST", "/readyz", &["X-Forwarded-For: 10.1.2.3"]),
        of("127.0.0.1", "POST", "/readyz", &[STRANGER]),
        of("127.0.0.1", "GET", "/startupz", &[STRANGER]),
        of("127.0.0.1", "GET", "/version", &[STRANGER]),
        of("127.0.0.1", "GET", "/version", &[OFFICE]),
        of("127.0.0.1", "GET", "/admin/users", &[OFFICE, TOKEN_FIELD]),
        of("127.0.0.1", "GET", "/admin/users", &[OFFICE]),
        of("127.0.0.1", "GET", "/ADMIN/users", &[STRANGER]),
        of("127.0.0.1", "GET", "//readyz", &[STRANGER]),
        of("127.0.0.1", "GET", "/%72eadyz", &[STRANGER]),
        of("127.0.0.1", "GET", "/readyz/", &["X-Forwarded-For: 10.1.2.3"]),
        of("127.0.0.1", "GET", "/x/../readyz", &["X-Forwarded-For: 10.1.2.3"]),
        of("127.0.0.1", "GET", "/%zz", &[STRANGER]),
        of("127.0.0.1", "GET", "/a%2f..%2fadmin/", &[STRANGER]),
        of("127.0.0.1", "POST", "/form", &[STRANGER]),
        of("127.0.0.1", "POST", "/form", &[STRANGER, "Content-Length: 2000"]),
        of("127.0.0.1", "GET", "/", &[STRANGER, "Expect: a miracle"]),
        of("127.0.0.1", "GET", "/", &[STRANGER, "Transfer-Encoding: gzip"]),
        of("127.0.0.1", "TRACE", "/", &[STRANGER]),
        Request { host: "other.example", ..of("127.0.0.1", "GET", "/", &[STRANGER]) },
        Request { host: "user@shop.example", ..of("127.0.0.1", "GET", "/userinfo", &[STRANGER]) },
    ];
    let mut passed = 0;
    for (number, request) in table.iter().enumerate() {
        let (said, done) = (predicted(&file, request), observed(&gateway, request, number));
        let Request { from, method, target, fields, host } = request;
        assert_eq!(
            said, done,
            "{method} {host} {target} {fields:?} from {from}: explained on the left, served on the right"
        );
        passed += usize::from(done.is_none());
    }
    assert_eq!(passed, 9, "of {}", table.len());
}

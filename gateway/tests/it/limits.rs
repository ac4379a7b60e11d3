//! Rate limits: who is counted with whom, what counts, and what the refused are told (shared/semantics.md §2.4).

use serde_json::json;

use crate::harness::{Client, Config, Gateway, Response, TOKEN, Upstream, exchange, get, ok, wait_for_metric};

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

/// Asks from an address of loopback.
fn from(gateway: &Gateway, source: [u8; 4]) -> u16 {
    let mut client = Client::connect_from(source, gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().status
}

/// Asks behind a proxy that says this in `X-Forwarded-For`.
fn via(gateway: &Gateway, forwarded: &str) -> u16 {
    via_proxy(gateway, [127, 0, 0, 1], forwarded)
}

fn via_proxy(gateway: &Gateway, proxy: [u8; 4], forwarded: &str) -> u16 {
    let mut client = Client::connect_from(proxy, gateway.address());
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {forwarded}\r\n\r\n"));
    client.response().status
}

fn statuses(gateway: &Gateway, target: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(gateway.address(), target).status).collect()
}

/// The seconds of a text such as `"name";r=0;t=42`, which has to begin with `prefix`.
fn seconds(value: Option<String>, prefix: &str) -> u64 {
    let value = value.unwrap();
    let digits = value.strip_prefix(prefix).unwrap_or_else(|| panic!("{value:?} does not begin with {prefix:?}"));
    digits.parse().unwrap_or_else(|_| panic!("no whole number of seconds: {value:?}"))
}

#[test]
fn the_refused_are_told_when_and_which_limit() {
    let app = app();
    let config =
        Config::before(&app).top("limits: {per_client: {rate: 1/h, burst: 2}}").service("limits: [per_client]");
    let gateway = Gateway::start(&config);
    let admitted = get(gateway.address(), "/");
    assert_eq!((admitted.status, admitted.field("ratelimit"), admitted.field("retry-after")), (200, None, None));
    assert_eq!(statuses(&gateway, "/", 2), [200, 200]);

    let response = get(gateway.address(), "/refused");
    assert_eq!((response.status, &*response.reason), (429, "Too Many Requests"));
    assert_eq!(response.field("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(response.field("ratelimit-policy").as_deref(), Some("\"per_client\";q=3;w=10800"));
    // One request is earned in an hour, all three in three; less the moment that has passed.
    let after = seconds(response.field("retry-after"), "");
    assert!((3500..=3600).contains(&after), "{after}");
    let reset = seconds(response.field("ratelimit"), "\"per_client\";r=0;t=");
    assert!((10_700..=10_800).contains(&reset), "{reset}");
    assert_eq!(reset - after, 7200, "both from one reading of the clock");
    assert!(!response.closes(), "the connection may go on");
    let line = gateway.access("/refused");
    let problem = response.json();
    assert_eq!(
        problem,
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Too Many Requests",
            "status": 429,
            "detail": "the client sent more requests than its limit allows",
            "violated-policies": ["per_client"],
            "request_id": line["request_id"],
        })
    );
    assert_eq!(app.requests().len(), 3, "the app hears of none that was refused");
}

#[test]
fn a_browser_gets_a_page_and_a_short_limit_says_one_second() {
    let app = app();
    let config = Config::before(&app).top("limits: {quick: {rate: 2/s, burst: 0}}").service("limits: [quick]");
    let gateway = Gateway::start(config);
    // As many as it takes until one is refused, which is the second unless half a second passes between them.
    let mut client = Client::connect(gateway.address());
    let response = loop {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
        let response = client.response();
        if response.status != 200 {
            break response;
        }
    };
    assert_eq!((response.status, response.field("retry-after").as_deref()), (429, Some("1")));
    assert_eq!(response.field("ratelimit-policy").as_deref(), Some("\"quick\";q=1;w=1"));
    assert_eq!(response.field("ratelimit").as_deref(), Some("\"quick\";r=0;t=1"));
    assert_eq!(response.field("content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert!(response.text().contains("<h1>429 Too Many Requests</h1>"));
}

#[test]
fn a_refusal_is_logged_and_counted() {
    let app = app();
    let config = Config::before(&app)
        .top("limits:\n  other: {rate: 1/s}\n  per_client: {rate: 1/d, burst: 0}")
        .service("limits: [per_client]");
    let gateway = Gateway::start(&config);
    assert_eq!(statuses(&gateway, "/refused", 4), [200, 429, 429, 429]);
    let line = gateway.wait_for_log(|line| line["status"] == 429);
    assert_eq!((&line["decision"], &line["reason"]), (&json!("limit"), &json!("limit_exceeded")));
    assert_eq!((&line["policy"], &line["service"]), (&json!("limit:per_client"), &json!("app")));
    let defined = config.to_string().lines().position(|line| line.contains("  per_client:")).unwrap() + 1;
    assert_eq!(line["policy_line"], defined);
    assert_eq!((line.get("upstream"), line.get("upstream_status")), (None, None));
    for (series, count) in [
        ("probegate_limited_total{limit=\"per_client\"}", 3.0),
        ("probegate_limited_total{limit=\"other\"}", 0.0),
        ("probegate_requests_total{service=\"app\",code=\"429\"}", 3.0),
        ("probegate_decisions_total{service=\"app\",decision=\"limit\"}", 3.0),
        ("probegate_refusals_total{service=\"app\",reason=\"limit_exceeded\"}", 3.0),
        ("probegate_limit_evictions_total{limit=\"per_client\"}", 0.0),
    ] {
        wait_for_metric(&gateway, series, count);
    }
}

#[test]
fn probes_are_exempt() {
    let app = app();
    let config = Config::before(&app).top("limits: {few: {rate: 1/d, burst: 0}}").service("limits: [few]");
    let gateway = Gateway::start(config);
    for target in ["/healthz", "/readyz", "/startupz", "/version"] {
        assert_eq!(statuses(&gateway, target, 3), [200; 3], "{target}: it costs nothing");
    }
    assert_eq!(statuses(&gateway, "/", 2), [200, 429]);
    assert_eq!(get(gateway.address(), "/readyz").status, 200, "nor does it need anything to be left");
}

#[test]
fn a_refusal_by_a_rule_counts_so_that_guessing_is_limited() {
    let app = app();
    let config = Config::before(&app)
        .top("limits: {few: {rate: 1/d, burst: 2}}\ntokens: {door: {slots: [{name: a, env: PROBE_TOKEN}]}}")
        .service("limits: [few]\nroutes:\n  - {path: /shut, allow: {token: door}}");
    let gateway = Gateway::with(config).env("PROBE_TOKEN", TOKEN).start();
    let guess = |token: &str| {
        let request = format!("GET /shut HTTP/1.1\r\nHost: a\r\nX-Probe-Token: {token}\r\n\r\n");
        exchange(gateway.address(), request).status
    };
    assert_eq!(["1", "2", "3", "4"].map(guess), [403, 403, 403, 429]);
    assert_eq!(guess(TOKEN), 429, "the right one comes too late");
    assert_eq!(app.requests().len(), 0);
    let line = gateway.wait_for_log(|line| line["status"] == 429);
    assert_eq!((&line["decision"], &line["policy"]), (&json!("limit"), &json!("limit:few")));
}

#[test]
fn every_peer_is_a_client_of_its_own() {
    let app = app();
    let config = Config::before(&app).top("limits: {few: {rate: 1/d, burst: 1}}").service("limits: [few]");
    let gateway = Gateway::start(config.workers(2));
    for source in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 1, 1]] {
        let seen: Vec<_> = (0..3).map(|_| from(&gateway, source)).collect();
        assert_eq!(seen, [200, 200, 429], "{source:?}");
    }
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart_and_those_of_others_are_not() {
    let app = app();
    let config = Config::before(&app)
        .top("client_ip: {trusted_proxies: [127.0.0.1, 127.0.0.2]}\nlimits: {few: {rate: 1/d, burst: 0}}")
        .service("limits: [few]");
    let gateway = Gateway::start(config);
    for client in ["198.51.100.7", "198.51.100.8", "203.0.113.7"] {
        assert_eq!((via(&gateway, client), via(&gateway, client)), (200, 429), "{client}");
    }
    assert_eq!(via_proxy(&gateway, [127, 0, 0, 2], "198.51.100.7"), 429, "the same client over another proxy");
    assert_eq!(via(&gateway, "10.1.2.3, 198.51.100.7"), 429, "what the client claims itself makes no other client");
    assert_eq!(via(&gateway, "198.51.100.7, 127.0.0.2"), 429);
    assert_eq!(via(&gateway, "::ffff:198.51.100.7"), 429, "another spelling of it");
    assert_eq!(via(&gateway, "198.51.100.7:4711"), 429);
    // 127.0.0.3 is nobody's proxy: one client, whatever it claims.
    assert_eq!(via_proxy(&gateway, [127, 0, 0, 3], "192.0.2.1"), 200);
    for claim in ["192.0.2.2", "192.0.2.3", "garbage"] {
        assert_eq!(via_proxy(&gateway, [127, 0, 0, 3], claim), 429, "{claim}");
    }
}

#[test]
fn ipv6_clients_are_counted_by_their_64_bits_and_prefixes_can_be_chosen() {
    let app = app();
    let config = Config::before(&app)
        .top("client_ip: {trusted_proxies: [127.0.0.1]}\nlimits:\n  few: {rate: 1/d, burst: 0}\n  wide: {rate: 1/d, burst: 1, ipv4_prefix: 24, ipv6_prefix: 48}");
    let gateway = Gateway::start(config.clone().service("limits: [few]"));
    assert_eq!(via(&gateway, "2001:db8:1:1::1"), 200);
    for same in ["2001:db8:1:1::2", "2001:db8:1:1:ffff:ffff:ffff:ffff", "[2001:DB8:1:1::3]:443"] {
        assert_eq!(via(&gateway, same), 429, "{same}");
    }
    for other in ["2001:db8:1:2::1", "2001:db8:2:1::1"] {
        assert_eq!(via(&gateway, other), 200, "{other}");
    }

    let gateway = Gateway::start(config.service("limits: [wide]"));
    let seen = ["198.51.100.1", "198.51.100.255", "198.51.100.3", "198.51.101.1"].map(|client| via(&gateway, client));
    assert_eq!(seen, [200, 200, 429, 200]);
    let seen = ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:2:1::1"]
        .map(|client| via(&gateway, client));
    assert_eq!(seen, [200, 200, 429, 200]);
}

#[test]
fn unknown_clients_share_a_bucket_for_each_peer_and_no_known_client_pays_for_them() {
    let app = app();
    let config = Config::before(&app)
        .top("client_ip: {trusted_proxies: [127.0.0.1, 127.0.0.2]}\nlimits: {few: {rate: 1/d, burst: 1}}")
        .service("limits: [few]");
    let gateway = Gateway::start(config);
    let seen = ["garbage", "unknown", "198.51.100.7, x"].map(|header| via(&gateway, header));
    assert_eq!(seen, [200, 200, 429], "garbage buys no bucket of its own");
    assert_eq!(get(gateway.address(), "/").status, 429, "no header is as good as a bad one");
    let seen = ["other", "garbage", "garbage"].map(|header| via_proxy(&gateway, [127, 0, 0, 2], header));
    assert_eq!(seen, [200, 200, 429], "behind another proxy");
    // All entries trusted: the client is the proxy itself, known, with the address that the unknown ones came from.
    let seen = ["127.0.0.1"; 3].map(|header| via(&gateway, header));
    assert_eq!(seen, [200, 200, 429]);
    assert_eq!(via(&gateway, "198.51.100.7"), 200);
    let line = gateway.wait_for_log(|line| line["status"] == 429);
    assert_eq!((&line["client"], &line["peer"]), (&json!(null), &json!("127.0.0.1")));
}

#[test]
fn only_the_methods_that_are_named_count() {
    let app = app();
    let config = Config::before(&app)
        .top("limits: {login: {rate: 1/d, burst: 1, methods: [POST, PUT]}}")
        .service("routes:\n  - {path: /login/, limits: [login]}");
    let gateway = Gateway::start(config);
    let ask = |method: &str, target: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        if method == "HEAD" { client.response_to_head().status } else { client.response().status }
    };
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "GET"] {
        assert_eq!(ask(method, "/login/"), 200, "{method} is free");
    }
    assert_eq!((ask("POST", "/login/"), ask("PUT", "/login/")), (200, 200));
    assert_eq!((ask("POST", "/login/"), ask("PUT", "/login/deeper")), (429, 429));
    assert_eq!((ask("GET", "/login/"), ask("POST", "/other")), (200, 200));
}

#[test]
fn several_limits_charge_all_or_nothing() {
    let app = app();
    let config = Config::before(&app)
        .top("limits:\n  service: {rate: 1/d, burst: 3}\n  route: {rate: 1/d, burst: 0}")
        .service("limits: [service]\nroutes:\n  - {path: /r, limits: [route]}\n  - {path: /s, limits: [route]}");
    let gateway = Gateway::start(config);
    let policy = |response: &Response| response.field("ratelimit-policy").unwrap_or_default();
    assert_eq!(get(gateway.address(), "/r").status, 200, "charges both");
    for _ in 0..5 {
        let refused = get(gateway.address(), "/r");
        assert_eq!((refused.status, policy(&refused).contains("\"route\"")), (429, true));
    }
    assert_eq!(get(gateway.address(), "/s").status, 429, "one limit, named twice, is one limit");
    assert_eq!(statuses(&gateway, "/", 3), [200; 3], "what the route refused did not charge the service");
    let refused = get(gateway.address(), "/");
    assert_eq!((refused.status, policy(&refused).contains("\"service\"")), (429, true));
    assert_eq!(policy(&get(gateway.address(), "/r")), policy(&refused), "the service's limit is asked first");
}

#[test]
fn a_limit_is_exact_over_all_workers_and_connections() {
    let app = app();
    let config = Config::before(&app).workers(4).top("limits: {few: {rate: 1/d, burst: 49}}").service("limits: [few]");
    let gateway = Gateway::start(config);
    let address = gateway.address();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let asked = (0..20).map(|_| {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    client.response().status
                });
                asked.filter(|status| *status == 200).count()
            })
        })
        .collect();
    let admitted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(admitted, 50, "of 160");
    assert_eq!(exchange(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 429);
}

#[test]
fn whom_several_limits_refuse_is_told_the_longest_time() {
    let app = Upstream::answering(|_| ok("answered"));
    let top = "limits: {soon: {rate: 1/m, burst: 0}, late: {rate: 1/h, burst: 0}, watched: {rate: 1/d, burst: 0, mode: shadow}}";
    let gateway = Gateway::start(Config::before(&app).top(top).service("limits: [soon, watched, late]"));
    assert_eq!(get(gateway.address(), "/").status, 200);
    let refused = get(gateway.address(), "/");
    assert_eq!(refused.status, 429);
    let after = seconds(refused.field("retry-after"), "");
    assert!((3500..=3600).contains(&after), "{after}");
}

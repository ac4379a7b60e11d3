//! The metrics: their format, that nothing a client sends becomes a label, and that they count what happened.

use std::collections::BTreeSet;

use crate::harness::{
    Client, Config, Gateway, Upstream, eventually, exchange, get, get_admin, metrics, ok, wait_for_metric,
};

fn series(gateway: &Gateway) -> BTreeSet<String> {
    // The collector of the process shows what the system tells, which is not ours to count.
    metrics(gateway).into_keys().filter(|name| name.starts_with("probegate_")).collect()
}

#[test]
fn the_text_follows_the_format() {
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = Gateway::start(Config::before(&app).top("limits: {\"odd-na_me\": {rate: 1/s}}"));
    get(gateway.address(), "/");
    wait_for_requests(&gateway, 1);
    let response = get_admin(gateway.admin(), "/metrics");
    assert_eq!(response.field("content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = response.text();
    let (mut family, mut seen) = (String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && seen.insert(name.to_owned()), "{line}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE follows HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            assert!(name.starts_with(&family), "{line} stands under {family}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (key, text) = label.split_once("=\"").unwrap();
                assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()) && text.ends_with('"'), "{line}");
            }
            value.parse::<f64>().unwrap();
        }
    }
    for name in ["probegate_requests_total", "probegate_request_duration_seconds", "process_resident_memory_bytes"] {
        assert!(seen.contains(name), "{name} is not in {seen:?}");
    }
    let head = exchange_head(&gateway);
    assert_eq!(head.status, 200);
}

fn exchange_head(gateway: &Gateway) -> crate::harness::Response {
    let mut client = Client::connect(gateway.admin());
    client.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.response_to_head()
}

/// Waits until so many requests have been counted.
fn wait_for_requests(gateway: &Gateway, count: u32) {
    eventually("all are counted", || {
        let counted: f64 = metrics(gateway)
            .iter()
            .filter(|(name, _)| name.starts_with("probegate_requests_total{"))
            .map(|(_, n)| n)
            .sum();
        (counted > f64::from(count) - 0.5).then_some(())
    });
}

#[test]
fn nothing_that_a_client_sends_becomes_a_label() {
    let app = Upstream::answering(|_| ok("answered"));
    let config = Config::before(&app)
        .top("networks: {nobody: [192.0.2.1/32]}\nclient_ip: {trusted_proxies: [127.0.0.1]}")
        .top("limits: {few: {rate: 1/d, burst: 0}}")
        .service("hosts: [\"*.example\"]\nroutes:\n  - {path: /shut, allow: {network: nobody}}\n  - {path: /few, limits: [few]}");
    let gateway = Gateway::start(config);
    // One of each kind first: their codes and reasons are series of their own.
    let ask = |number: usize| {
        for request in [
            format!(
                "GET /{number} HTTP/1.1\r\nHost: h{number}.example\r\nX-Forwarded-For: 198.51.100.{number}\r\n\r\n"
            ),
            format!(
                "M{number} /{number} HTTP/1.1\r\nHost: h{number}.example\r\nX-Forwarded-For: 198.51.100.{number}\r\n\r\n"
            ),
            format!("GET /{number} HTTP/1.1\r\nHost: h{number}.invalid\r\n\r\n"),
            format!("GET /shut/{number} HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 2001:db8::{number}\r\n\r\n"),
            format!("GET /shut/{number} HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: garbage{number}\r\n\r\n"),
            format!("GET /few/{number} HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n"),
            format!("GET /readyz?{number} HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 198.51.100.{number}\r\n\r\n"),
            format!("GET //{number} HTTP/7.{}\r\nHost: a.example\r\n\r\n", number % 10),
            format!("GET /{number} HTTP/1.1\r\nHost: a.example\r\nbroken{number} : 1\r\n\r\n"),
        ] {
            exchange(gateway.address(), request);
        }
    };
    ask(0);
    ask(1);
    wait_for_requests(&gateway, 2 * 9);
    let before = series(&gateway);
    (2..52).for_each(ask);
    wait_for_requests(&gateway, 52 * 9);
    assert_eq!(series(&gateway), before);
    for name in before {
        for theirs in ["h1", ".example", "198.51", "2001", "M1", "broken", "garbage", "/"] {
            assert!(!name.contains(theirs), "{name}");
        }
    }
}

#[test]
fn the_counters_are_what_was_sent() {
    let app = Upstream::answering(|request| {
        if request.target() == "/gone" {
            "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n".into()
        } else {
            ok("answered")
        }
    });
    let config = Config::before(&app)
        .workers(2)
        .top("networks: {nobody: [192.0.2.1/32]}\nlimits: {few: {rate: 1/d, burst: 1}}")
        .service("hosts: [a]\nprobes: {healthz: {cache: off}, readyz: {cache: off}}\nroutes:\n  - {path: /shut, allow: {network: nobody}}\n  - {path: /few, limits: [few]}");
    let gateway = Gateway::start(config);
    let mut client = Client::connect(gateway.address());
    let mut bytes = 0;
    for (target, times) in [("/", 7), ("/gone", 3), ("/shut", 4), ("/few", 5), ("/healthz", 2), ("/readyz", 6)] {
        for _ in 0..times {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            client.send(&request);
            client.response();
            bytes += request.len();
        }
    }
    let post = "POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n".to_owned() + &"x".repeat(100);
    client.send(&post);
    assert_eq!(client.response().status, 200);
    bytes += post.len();
    assert_eq!(get(gateway.address(), "/elsewhere").status, 421);
    assert_eq!(exchange(gateway.address(), "nonsense\r\n\r\n").status, 400);

    let app_bytes = f64::from(u32::try_from(bytes).unwrap());
    for (name, count) in [
        ("probegate_requests_total{service=\"app\",code=\"200\"}", 7.0 + 2.0 + 2.0 + 6.0 + 1.0),
        ("probegate_requests_total{service=\"app\",code=\"410\"}", 3.0),
        ("probegate_requests_total{service=\"app\",code=\"403\"}", 4.0),
        ("probegate_requests_total{service=\"app\",code=\"429\"}", 3.0),
        ("probegate_requests_total{service=\"\",code=\"421\"}", 1.0),
        ("probegate_decisions_total{service=\"app\",decision=\"forward\"}", 21.0),
        ("probegate_decisions_total{service=\"app\",decision=\"deny\"}", 4.0),
        ("probegate_decisions_total{service=\"app\",decision=\"limit\"}", 3.0),
        ("probegate_decisions_total{service=\"app\",decision=\"fail\"}", 0.0),
        ("probegate_decisions_total{service=\"\",decision=\"refuse\"}", 2.0),
        ("probegate_refusals_total{service=\"app\",reason=\"outside_network\"}", 4.0),
        ("probegate_refusals_total{service=\"\",reason=\"host_unknown\"}", 1.0),
        ("probegate_probe_requests_total{service=\"app\",probe=\"healthz\"}", 2.0),
        ("probegate_probe_requests_total{service=\"app\",probe=\"readyz\"}", 6.0),
        ("probegate_probe_requests_total{service=\"app\",probe=\"version\"}", 0.0),
        ("probegate_limited_total{limit=\"few\"}", 3.0),
        ("probegate_request_duration_seconds_count{service=\"app\"}", 28.0),
        ("probegate_request_duration_seconds_bucket{service=\"app\",le=\"+Inf\"}", 28.0),
        ("probegate_received_bytes_total{service=\"app\"}", app_bytes),
        ("probegate_connections_accepted_total", 3.0),
        ("probegate_reloads_total", 0.0),
        ("probegate_ready", 1.0),
    ] {
        wait_for_metric(&gateway, name, count);
    }
    drop(client);
    eventually("no connection is left", || (metrics(&gateway)["probegate_connections"] < 0.5).then_some(()));
}

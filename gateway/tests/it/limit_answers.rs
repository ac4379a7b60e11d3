//! What clients are told about their limits.

use std::process::Command;

use crate::harness::{Config, Gateway, Redis, Unreachable, Upstream, exchange, get, ok, probegate, run};

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

#[test]
fn answers_that_pass_say_what_is_left_where_it_is_asked_for() {
    let app = app();
    let limits =
        "limits:\n  wide: {rate: 100/h, headers: always}\n  tight: {rate: 3/h, headers: always, legacy_headers: true}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [wide, tight]"));
    let names = ["ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining"];
    for left in ["2", "1", "0"] {
        let answer = get(gateway.address(), "/");
        let told = names.map(|name| answer.field(name).unwrap());
        assert_eq!(
            (answer.status, told.map(|text| text)),
            (200, ["\"tight\";q=3;w=3600", "3", left].map(str::to_owned))
        );
        assert!(answer.field("ratelimit").unwrap().starts_with(&format!("\"tight\";r={left};t=")));
        assert_eq!(answer.field("retry-after"), None);
        let reset: u64 = answer.field("x-ratelimit-reset").unwrap().parse().unwrap();
        let earned = 1200 * (3 - left.parse::<u64>().unwrap());
        assert!((earned - 60..=earned).contains(&reset), "{reset}");
    }
    let refused = get(gateway.address(), "/");
    assert_eq!(refused.status, 429);
    for name in [
        "ratelimit",
        "ratelimit-policy",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "retry-after",
    ] {
        assert_eq!(refused.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count(), 1, "{name}");
    }
}

/// What one limit tells, it tells whatever others have left that tell nothing: the gateway's own ones, and those in the store.
#[test]
fn a_tighter_limit_that_tells_nothing_silences_none() {
    let app = app();
    let redis = Redis::start();
    let limits = "limits:\n  wide: {rate: 100/h, headers: always}\n  all: {rate: 50/h, headers: always, shared: true}\n  \
                  tight: {rate: 3/h}\n  fleet: {rate: 4/h, shared: true}";
    let store = format!("limit_store: {{redis: \"{}\", replicas: 2, timeout: 900ms}}", redis.url());
    let service = "limits: [wide, tight, fleet]\nroutes: [{path: /all, limits: [all]}]";
    let gateway = Gateway::start(Config::before(&app).top(limits).top(&store).service(service));
    for (path, told) in [("/", "\"wide\";r=99;t="), ("/all", "\"all\";r=49;t=")] {
        let answer = get(gateway.address(), path);
        let state = answer.field("ratelimit").unwrap();
        assert!(answer.status == 200 && state.starts_with(told), "{state}");
    }
    assert_eq!(get(gateway.address(), "/").status, 200);
    assert_eq!(get(gateway.address(), "/").json()["violated-policies"], serde_json::json!(["tight"]));
}

#[test]
fn only_the_refused_are_told_or_nobody() {
    let app = app();
    let limits = "limits: {refused: {rate: 1/h, burst: 0}, silent: {rate: 1/h, burst: 0, headers: never}}";
    let service = "routes: [{path: /r, limits: [refused]}, {path: /s, limits: [silent]}]";
    let gateway = Gateway::start(Config::before(&app).top(limits).service(service));
    for (path, told) in [("/r", true), ("/s", false)] {
        let passed = get(gateway.address(), path);
        assert_eq!((passed.status, passed.field("ratelimit")), (200, None));
        let refused = get(gateway.address(), path);
        assert_eq!(
            (refused.status, refused.field("ratelimit").is_some(), refused.field("ratelimit-policy").is_some()),
            (429, told, told)
        );
        assert!(refused.field("retry-after").is_some(), "when to come back is always told");
        assert_eq!(refused.field("x-ratelimit-limit"), None);
    }
}

/// What all clients use up together is nobody's doing: the server is the reason.
#[test]
fn a_limit_that_all_clients_share_blames_none_of_them() {
    let app = app();
    let redis = Redis::start();
    let limits = "limits:\n  own: {rate: 1/h, burst: 0}\n  all: {rate: 1/h, burst: 0, key: service}\n  \
                  fleet: {rate: 2/h, burst: 1, key: [route, path], shared: true}";
    let service = "routes: [{path: /own, limits: [own]}, {path: /all, limits: [all]}, {path: /fleet, limits: [fleet]}]";
    let store = format!("limit_store: {{redis: \"{}\", replicas: 2, timeout: 900ms}}", redis.url());
    let mut gateways: Vec<Gateway> = vec![];
    let gone = Unreachable::refusing();
    for store in [store, format!("limit_store: {{redis: \"redis://{}\", replicas: 2}}", gone.server())] {
        gateways.push(Gateway::start(Config::before(&app).top(limits).top(&store).service(service)));
    }
    for gateway in &gateways {
        for (path, limit, status, reason, kind) in [
            ("/own", "own", 429, "limit_exceeded", "quota-exceeded"),
            ("/all", "all", 503, "capacity_exceeded", "temporary-reduced-capacity"),
            // By the store, and by the gateway alone.
            ("/fleet", "fleet", 503, "capacity_exceeded", "temporary-reduced-capacity"),
        ] {
            let refused = std::iter::repeat_with(|| get(gateway.address(), path)).find(|answer| answer.status != 200);
            let refused = refused.unwrap();
            assert_eq!(refused.status, status, "{path}");
            let told = refused.json();
            assert!(told["type"].as_str().unwrap().ends_with(kind), "{told}");
            assert_eq!(told["violated-policies"], serde_json::json!([limit]));
            assert!(refused.field("ratelimit").unwrap().starts_with(&format!("\"{limit}\";r=0;t=")));
            let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
            assert!((1700..=7200).contains(&after), "{path} {after}");
            let line = gateway.wait_for_log(|line| line["target"] == path && line["status"] == status);
            assert_eq!((line["decision"].as_str(), line["reason"].as_str()), (Some("limit"), Some(reason)));
        }
    }
}

/// Whoever comes back when told is let in.
#[test]
fn retry_after_is_never_too_early() {
    let app = app();
    let limits = "limits: {exact: {rate: 1/s, burst: 0}, window: {rate: 1/s, algorithm: fixed_window}}";
    let service = "routes: [{path: /exact, limits: [exact]}, {path: /window, limits: [window]}]";
    let gateway = Gateway::start(Config::before(&app).top(limits).service(service));
    for path in ["/exact", "/window"] {
        for _ in 0..2 {
            // As many as it takes until one is refused.
            let refused =
                std::iter::repeat_with(|| get(gateway.address(), path)).find(|answer| answer.status == 429).unwrap();
            let after = refused.field("retry-after").unwrap().parse().unwrap();
            std::thread::sleep(std::time::Duration::from_secs(after));
            assert_eq!(get(gateway.address(), path).status, 200, "{path}");
        }
    }
}

/// A client can not save up what it has earned while it was sending the head of its request.
#[test]
fn a_request_is_counted_when_its_head_is_complete() {
    let app = app();
    let gateway = Gateway::start(
        Config::before(&app).top("limits: {one: {rate: 15/m, burst: 0, headers: always}}").service("limits: [one]"),
    );
    let mut slow = crate::harness::Client::connect(gateway.address());
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow:");
    std::thread::sleep(std::time::Duration::from_millis(4300));
    slow.send(" yes\r\n\r\n");
    assert_eq!(slow.response().status, 200);
    // Counted at its first byte, it would have been forgotten by now.
    let next = exchange(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = gateway.wait_for_log(|line| line["duration_ms"].as_f64().is_some_and(|took| took > 4200.0));
    assert_eq!(line["status"], 200);
    assert_eq!(next.status, 429);
}

#[test]
fn explain_tells_how_a_limit_counts() {
    let app = app();
    let limits = "limits:\n  a: {rate: 5/m, key: [client_ip, {header: X-Tenant}], mode: shadow}\n  b: {rate: 10/s, burst: 20, delay: 5}\n  \
                  c: {rate: 5/h, algorithm: fixed_window, count: {status: [401, 403]}}\n  d: {rate: 1/s, methods: UNSAFE}";
    let config = Config::before(&app).top(limits).service("limits: [a, b, c, d]");
    let folder = crate::harness::Folder::new();
    let path = folder.write("probegate.yaml", config.to_string());
    let mut command: Command = probegate(["explain", "-c"]);
    let ended = run(command.arg(path).args(["GET", "/"]));
    for text in [
        "by client_ip, header x-tenant (/32, /64): 5/m, burst 4; in shadow mode: it refuses nobody",
        "by client_ip (/32, /64): 10/s, burst 20, delay 5; a new client has 20 left after it",
        "by client_ip (/32, /64): 5/h in fixed windows, if it is answered 401 or 403; a new client has 4 left after it",
    ] {
        assert!(ended.out.contains(text), "{text}\n{ended:?}");
    }
    assert!(!ended.out.contains("`d`"), "GET is not counted by it: {ended:?}");
}

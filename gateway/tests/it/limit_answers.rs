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

/// Whoever comes back when told is let in: after a time rounded down, or that of one limit where another one refuses for longer, he would be refused again.
#[test]
fn retry_after_is_never_too_early() {
    let (app, redis) = (crate::limit_counts::login(), Redis::start());
    let limits = "limits:\n  exact: {rate: 3/5s, burst: 1}\n  window: {rate: 2/3s, algorithm: fixed_window}\n  \
                  failures: {rate: 3/5s, burst: 1, count: {status: [401]}}\n  \
                  fleet: {rate: 3/5s, burst: 1, shared: true}\n  fleets_window: {rate: 2/3s, algorithm: fixed_window, shared: true}\n  \
                  fleets_failures: {rate: 3/5s, burst: 1, count: {status: [401]}, shared: true}\n  \
                  quick: {rate: 1/2s, burst: 0}\n  slow: {rate: 2/5s, burst: 0}\n  fleets_slow: {rate: 2/5s, burst: 0, shared: true}";
    let store = format!("limit_store: {{redis: \"{}\", replicas: 2, timeout: 900ms}}", redis.url());
    let paths = [
        "exact",
        "window",
        "failures",
        "fleet",
        "fleets_window",
        "fleets_failures",
        "quick,slow",
        "slow,quick",
        "quick,fleets_slow",
        "fleets_slow,quick",
    ];
    let routes = paths.iter().enumerate().map(|(number, limits)| {
        // Each path is a client of its own.
        format!("  - {{path: /{number}, limits: [{limits}]}}\n")
    });
    let service = format!("routes:\n{}", routes.collect::<String>());
    let gateway = Gateway::start(Config::before(&app).top(limits).top(&store).service(&service));
    // With a time: not for requests under way that have not been charged yet.
    let is_sure = |answer: &crate::harness::Response| {
        answer.status == 429 && answer.field("ratelimit").is_some_and(|told| told.contains(";t="))
    };
    std::thread::scope(|scope| {
        for (number, limits) in paths.iter().enumerate() {
            let gateway = &gateway;
            let client = [127, 0, 0, 10 + u8::try_from(number).unwrap()];
            let ask = move || crate::limit_counts::get_from(client, gateway, &format!("/{number}"));
            scope.spawn(move || {
                for _ in 0..2 {
                    // As many as it takes until one is refused.
                    let refused = std::iter::repeat_with(ask).find(is_sure).unwrap();
                    let after = refused.field("retry-after").unwrap().parse().unwrap();
                    // What is told is what is tried.
                    std::thread::sleep(std::time::Duration::from_secs(after));
                    assert_ne!(ask().status, 429, "{limits}: {after}");
                }
            });
        }
    });
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
    // How long the head takes is what is tried.
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
                  c: {rate: 5/h, algorithm: fixed_window, count: {status: [401, 403]}, ipv4_prefix: 24}\n  d: {rate: 1/s, methods: UNSAFE}\n  \
                  e: {rate: 2/h, key: service}\n  f: {max_in_flight: 2, key: {header: X-Tenant}, mode: shadow}";
    let config = Config::before(&app)
        .top(limits)
        .top("client_ip: {trusted_proxies: [192.0.2.1]}")
        .service("limits: [a, b, c, d, e, f]");
    let folder = crate::harness::Folder::new();
    let path = folder.write("probegate.yaml", config.to_string());
    let explain = |arguments: &[&str]| {
        let mut command: Command = probegate(["explain", "-c"]);
        run(command.arg(&path).args(arguments).args(["GET", "/"])).out
    };
    let told = explain(&["--from", "203.0.113.9"]);
    for text in [
        "by client_ip, header x-tenant (/32, /64), as `203.0.113.9, no header x-tenant: 203.0.113.9`: 5/m, burst 4; in shadow mode: it refuses nobody\n",
        "by client_ip (/32, /64), as `203.0.113.9`: 10/s, burst 20, delay 5; a new client has 20 left after it; beyond that, 429 (limit_exceeded)\n",
        "by client_ip (/24, /64), as `203.0.113.0/24`: 5/h in fixed windows, if it is answered 401 or 403; a new client has 4 left after it; beyond that, 429 ",
        "by service, as `service app`: 2/h, burst 1; the first request leaves 1 for all clients together; beyond that, 503 (capacity_exceeded)\n",
        "by header x-tenant, as `no header x-tenant: 203.0.113.9` while it is in flight: 2 at a time; in shadow mode",
    ] {
        assert!(told.contains(text), "{text}\n{told}");
    }
    assert!(!told.contains("`d`"), "GET is not counted by it: {told}");
    let told = explain(&["--from", "192.0.2.1", "-H", "X-Forwarded-For: junk", "-H", "X-Tenant: acme"]);
    for text in ["as `unknown behind 192.0.2.1, header x-tenant acme`: 5/m", "as `header x-tenant acme` while"] {
        assert!(told.contains(text), "{text}\n{told}");
    }
}

//! Limits where little else looks: methods, requests without a host, full tables, HTTP/2, and what people see of every kind of limit.

use std::process::Command;

use crate::harness::{
    Client, Config, Gateway, Redis, Response, Upstream, eventually, exchange, gated, get, ok, probegate, run,
    wait_for_metric,
};
use crate::http2::with_http2;
use crate::limit_counts::{calm, get_from, guess, login};
use crate::limit_hot::seen;

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

fn ask(gateway: &Gateway, request: &str) -> Response {
    exchange(gateway.address(), format!("{request}\r\nContent-Length: 0\r\n\r\n"))
}

#[test]
fn unsafe_methods_are_those_that_change_something() {
    let app = app();
    let config = Config::before(&app).top("limits: {few: {rate: 2/d, methods: UNSAFE}}").service("limits: [few]");
    let gateway = Gateway::start(config);
    let status = |method: &str| ask(&gateway, &format!("{method} / HTTP/1.1\r\nHost: a")).status;
    assert_eq!(["GET", "OPTIONS", "DELETE", "GET", "PATCH"].map(status), [200; 5]);
    assert_eq!(["DELETE", "PATCH", "POST", "PUT"].map(status), [429; 4]);
    assert_eq!(["GET", "OPTIONS", "PROPFIND"].map(status), [200; 3]);
}

/// Nobody shares a bucket with strangers because both name no host.
#[test]
fn who_names_no_host_counts_as_a_client() {
    let app = app();
    let config = Config::before(&app).top("limits: {one: {rate: 1/d, burst: 0, key: host}}").service("limits: [one]");
    let gateway = Gateway::start(config);
    let ask = |source: u8, host: &str| {
        let mut client = Client::connect_from([127, 0, 0, source], gateway.address());
        client.send(format!("GET / HTTP/1.0\r\n{host}\r\n"));
        client.response().status
    };
    for source in [1, 2] {
        assert_eq!([ask(source, ""), ask(source, "")], [200, 503], "{source}");
    }
    assert_eq!([ask(1, "Host: a\r\n"), ask(2, "Host: A\r\n")], [200, 503]);
}

/// The smallest tables have seven places.
#[test]
fn whoever_a_table_has_no_place_for_is_let_in_and_counted() {
    let (gate, app) = gated("/held", "answered");
    let limits = "limits: {few: {rate: 1/d, burst: 0, max_keys: 1}, busy: {max_in_flight: 1, max_keys: 1}}";
    let service = "routes: [{path: /few, limits: [few]}, {path: /held, limits: [busy]}]";
    let gateway = Gateway::start(Config::before(&app).top(limits).service(service));
    for source in 1..=9 {
        assert_eq!(
            get_from([127, 0, 0, source], &gateway, "/few").status,
            200,
            "{source}: nobody is refused for others"
        );
    }
    wait_for_metric(&gateway, "probegate_limit_evictions_total{limit=\"few\"}", 2.0);
    assert_eq!(get_from([127, 0, 0, 9], &gateway, "/few").status, 429, "the last one is there");

    let mut held: Vec<_> = (1..=9).map(|last| Client::connect_from([127, 0, 0, last], gateway.address())).collect();
    for client in &mut held {
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    wait_for_metric(&gateway, "probegate_limit_uncounted_total{limit=\"busy\"}", 2.0);
    wait_for_metric(&gateway, "probegate_limit_in_flight{limit=\"busy\"}", 7.0);
    gate.open();
    assert!(held.iter_mut().all(|client| client.response().status == 200));
    wait_for_metric(&gateway, "probegate_limit_in_flight{limit=\"busy\"}", 0.0);
}

#[test]
fn http_2_is_told_the_same_and_what_the_app_says_stays_beside() {
    let app =
        Upstream::answering(|_| b"HTTP/1.1 200 OK\r\nRateLimit: \"app\";r=7;t=1\r\nContent-Length: 0\r\n\r\n".to_vec());
    let limits = "limits: {one: {rate: 2/d, headers: always, legacy_headers: true}}";
    let gateway = Gateway::start(with_http2(&Config::before(&app).top(limits).service("limits: [one]")));
    let told = || {
        let url = format!("http://{}/", gateway.address());
        let ended = run(Command::new("curl").args(["-sSi", "--http2-prior-knowledge", "--noproxy", "*", &url]));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        ended.out
    };
    let passed = told();
    let fields = |text: &str, name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert!(passed.starts_with("HTTP/2 200") && passed.contains("ratelimit: \"app\";r=7;t=1"), "{passed}");
    assert!(passed.contains("ratelimit: \"one\";r=1;t=") && fields(&passed, "ratelimit: ") == 2, "{passed}");
    assert_eq!(
        get(gateway.address(), "/").fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("ratelimit")).count(),
        2
    );
    let refused = told();
    assert!(refused.starts_with("HTTP/2 429"), "{refused}");
    for field in [
        "retry-after: ",
        "ratelimit-policy: \"one\";q=2;w=86400",
        "ratelimit: \"one\";r=0;t=",
        "x-ratelimit-remaining: 0",
    ] {
        assert_eq!(fields(&refused, field), 1, "{field} {refused}");
    }
}

/// Requests that the limit was asked about, those that were near, and those that were over.
fn counts(gateway: &Gateway, limit: &str) -> [u64; 3] {
    let seen = seen(gateway, limit);
    ["requests", "near", "over"].map(|what| seen[what].as_u64().unwrap())
}

#[test]
fn every_kind_of_limit_is_told_of() {
    let (app, redis) = (login(), Redis::start());
    let limits = "limits:\n  window: {rate: 5/d, algorithm: fixed_window}\n  login: {rate: 5/d, count: {status: [401]}}\n  \
                  fleet: {rate: 5/d, shared: true}\n  watched: {rate: 5/d, shared: true, mode: shadow}\n  \
                  half: {rate: 1/d, burst: 0, enforce: 50%, key: {header: X-Tenant}}";
    let store = format!("limit_store: {{redis: \"{}\", replicas: 2, timeout: 900ms}}", redis.url());
    let service = "routes:\n  - {path: /window, limits: [window]}\n  - {path: /login, limits: [login]}\n  \
                   - {path: /fleet, limits: [fleet]}\n  - {path: /watched, limits: [watched]}\n  - {path: /half, limits: [half]}";
    let gateway = Gateway::start(Config::before(&app).top(limits).top(&store).service(service));
    let (client, _) = calm();
    for path in ["/window", "/fleet", "/watched"] {
        for _ in 0..7 {
            get_from(client, &gateway, path);
        }
        // The fifth has nothing left.
        assert_eq!(counts(&gateway, &path[1..]), [7, 1, 2], "{path}");
    }
    for failures in 1..=7 {
        let status = guess(&gateway, "wrong");
        assert_eq!(status, if failures <= 5 { 401 } else { 429 });
        // Charged a moment after its answer.
        eventually("it is logged", || {
            (gateway.access_log().iter().filter(|line| line["target"] == "/login?wrong").count() == failures)
                .then_some(())
        });
    }
    assert_eq!(counts(&gateway, "login"), [7, 1, 2]);

    let lines = gateway.access_log();
    let shadows = lines.iter().filter(|line| line["target"] == "/watched" && line["shadow"] == "watched");
    assert_eq!(shadows.count(), 2, "nobody is refused, and it is told who would have been");
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"watched\"}", 2.0);
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"watched\"}", 0.0);

    let tenants: Vec<u16> = (0..40)
        .flat_map(|tenant| [tenant, tenant])
        .map(|tenant| ask(&gateway, &format!("GET /half HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}")).status)
        .collect();
    let refused = tenants.iter().filter(|status| **status == 429).count();
    assert!((1..40).contains(&refused), "{refused} of 40");
    let count = |count: usize| f64::from(u32::try_from(count).unwrap());
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"half\"}", count(refused));
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"half\"}", count(40 - refused));
    let mut top = probegate(["top", "limits", "--once", "half"]);
    let top = run(top.arg("--admin").arg(gateway.admin().to_string()).env_remove("PROBEGATE_ADMIN_TOKEN"));
    let line =
        format!("\n  enforced for 50 % of the keys: refused {refused}, would have refused {} more\n", 40 - refused);
    assert!(top.out.contains(&line), "{line} {}", top.out);
    assert_eq!(counts(&gateway, "half"), [80, 0, 40]);
}

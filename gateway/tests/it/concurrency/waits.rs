//! What becomes of a request's other limits while it waits for a place, and what people see of it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{app, ask, in_flight, limited, waiting};
use crate::harness::{Config, Gateway, Redis, eventually, get, metric};
use crate::limit_hot::seen;

#[test]
fn whom_a_limit_refuses_after_a_wait_is_not_counted_by_its_answer() {
    let (app, released) = app();
    let limits = "limits:\n  refused: {rate: 2/d, count: {status: [429]}}\n  exports: {max_in_flight: 1, queue: 1, queue_timeout: 30ms}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [refused, exports]"));
    // Two may be under way that would both be charged: it and one more.
    let mut holds = ask(&gateway, "/hold");
    in_flight(&gateway, 1.0);
    for _ in 0..6 {
        let response = get(gateway.address(), "/waits");
        assert_eq!((response.status, response.json()["violated-policies"][0].as_str()), (429, Some("exports")));
    }
    released.release("/hold");
    assert_eq!(holds.response().status, 200);
    in_flight(&gateway, 0.0);
    assert_eq!(get(gateway.address(), "/after").status, 200);
    assert!(metric(&gateway, "probegate_limited_total{limit=\"refused\"}") < 0.5);
}

#[test]
fn who_waited_for_a_place_is_spaced_from_when_the_store_was_asked() {
    let redis = Redis::start();
    let (app, released) = app();
    let limits = "limits:\n  spaced: {rate: 2/s, burst: 9, delay: all, shared: true}\n  exports: {max_in_flight: 2, queue: 2, queue_timeout: 30s}";
    let store = format!("limit_store: {{redis: \"{}\", replicas: 1, timeout: 900ms}}", redis.url());
    let gateway = Gateway::start(Config::before(&app).top(limits).top(&store).service("limits: [spaced, exports]"));
    let first = [ask(&gateway, "/hold/1"), ask(&gateway, "/hold/2")];
    // The second was delayed first, and gave its place up meanwhile.
    eventually("both are at the app", || {
        let targets = app.targets();
        ["/hold/1", "/hold/2"].iter().all(|target| targets.contains(&(*target).to_owned())).then_some(())
    });
    let began = Instant::now();
    let second = [ask(&gateway, "/3"), ask(&gateway, "/4")];
    waiting(&gateway, 2.0);
    // Until those before owe nothing any more: each costs half a second. The time is what is tried.
    while began.elapsed() < Duration::from_millis(1200) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let released_at = Instant::now();
    for target in ["/hold/1", "/hold/2"] {
        released.release(target);
    }
    for mut client in first.into_iter().chain(second) {
        assert_eq!(client.response().status, 200);
    }
    assert!(released_at.elapsed() >= Duration::from_millis(450), "{:?}", released_at.elapsed());
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 3.5);
}

/// It came while its key had nothing left, and got its place when the rate had let one more through.
#[test]
fn who_waited_for_a_place_is_judged_when_he_has_it_and_not_when_he_came() {
    let (app, released) = app();
    let limits = "limits:\n  slow: {rate: 30/m, burst: 0, shared: true}\n  exports: {max_in_flight: 1, queue: 1, queue_timeout: 30s}";
    // Nobody is there: the gateway counts alone.
    let store = format!("limit_store: {{redis: \"redis://{}\", replicas: 1}}", crate::harness::free_address());
    let gateway = Gateway::start(Config::before(&app).top(limits).top(&store).service("limits: [slow, exports]"));
    let mut first = ask(&gateway, "/hold");
    app.wait_for_requests(1);
    let began = Instant::now();
    let mut second = ask(&gateway, "/waits");
    waiting(&gateway, 1.0);
    // Until the rate lets the next one through: the time is what is tried.
    while began.elapsed() < Duration::from_millis(2050) {
        std::thread::sleep(Duration::from_millis(20));
    }
    released.release("/hold");
    assert_eq!([first.response().status, second.response().status], [200, 200]);
}

/// Requests that were asked about, near and over, and who was.
fn counts(gateway: &Gateway) -> ([u64; 3], serde_json::Value) {
    let seen = seen(gateway, "exports");
    let counts = ["requests", "near", "over"].map(|what| seen[what].as_u64().unwrap());
    (counts, seen["hot"]["keys"][0]["shown"].clone())
}

#[test]
fn whoever_waits_is_near_and_whoever_is_refused_is_over_at_once_or_in_vain() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 1, queue_timeout: 30s, show_keys: true}"));
    let mut first = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    assert_eq!(counts(&gateway).0, [1, 0, 0]);
    let mut second = ask(&gateway, "/second");
    waiting(&gateway, 1.0);
    assert_eq!(get(gateway.address(), "/third").status, 429);
    released.release("/hold/1");
    assert_eq!([first.response().status, second.response().status], [200, 200]);
    assert_eq!(counts(&gateway), ([3, 1, 1], json!("127.0.0.1")));
    assert!((metric(&gateway, "probegate_limited_total{limit=\"exports\"}") - 1.0).abs() < 0.5);

    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 1, queue_timeout: 30ms}"));
    let mut first = ask(&gateway, "/hold/2");
    in_flight(&gateway, 1.0);
    assert_eq!([(); 2].map(|()| get(gateway.address(), "/late").status), [429; 2]);
    released.release("/hold/2");
    assert_eq!(first.response().status, 200);
    assert_eq!(counts(&gateway).0, [3, 0, 2]);
}

/// It asks for its place when the rate has let it through.
#[test]
fn whom_a_rate_delays_first_is_seen_as_well() {
    let (app, released) = app();
    let limits = "limits:\n  spaced: {rate: 1/s, burst: 9, delay: all}\n  exports: {max_in_flight: 1, show_keys: true}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [spaced, exports]"));
    let mut first = ask(&gateway, "/hold");
    app.wait_for_requests(1);
    // Delayed, unless this runs so slowly that it came a second later.
    assert_eq!(get(gateway.address(), "/second").status, 429);
    assert_eq!(counts(&gateway), ([2, 0, 1], json!("127.0.0.1")));
    released.release("/hold");
    assert_eq!(first.response().status, 200);
}

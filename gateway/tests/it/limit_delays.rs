//! Limits that have requests wait: how long, for whom, and what ends a wait early.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Client, Config, Gateway, Upstream, eventually, exchange, get, metric, ok, run, wait_for_metric};
use crate::http2::with_http2;

const REQUEST: &str = "GET /queued HTTP/1.1\r\nHost: a\r\n\r\n";

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

/// A gateway with this limit on everything.
fn limited(app: &Upstream, limit: &str) -> Config {
    Config::before(app).top(&format!("limits: {{queue: {limit}}}")).service("limits: [queue]")
}

/// Sends so many requests at once, each on a connection of its own.
fn at_once(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(gateway.address())).collect();
    for client in &mut clients {
        client.send(REQUEST);
    }
    clients.iter_mut().map(|client| client.response().status).collect()
}

/// What the log says about the delays of so many requests, in order.
fn delays(gateway: &Gateway, count: usize) -> Vec<f64> {
    let lines = eventually("everything is logged", || {
        let lines: Vec<Value> = gateway.access_log();
        (lines.len() >= count).then_some(lines)
    });
    let mut delays: Vec<f64> = lines
        .iter()
        .filter_map(|line| {
            let delayed = line.get("delayed_ms")?.as_f64().unwrap();
            assert!(line["duration_ms"].as_f64().unwrap() >= delayed, "{line}");
            Some(delayed)
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    delays
}

/// Whether delays are these, less what had passed since the first of the requests: at most `slack` milliseconds.
fn near(delays: &[f64], expected: &[f64], slack: f64) -> bool {
    let near = |(delay, expected): (&f64, &f64)| (expected - slack..=*expected).contains(delay);
    delays.len() == expected.len() && delays.iter().zip(expected).all(near)
}

#[test]
fn the_burst_is_spaced_as_the_rate_would_have_it() {
    let app = app();
    let gateway = Gateway::start(limited(&app, "{rate: 30/m, burst: 3, delay: all}"));
    let begun = Instant::now();
    let mut statuses = at_once(&gateway, 6);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    let delays = delays(&gateway, 6);
    // The gateway may come to look at them a little later than they were sent.
    assert!(near(&delays, &[2000.0, 4000.0, 6000.0], 1950.0), "{delays:?}");
    assert!(delays[1] - delays[0] <= 2000.0 && delays[2] - delays[1] <= 2000.0, "{delays:?}");
    assert!(begun.elapsed().as_millis() >= 5900);
    wait_for_metric(&gateway, "probegate_limit_delayed_total{limit=\"queue\"}", 3.0);
    wait_for_metric(&gateway, "probegate_limit_waiting{limit=\"queue\"}", 0.0);
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"queue\"}", 2.0);
}

#[test]
fn a_number_of_requests_may_go_at_once_before_others_wait() {
    let app = app();
    let gateway = Gateway::start(limited(&app, "{rate: 20/m, burst: 2, delay: 1}"));
    let mut statuses = at_once(&gateway, 4);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let delays = delays(&gateway, 4);
    assert!(near(&delays, &[3000.0], 2950.0), "{delays:?}");
}

#[test]
fn without_delay_nobody_waits_and_the_largest_of_several_delays_wins() {
    let app = app();
    let gateway = Gateway::start(limited(&app, "{rate: 1/d, burst: 2}"));
    assert_eq!(at_once(&gateway, 3).iter().filter(|status| **status == 200).count(), 3);
    assert_eq!(delays(&gateway, 3), [0.0; 0]);

    let limits = "limits:\n  quick: {rate: 20/s, burst: 5, delay: all}\n  slow: {rate: 20/m, burst: 5, delay: all}";
    let config = Config::before(&app).top(limits).service("limits: [slow, quick]");
    let gateway = Gateway::start(config);
    assert_eq!(at_once(&gateway, 2), [200, 200]);
    let delays = delays(&gateway, 2);
    assert!(near(&delays, &[3000.0], 2900.0), "{delays:?}");
    wait_for_metric(&gateway, "probegate_limit_delayed_total{limit=\"slow\"}", 1.0);
    assert!(metric(&gateway, "probegate_limit_delayed_total{limit=\"quick\"}") < 0.5);
}

#[test]
fn a_client_that_leaves_waits_no_longer() {
    let app = app();
    let gateway = Gateway::start(limited(&app, "{rate: 1/h, burst: 1, delay: all}"));
    assert_eq!(get(gateway.address(), "/first").status, 200);
    let mut client = Client::connect(gateway.address());
    client.send(REQUEST);
    wait_for_metric(&gateway, "probegate_limit_waiting{limit=\"queue\"}", 1.0);
    drop(client);
    wait_for_metric(&gateway, "probegate_limit_waiting{limit=\"queue\"}", 0.0);
    let line = gateway.access("/queued");
    assert_eq!(
        (&line["status"], &line["reason"], &line["decision"]),
        (&json!(499), &json!("client_closed"), &json!("fail"))
    );
    assert!(line["delayed_ms"].as_f64().unwrap() < 60_000.0, "{line}");
    assert_eq!(app.targets(), ["/first"], "the app never hears of it");
}

#[test]
fn a_refused_request_waits_as_others_do() {
    let app = app();
    let config = Config::before(&app)
        .top("limits: {queue: {rate: 20/m, burst: 1, delay: all}}\nnetworks: {nobody: [192.0.2.0/24]}")
        .service("limits: [queue]\nroutes:\n  - {path: /shut, allow: {network: nobody}}");
    let gateway = Gateway::start(config);
    assert_eq!(get(gateway.address(), "/").status, 200);
    assert_eq!(get(gateway.address(), "/shut").status, 403);
    let line = gateway.access("/shut");
    assert_eq!((&line["decision"], &line["policy"]), (&json!("deny"), &json!("route:/shut")));
    assert!(line["delayed_ms"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn streams_of_one_connection_wait_each() {
    let app = app();
    let gateway = Gateway::start(with_http2(&limited(&app, "{rate: 40/m, burst: 3, delay: all}")));
    let url = format!("http://{}/queued", gateway.address());
    let ended = run(Command::new("nghttp").args(["-v", "-m", "4", &url]));
    assert_eq!(ended.out.matches(":status: 200").count(), 4, "{ended:?}");
    let delays = delays(&gateway, 4);
    assert!(near(&delays, &[1500.0, 3000.0, 4500.0], 1450.0), "{delays:?}");
}

#[test]
fn a_reload_and_the_end_of_the_process_lose_nobody_who_waits() {
    let app = app();
    let mut gateway = Gateway::start(limited(&app, "{rate: 12/m, burst: 1, delay: all}").top("shutdown: {drain: 60s}"));
    assert_eq!(get(gateway.address(), "/first").status, 200);
    let mut client = Client::connect(gateway.address());
    client.send(REQUEST);
    wait_for_metric(&gateway, "probegate_limit_waiting{limit=\"queue\"}", 1.0);
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    std::fs::write(gateway.config_path(), text.replace("limits: [queue]", "limits: []")).unwrap();
    gateway.signal("HUP");
    eventually("the limit is gone", || (get(gateway.address(), "/other").status == 200).then_some(()));
    gateway.signal("TERM");
    assert_eq!(client.response().status, 200);
    assert!(gateway.access("/queued")["delayed_ms"].as_f64().unwrap() > 500.0);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn who_would_wait_beyond_the_end_of_the_process_is_told_so() {
    let app = app();
    let config = limited(&app, "{rate: 1/h, burst: 1, delay: all}").top("shutdown: {drain: 300ms}");
    let mut gateway = Gateway::start(config);
    assert_eq!(exchange(gateway.address(), REQUEST).status, 200);
    let mut client = Client::connect(gateway.address());
    client.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_metric(&gateway, "probegate_limit_waiting{limit=\"queue\"}", 1.0);
    gateway.signal("TERM");
    assert_eq!(client.response().status, 503);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert_eq!(gateway.access("/late")["reason"], "shutting_down");
}

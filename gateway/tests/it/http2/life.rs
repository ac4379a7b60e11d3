//! How a connection ends: idle, old, used up, or because the gateway goes down.

use std::sync::Arc;

use super::raw::{GET, GOAWAY, HEADERS, PING, Raw, SOON, frame};
use super::with_http2;
use crate::harness::{Config, Gate, Gateway, Upstream, ok};

fn start(app: &Upstream, top: &str) -> Gateway {
    Gateway::start(with_http2(&Config::before(app).top(top)))
}

#[test]
fn an_idle_connection_is_told_to_go_whatever_it_pings() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = start(&app, &format!("timeouts: {{keep_alive: {}ms}}", SOON.as_millis()));
    let mut raw = Raw::connect(gateway.address());
    raw.ask(1, &GET);
    assert!(raw.find(|frame| frame.stream == 1).unwrap().is_ok());
    raw.send(&frame(PING, 0, 0, &[7; 8]));
    assert_eq!(raw.leave(), [0, 0], "gracefully, in two steps");
}

#[test]
fn a_client_that_does_not_answer_the_farewell_is_left() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = start(&app, &format!("timeouts: {{keep_alive: {}ms}}", SOON.as_millis()));
    let mut raw = Raw::connect(gateway.address());
    assert_eq!(raw.farewell(), Some(0));
    assert_eq!(raw.find(|_| false), None, "the end");
}

#[test]
fn a_connection_that_is_old_or_used_up_is_told_to_go_and_its_requests_are_answered() {
    let app = Upstream::answering(|_| ok(""));
    let old = start(&app, &format!("timeouts: {{connection: {}ms}}", SOON.as_millis()));
    let used = start(&app, "bounds: {requests_per_connection: 3}");
    for (gateway, asks) in [(&old, 1), (&used, 3)] {
        let mut raw = Raw::connect(gateway.address());
        for number in 0..asks {
            raw.ask(2 * number + 1, &GET);
        }
        let (mut answered, mut told) = (0, 0);
        while let Some(got) = raw.next() {
            answered += u32::from(got.is_ok());
            told += u32::from(got.kind == GOAWAY);
            if got.kind == PING && got.flags == 0 {
                raw.send(&frame(PING, 1, 0, &got.payload));
            }
        }
        assert_eq!((answered, told), (asks, 2));
    }
}

#[test]
fn when_the_gateway_goes_down_requests_in_flight_are_answered() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        theirs.wait();
        ok("whole")
    });
    let mut gateway = start(&app, "shutdown: {delay: 0s, drain: 10s}");
    let mut raw = Raw::connect(gateway.address());
    for stream in [1, 3, 5] {
        raw.ask(stream, &GET);
    }
    app.wait_for_requests(3);
    gateway.signal("TERM");
    assert_eq!(raw.farewell(), Some(0));
    gate.open();
    for _ in 0..3 {
        assert!(raw.find(|frame| frame.kind == HEADERS).unwrap().is_ok());
    }
    raw.leave();
    assert!(gateway.wait_exit().success());
    assert_eq!(gateway.access_log().iter().filter(|line| line["status"] == 200).count(), 3);
}

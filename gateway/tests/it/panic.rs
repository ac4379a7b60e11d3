//! A panic in a request ends that request and nothing else.

use std::sync::Arc;

use crate::harness::{Client, Config, Gate, Gateway, Upstream, eventually, get, get_admin, ok};

const PANIC: &str = "GET /.fault/panic HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_panic_is_500_with_a_line_in_the_log() {
    let app = Upstream::answering(|_| ok("alive"));
    let gateway = Gateway::with(Config::before(&app)).may_panic().start();
    // Where nothing has waited yet, and behind that.
    for path in ["/.fault/early", "/.fault/panic"] {
        let mut client = Client::connect(gateway.address());
        // What was pipelined behind it goes with it.
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\nGET /behind HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.closes()), (500, true));
        assert_eq!(response.field("content-type").as_deref(), Some("application/problem+json"));
        client.half_close();
        client.expect_closed();
        let line = gateway.access(path);
        assert_eq!(
            (&line["status"], &line["reason"], &line["decision"]),
            (&500.into(), &"panicked".into(), &"fail".into())
        );
        assert_eq!(line["request_id"], response.json()["request_id"]);
        assert_eq!(app.connections(), 0);
    }
    assert_eq!(get(gateway.address(), "/next").text(), "alive");
}

#[test]
fn requests_in_flight_on_the_same_worker_go_on() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/slow" {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
                theirs.wait();
                connection.write("later");
            } else {
                connection.write(ok("alive"));
            }
        }
    });
    let mut gateway = Gateway::with(Config::before(&app)).may_panic().start();
    let mut slow = Client::connect(gateway.address());
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    app.wait_for_requests(1);
    let mut idle = Client::connect(gateway.address());
    idle.send("GET /before HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().text(), "alive");
    for _ in 0..20 {
        let mut client = Client::connect(gateway.address());
        client.send(PANIC);
        assert_eq!(client.response().status, 500);
    }
    gate.open();
    assert_eq!(slow.response().text(), "firstlater");
    idle.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().text(), "alive");
    assert!(gateway.is_running());
    eventually("all lines of the log", || {
        let lines = gateway.access_log();
        (lines.iter().filter(|line| line["reason"] == "panicked").count() == 20).then_some(())
    });
    gateway.access("/after");
}

#[test]
fn what_a_panicked_request_held_is_given_back() {
    let app = Upstream::answering(|_| ok("alive"));
    let config = Config::before(&app).top("bounds: {connections: 2}");
    let gateway = Gateway::with(config).may_panic().start();
    for _ in 0..5 {
        let mut client = Client::connect(gateway.address());
        client.send(PANIC);
        assert_eq!(client.response().status, 500);
        client.half_close();
        client.expect_closed();
    }
    assert_eq!(get(gateway.address(), "/next").text(), "alive");
    let metrics = get_admin(gateway.admin(), "/metrics").text();
    assert!(metrics.lines().any(|line| line.contains("panicked") && line.ends_with(" 5")), "{metrics}");
}

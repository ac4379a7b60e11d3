//! Connections to apps: when a request may be sent again, and when it is taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Client, Config, Connection, Gate, Gateway, Unreachable, Upstream, eventually, exchange, get, ok};

/// Answers one request; the second one on the connection finds it closed.
fn closes_late(connection: &mut Connection) {
    if connection.number > 0 {
        return connection.serve(&|_| ok("second"));
    }
    connection.request();
    connection.write(ok("first"));
    connection.request();
}

#[test]
fn rfc_9112_9_3_1_get_on_a_connection_that_the_app_just_closed_is_sent_once_more() {
    let app = Upstream::scripted(closes_late);
    let gateway = Gateway::start(Config::before(&app));
    assert_eq!(get(gateway.address(), "/1").text(), "first");
    assert_eq!(get(gateway.address(), "/2").text(), "second");
    let requests = app.requests();
    assert_eq!(app.targets(), ["/1", "/2", "/2"]);
    assert_eq!(requests[1].head, requests[2].head, "with the same request id");
}

#[test]
fn rfc_9110_9_2_2_post_on_a_connection_that_the_app_just_closed_is_not_sent_again() {
    for request in [
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "POST /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PATCH /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "PURGE /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let app = Upstream::scripted(closes_late);
        let gateway = Gateway::start(Config::before(&app));
        assert_eq!(get(gateway.address(), "/1").text(), "first");
        let response = exchange(gateway.address(), request);
        assert_eq!(response.status, 502, "{request}");
        assert_eq!(app.targets(), ["/1", "/2"], "{request}");
        assert_eq!(gateway.access("/2")["reason"], "upstream_closed");
    }
}

#[test]
fn rfc_9110_9_2_2_post_of_which_the_app_has_taken_nothing_goes_out_on_a_new_connection() {
    for request in [
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "POST /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "PATCH /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        let over = Arc::new(Gate::default());
        let theirs = Arc::clone(&over);
        let app = Upstream::scripted_on_unix_socket(move |connection| {
            if connection.number > 0 {
                return connection.serve(&|request| ok(&format!("second {}", request.body.len())));
            }
            connection.request();
            connection.deafen();
            connection.write(ok("first"));
            theirs.wait();
        });
        let gateway = Gateway::start(Config::before(&app));
        assert_eq!(get(gateway.address(), "/1").text(), "first");
        let response = exchange(gateway.address(), request);
        over.open();
        let body = if request.contains("body") { 4 } else { 0 };
        assert_eq!((response.status, response.text()), (200, format!("second {body}")), "{request}");
        assert_eq!(app.targets(), ["/1", "/2"], "{request}");
    }
}

#[test]
fn rfc_9112_9_3_1_a_request_whose_answer_began_is_not_sent_again() {
    for begin in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"] {
        let app = Upstream::scripted(move |connection| {
            connection.request();
            connection.write(ok("first"));
            connection.request();
            connection.write(begin);
        });
        let gateway = Gateway::start(Config::before(&app));
        assert_eq!(get(gateway.address(), "/1").text(), "first");
        let mut client = Client::connect(gateway.address());
        client.send("GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.rest();
        gateway.access("/2");
        assert_eq!(app.targets(), ["/1", "/2"], "{begin:?}");
    }
}

#[test]
fn rfc_9112_9_3_1_a_new_connection_that_brings_no_answer_is_not_tried_again() {
    let app = Upstream::scripted(|connection| drop(connection.request()));
    let gateway = Gateway::start(Config::before(&app));
    assert_eq!(get(gateway.address(), "/").status, 502);
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn a_connection_that_the_app_closed_before_is_not_used() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(ok("once"));
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for count in 1..=5 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().text(), "once");
        eventually("the app has closed", || (app.open() == 0).then_some(()));
        assert_eq!(app.requests().len(), count);
    }
}

#[test]
fn the_next_server_is_asked_when_one_refuses() {
    let (app, dead) = (Upstream::answering(|_| ok("alive")), Unreachable::refusing());
    let gateway = Gateway::start(Config::servers([dead.server(), app.server()]));
    for _ in 0..4 {
        let response = exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(response.text(), "alive");
    }
    assert_eq!(app.requests().len(), 4);
}

#[test]
fn requests_go_to_all_servers_in_turn() {
    let (one, two) = (Upstream::answering(|_| ok("one")), Upstream::answering(|_| ok("two")));
    let config = Config::servers([one.server(), two.server()]).upstream("balance: round_robin");
    let gateway = Gateway::start(config);
    let mut client = Client::connect(gateway.address());
    for _ in 0..10 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response();
    }
    assert_eq!((one.requests().len(), two.requests().len()), (5, 5));
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[test]
fn a_client_that_goes_away_takes_its_request_back() {
    for request in [
        "GET /left HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\n\r\nbody",
    ] {
        let noticed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&noticed);
        let app = Upstream::scripted(move |connection| {
            connection.head();
            connection.wait_closed();
            flag.store(true, Ordering::SeqCst);
        });
        let gateway = Gateway::start(Config::before(&app).streaming());
        let mut client = Client::connect(gateway.address());
        client.send(request);
        app.wait_for_requests(1);
        drop(client);
        eventually("the app's connection is closed", || noticed.load(Ordering::SeqCst).then_some(()));
        let line = gateway.access("/left");
        assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client_closed".into()), "{request}");
    }
}

#[test]
fn a_client_that_goes_away_after_a_long_upload_takes_its_request_back() {
    let (gate, stored) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let (theirs, told) = (Arc::clone(&gate), Arc::clone(&stored));
    let app = Upstream::scripted(move |connection| {
        let Some(request) = connection.head() else { return };
        // The gateway can not get rid of the body for a while, so that it piles up on the client's side.
        theirs.wait();
        connection.body(request);
        told.open();
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).service("max_body: 16MiB"));
    let mut client = Client::connect(gateway.address());
    let body = vec![b'x'; 12 * 1024 * 1024];
    client.send(format!("POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let opener = std::thread::spawn(move || {
        app.wait_for_requests(1);
        gate.open();
        app
    });
    client.send(body);
    let app = opener.join().unwrap();
    stored.wait();
    client.reset();
    assert_eq!(gateway.access("/left")["status"], 499);
    eventually("the app's connection is closed", || (app.open() == 0).then_some(()));
}

#[test]
fn a_client_that_goes_away_in_an_answer_takes_its_request_back() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        while connection.write("5\r\nagain\r\n") {}
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.reset();
    assert_eq!(gateway.access("/left")["reason"], "client_closed");
    eventually("the app's connection is closed", || (app.open() == 0).then_some(()));
}

#[test]
fn rfc_9112_9_5_unused_connections_end_on_both_sides() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app).upstream("idle_timeout: 200ms").top("timeouts: {keep_alive: 200ms, head: 2s}"),
    );
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response();
    client.expect_closed();
    eventually("the app's connection is closed", || (app.open() == 0).then_some(()));
    // One that never sent anything, too, and without a word: nothing was asked.
    Client::connect(gateway.address()).expect_closed();
    get(gateway.address(), "/last");
    gateway.access("/last");
    assert_eq!(gateway.access_log().len(), 2);
}

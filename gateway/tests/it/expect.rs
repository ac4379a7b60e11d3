//! `Expect: 100-continue` (RFC 9110 §10.1.1).

use crate::harness::{Client, Config, Gateway, Upstream, exchange, ok};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn rfc_9110_10_1_1_the_app_is_asked_and_its_100_passed_on() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.head() {
            connection.write("HTTP/1.1 100 Continue\r\n\r\n");
            let Some(request) = connection.body(request) else {
                return;
            };
            connection.write(ok(&String::from_utf8_lossy(&request.body)));
        }
    });
    let gateway = Gateway::start(Config::before(&app).streaming());
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send(HEAD);
        assert_eq!(client.response().status, 100, "before a byte of the body was sent");
        client.send("body");
        assert_eq!(client.response().text(), "body");
    }
    assert_eq!(app.requests()[0].field("expect").as_deref(), Some("100-continue"));
    assert_eq!(app.connections(), 1);
}

#[test]
fn rfc_9110_10_1_1_an_app_that_refuses_at_once_is_heard_and_the_body_never_asked_for() {
    let app = Upstream::scripted(|connection| {
        connection.head();
        connection.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).streaming());
    let mut client = Client::connect(gateway.address());
    client.send(HEAD);
    let response = client.response();
    assert_eq!((response.status, &*response.text()), (403, "no"));
    assert!(response.closes(), "RFC 9112 §9.6: nobody knows whether the body will come, so the connection ends");
    client.half_close();
    client.expect_closed();
}

#[test]
fn rfc_9110_10_1_1_what_the_gateway_refuses_gets_no_100() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .service("max_body: 3\nroutes:\n  - {path: /no, allow: {network: nobody}}")
            .top("networks: {nobody: [\"192.0.2.1/32\"]}"),
    );
    for (target, status) in [("/", 413), ("/no", 403)] {
        let mut client = Client::connect(gateway.address());
        client.send(HEAD.replace("POST /", &format!("POST {target}")));
        let response = client.response();
        assert_eq!((response.status, response.closes()), (status, true), "{target}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn rfc_9110_10_1_1_unknown_expectations_are_417() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    for value in ["200-ok", "100-continue, other", "100-continuex", ""] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(exchange(gateway.address(), request).status, 417, "{value:?}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn rfc_9110_10_1_1_from_http_1_0_or_without_a_body_it_means_nothing() {
    let app = Upstream::answering(|request| {
        // An app that answers `100 Continue` to whoever it thinks expects it.
        let interim = if request.field("expect").is_some() { "HTTP/1.1 100 Continue\r\n\r\n" } else { "" };
        format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = Gateway::start(Config::before(&app));
    for request in
        [HEAD.replace("1.1", "1.0") + "body", HEAD.replace('4', "0"), HEAD.replace("Content-Length: 4\r\n", "")]
    {
        assert_eq!(exchange(gateway.address(), &request).status, 200, "{request}");
    }
    assert!(app.requests().iter().all(|request| request.field("expect").is_none()));
}

#[test]
fn rfc_9110_15_2_1_a_100_that_nobody_expects_is_not_passed_on() {
    let app = Upstream::answering(|_| "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::start(Config::before(&app));
    let response = exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(response.status, 200);
}

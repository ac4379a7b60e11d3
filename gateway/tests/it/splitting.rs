//! Answers that two parties could read differently, and bytes that no answer needs: nothing of them reaches another client.

use std::sync::Arc;

use crate::harness::{Client, Config, End, Gate, Gateway, Upstream, eventually, get, ok};

/// An app that sends `answer` to whoever asks for `/bad`, and a clean one to others.
fn evil(answer: &'static [u8]) -> Upstream {
    Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/bad" {
                connection.write(answer);
            } else {
                connection.write(ok("clean"));
            }
        }
    })
}

#[test]
fn rfc_9112_6_3_ambiguous_answers_are_502_and_their_connection_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: evil\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200\r\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let app = evil(answer);
        let gateway = Gateway::start(Config::before(&app));
        let shown = String::from_utf8_lossy(answer).into_owned();
        assert_eq!(get(gateway.address(), "/bad").status, 502, "{shown:?}");
        assert_eq!(get(gateway.address(), "/good").text(), "clean", "{shown:?}");
        assert_eq!(app.connections(), 2, "{shown:?}");
    }
}

#[test]
fn rfc_9112_7_1_broken_chunks_in_an_answer_leave_it_visibly_truncated() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5 \r\nagain\r\n0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0x5\r\nagain\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\nagain\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: a\nb\r\n\r\n",
    ] {
        let app = evil(answer);
        let gateway = Gateway::start(Config::before(&app));
        let shown = String::from_utf8_lossy(answer).into_owned();
        let mut client = Client::connect(gateway.address());
        client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
        let (response, end) = client.response_and_end();
        // Where everything came at once, nothing was passed on before it was seen to be broken.
        assert!(end != End::Whole || response.status == 502, "{shown:?}: {response:?}");
        assert_eq!(get(gateway.address(), "/good").text(), "clean", "{shown:?}");
        assert_eq!(app.connections(), 2, "{shown:?}");
        assert_eq!(gateway.access("/bad")["reason"], "upstream_invalid", "{shown:?}");
    }
}

#[test]
fn rfc_9112_11_1_bytes_behind_an_answer_reach_nobody() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let app = evil(answer);
        let gateway = Gateway::start(Config::before(&app));
        let shown = String::from_utf8_lossy(answer).into_owned();
        let mut client = Client::connect(gateway.address());
        client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(!client.response().body.windows(4).any(|part| part == b"evil"), "{shown:?}");
        client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "clean", "{shown:?}");
        assert_eq!(get(gateway.address(), "/good").text(), "clean", "{shown:?}");
        assert_eq!(app.connections(), 2, "{shown:?}");
    }
}

#[test]
fn rfc_9112_11_1_a_body_in_answer_to_head_reaches_nobody() {
    let app = evil(b"HTTP/1.1 200 OK\r\nContent-Length: 43\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("HEAD /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response_to_head();
    client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "clean");
    assert_eq!(app.connections(), 2);
}

#[test]
fn rfc_9112_11_1_bytes_that_nobody_asked_for_end_an_unused_connection() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        if connection.number > 0 {
            return connection.serve(&|_| ok("clean"));
        }
        connection.request();
        connection.write(ok("first"));
        theirs.wait();
        connection.write(ok("evil"));
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).upstream("idle_timeout: 60s"));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "first");
    gate.open();
    eventually("the gateway gives the connection up", || (app.open() == 0).then_some(()));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "clean");
}

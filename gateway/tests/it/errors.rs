//! The gateway's own answers: the status that RFC 9110 and nginx's users expect, in a form the client understands.

use crate::harness::{Client, Config, Gateway, Unreachable, Upstream, eventually, exchange, get, ok};

/// Sends `request` to a gateway that has to refuse it, and looks at the log.
fn refused(gateway: &Gateway, request: impl AsRef<[u8]>, status: u16, reason: &str) {
    let shown = String::from_utf8_lossy(request.as_ref()).chars().take(120).collect::<String>();
    let response = exchange(gateway.address(), request);
    assert_eq!(response.status, status, "{shown:?}");
    assert_eq!(response.field("content-type").as_deref(), Some("application/problem+json"), "{shown:?}");
    let problem = response.json();
    assert_eq!((&problem["status"], &problem["title"]), (&status.into(), &response.reason.into()), "{shown:?}");
    let line = gateway.wait_for_log(|line| line["request_id"] == problem["request_id"]);
    assert_eq!((&line["status"], &line["reason"]), (&status.into(), &reason.into()), "{shown:?}");
}

#[test]
fn rfc_9112_3_requests_that_are_none_are_400() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    for (request, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", "host_missing"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "host_invalid"),
        ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", "host_invalid"),
        ("GET /\r\n\r\n", "request_line_invalid"),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "request_line_invalid"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "request_line_invalid"),
        ("get\u{e9} / HTTP/1.1\r\nHost: a\r\n\r\n", "request_line_invalid"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "field_invalid"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "path_invalid"),
        ("GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", "path_invalid"),
        ("GET /../a HTTP/1.1\r\nHost: a\r\n\r\n", "path_invalid"),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "path_invalid"),
    ] {
        refused(&gateway, request, 400, reason);
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn other_protocols_are_told_at_once() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {head: 60s, keep_alive: 60s}"));
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".as_slice();
    for (bytes, status) in
        [(hello, 400), (preface, 505), (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", 400)]
    {
        let mut client = Client::connect(gateway.address());
        client.send(bytes);
        let response = client.response();
        assert_eq!((response.status, response.closes()), (status, true), "{bytes:?}");
    }
}

#[test]
fn rfc_9110_2_5_versions_beyond_http_1_are_505() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    for version in ["2.0", "0.9", "3.0"] {
        refused(&gateway, format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"), 505, "version_unsupported");
    }
    assert_eq!(exchange(gateway.address(), "GET / HTTP/1.2\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(app.request().line(), "GET / HTTP/1.1");
}

#[test]
fn rfc_9110_15_5_9_a_head_that_does_not_end_is_408() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {head: 2s}"));
    std::thread::scope(|scope| {
        for begin in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: "] {
            let gateway = &gateway;
            scope.spawn(move || refused(gateway, begin, 408, "head_timeout"));
        }
    });
}

#[test]
fn rfc_9110_15_5_9_bytes_that_drip_do_not_prolong_the_time_for_a_head() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {head: 2s}"));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let mut sender = Some(client.sender());
    let dripping = std::thread::spawn(move || {
        // Until the gateway has had enough.
        eventually("nobody takes the drops", || {
            use std::io::Write as _;
            sender.as_mut().unwrap().write_all(b"x").err()
        });
    });
    assert_eq!(client.response().status, 408);
    drop(client);
    dripping.join().unwrap();
}

#[test]
fn rfc_9110_15_5_9_a_body_that_stops_is_408() {
    let app = Upstream::scripted(|connection| drop(connection.request()));
    let gateway = Gateway::start(Config::before(&app).top("timeouts: {body: 300ms}"));
    for body in
        ["Content-Length: 10\r\n\r\nhalf", "Content-Length: 10\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"]
    {
        refused(&gateway, format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"), 408, "body_timeout");
    }
}

#[test]
fn rfc_9110_15_5_14_bodies_that_are_too_large_are_413() {
    let app = Upstream::scripted(|connection| drop(connection.request()));
    let gateway = Gateway::start(Config::before(&app).service("max_body: 10"));
    refused(&gateway, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901", 413, "body_too_large");
    refused(&gateway, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", 413, "body_too_large");
    assert_eq!(app.connections(), 0, "the length says enough");
    let chunks = "6\r\nfirst.\r\n5\r\nmore.\r\n0\r\n\r\n";
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    refused(&gateway, request, 413, "body_too_large");
    let whole = app.requests().iter().any(|request| !request.body.is_empty());
    assert!(!whole, "the app must not take the part that came for the whole");
}

#[test]
fn rfc_9110_15_5_14_a_body_of_exactly_the_bound_passes() {
    let app = Upstream::answering(|request| ok(&request.body.len().to_string()));
    let gateway = Gateway::start(Config::before(&app).service("max_body: 10"));
    let length = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567890";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n1234567890\r\n0\r\n\r\n";
    for request in [length, chunked] {
        assert_eq!(exchange(gateway.address(), request).text(), "10");
    }
}

#[test]
fn rfc_9112_9_6_an_early_answer_reaches_a_client_that_is_still_sending() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    let body = vec![b'x'; 3 * 1024 * 1024];
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let taken = client.try_send(&body);
    assert!(taken, "the gateway reset the connection instead of reading on");
    let response = client.response();
    assert_eq!((response.status, response.closes()), (413, true));
    client.half_close();
    client.expect_closed();
    // What came behind is body and never a request.
    get(gateway.address(), "/last");
    gateway.access("/last");
    assert_eq!(gateway.access_log().len(), 2);
}

#[test]
fn rfc_9110_15_5_20_hosts_of_nobody_are_421() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).service("hosts: [app.example, \"*.wild.example\"]"));
    for host in ["other.example", "wild.example", "127.0.0.1", "app.example.evil", "xapp.example"] {
        refused(&gateway, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 421, "host_unknown");
    }
    refused(&gateway, "GET / HTTP/1.0\r\n\r\n", 421, "host_unknown");
    assert_eq!(app.connections(), 0);
    for host in ["app.example", "APP.example:8080", "app.example.", "x.wild.example"] {
        assert_eq!(
            exchange(gateway.address(), format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status,
            200,
            "{host}"
        );
    }
}

#[test]
fn rfc_9112_3_long_targets_are_414_and_rfc_6585_5_large_heads_431() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app).top("bounds: {head: 2KiB, fields: 8, target: 600}"));
    refused(&gateway, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(600)), 414, "target_too_long");
    refused(&gateway, format!("GET /{}", "x".repeat(3000)), 414, "target_too_long");
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(3000));
    refused(&gateway, &field, 431, "head_too_large");
    refused(&gateway, field + "\r\n\r\n", 431, "head_too_large");
    refused(&gateway, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(8)), 431, "too_many_fields");
    let most = format!("GET /{} HTTP/1.1\r\nHost: a\r\n{}\r\n", "x".repeat(599), "X: 1\r\n".repeat(7));
    assert_eq!(exchange(gateway.address(), most).status, 200);
    assert_eq!(app.connections(), 1);
}

#[test]
fn rfc_9110_15_6_2_unknown_transfer_codings_are_501() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    for coding in ["gzip", "gzip, chunked", "xchunked", "identity"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        refused(&gateway, request, 501, "transfer_coding_unknown");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn rfc_9110_15_5_6_connect_and_trace_are_405() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    for request in ["CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        refused(&gateway, request, 405, "method_not_allowed");
        let allow = exchange(gateway.address(), request).field("allow").unwrap();
        assert!(allow.contains("GET") && !allow.contains("TRACE") && !allow.contains("CONNECT"), "{allow}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn rfc_9110_15_6_3_apps_that_fail_are_502() {
    let dead = Unreachable::refusing();
    let gateway = Gateway::start(Config::servers([dead.server()]));
    refused(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502, "upstream_unreachable");
    let missing = Gateway::start(Config::servers(["unix:/nowhere/app.sock"]));
    refused(&missing, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502, "upstream_unreachable");
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for (answer, reason) in [
        ("", "upstream_closed"),
        ("HTTP/1.1 200", "upstream_invalid"),
        ("HTTP/1.1 200 OK\r\nContent-Le", "upstream_invalid"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "upstream_invalid"),
        ("<html>\r\n\r\n", "upstream_invalid"),
        ("HTTP/2 200\r\n\r\n", "upstream_invalid"),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "upstream_invalid"),
        (&large, "upstream_invalid"),
    ] {
        let answer = answer.to_owned();
        let app = Upstream::scripted(move |connection| {
            connection.request();
            connection.write(&answer);
        });
        let gateway = Gateway::start(Config::before(&app));
        refused(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502, reason);
    }
}

#[test]
fn rfc_9110_15_6_4_an_app_that_takes_no_connections_is_503() {
    let full = Unreachable::full_unix_socket();
    let gateway = Gateway::start(Config::servers([full.server()]));
    refused(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 503, "upstream_busy");
}

#[test]
fn rfc_9110_15_6_5_apps_that_take_too_long_are_504() {
    let full = Unreachable::full();
    let gateway = Gateway::start(Config::servers([full.server()]).upstream("connect_timeout: 300ms"));
    refused(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 504, "upstream_connect_timeout");
    let app = Upstream::scripted(|connection| {
        if connection.request().is_some_and(|request| request.target() == "/half") {
            connection.write("HTTP/1.1 200 OK\r\nContent-");
        }
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).upstream("response_timeout: 300ms"));
    for target in ["/silent", "/half"] {
        refused(&gateway, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 504, "upstream_timeout");
    }
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    refused(&gateway, post, 504, "upstream_timeout");
    eventually("the connections to the app are closed", || (app.open() == 0).then_some(()));
}

#[test]
fn rfc_9110_12_5_1_browsers_get_a_page_and_programs_a_problem() {
    let dead = Unreachable::refusing();
    let gateway = Gateway::start(Config::servers([dead.server()]));
    let ask = |accept: &str| {
        let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n", accept.len());
        (exchange(gateway.address(), request), gateway.access(&format!("/{}", accept.len())))
    };
    let (page, line) = ask("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    assert_eq!(page.field("content-type").as_deref(), Some("text/html; charset=utf-8"));
    let text = page.text();
    assert!(text.starts_with("<!doctype html>") && text.contains("<h1>502 Bad Gateway</h1>"), "{text}");
    assert!(text.contains(line["request_id"].as_str().unwrap()), "{text}");
    for accept in ["*/*", "application/json", "text/html;q=0.1, application/problem+json"] {
        let (problem, line) = ask(accept);
        assert_eq!(problem.field("content-type").as_deref(), Some("application/problem+json"), "{accept}");
        assert_eq!(problem.json()["request_id"], line["request_id"]);
        assert_eq!(problem.json()["type"], "about:blank");
    }
    assert_eq!(get(gateway.address(), "/").json()["detail"], "the application cannot be reached");
}

#[test]
fn errors_do_not_end_connections_that_can_go_on() {
    let dead = Unreachable::refusing();
    let gateway = Gateway::start(Config::servers([dead.server()]));
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        let response = client.response();
        assert_eq!((response.status, response.closes()), (502, false));
    }
}

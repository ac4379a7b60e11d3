//! Requests that two parties could read differently: refused, and nothing behind them is believed. For answers, see `splitting`.

use crate::harness::{Client, Config, Gateway, Upstream, eventually, exchange, get, ok};

/// What every attack below wants the app to see.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends an attack with a request behind it: the right status, a closed connection, and nothing at the app but what may be there.
fn refused(gateway: &Gateway, attack: &[u8], status: u16) {
    let shown = String::from_utf8_lossy(attack).into_owned();
    let mut client = Client::connect(gateway.address());
    client.try_send([attack, SMUGGLED.as_bytes()].concat());
    let response = client.response();
    assert_eq!(response.status, status, "{shown:?}");
    assert!(response.closes(), "{shown:?}");
    client.half_close();
    client.expect_closed();
}

#[test]
fn rfc_9112_11_2_ambiguous_requests_never_reach_the_app() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    for (fields, status) in [
        // §6.1: two ways to tell the length.
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello", 400),
        ("Content-Length: 0\r\nTransfer-Encoding:\r\n\r\n", 400),
        // §6.3: lengths that are none, or not the only one.
        ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
        ("Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello", 400),
        ("Content-Length: 5, 5\r\n\r\nhello", 400),
        ("Content-Length: 5, 6\r\n\r\nhello!", 400),
        ("Content-Length: +5\r\n\r\nhello", 400),
        ("Content-Length: -5\r\n\r\nhello", 400),
        ("Content-Length: 0x5\r\n\r\nhello", 400),
        ("Content-Length: 5_0\r\n\r\nhello", 400),
        ("Content-Length: 5 0\r\n\r\nhello", 400),
        ("Content-Length: 5;a\r\n\r\nhello", 400),
        ("Content-Length: \r\n\r\nhello", 400),
        ("Content-Length: five\r\n\r\nhello", 400),
        ("Content-Length: 18446744073709551621\r\n\r\nhello", 400),
        ("Content-Length: \u{665}\r\n\r\nhello", 400),
        // §6.1 and §7: codings.
        ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: identity\r\n\r\n", 501),
        ("Transfer-Encoding: gzip\r\n\r\n", 501),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: chunke\u{212a}\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer\rEncoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        // §5.2: folded lines.
        ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: a\r\n\tb\r\n\r\n", 400),
        // §2.2: line ends.
        ("X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("X: a\r\n\n", 400),
        ("X: a\n\r\n", 400),
        ("X: a\r\r\n\r\n", 400),
        // §5.1: names and values.
        (": nameless\r\n\r\n", 400),
        ("X a: b\r\n\r\n", 400),
        ("X: a\x00b\r\n\r\n", 400),
        ("X: a\x7fb\r\n\r\n", 400),
        ("Content-Length\u{a0}: 5\r\n\r\nhello", 400),
        // §3.2: hosts.
        ("Host: a\r\n\r\n", 400),
        ("host: b\r\n\r\n", 400),
    ] {
        refused(&gateway, format!("{post}{fields}").as_bytes(), status);
    }
    assert_eq!(app.connections(), 0, "{:?}", app.requests());
}

#[test]
fn rfc_9112_3_ambiguous_request_lines_never_reach_the_app() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    for (attack, status) in [
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400), // §6.1
        (
            "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", 400), // §3.2.2
        ("GET http://a:80/ HTTP/1.1\r\nHost: a:81\r\n\r\n", 400),
        ("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400),
        ("GET http://a/\r\nHost: a\r\n\r\n", 400),
        ("GET //a/ HTTP/1.1\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: \r\n\r\n", 400),
        ("GET / HTTP/1.01\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/11\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /#fragment HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        refused(&gateway, attack.as_bytes(), status);
    }
    assert_eq!(app.connections(), 0, "{:?}", app.requests());
}

#[test]
fn rfc_9112_7_1_broken_chunks_end_the_request_and_the_connection() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(10_000));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let attacks = [
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\n\r\nhello0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5,\r\nhello\r\n0\r\n\r\n",
        "\u{ff15}\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        // Extensions (§7.1.1) that hide a line end, or are endless.
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\x00\r\nhello\r\n0\r\n\r\n",
        &extension,
        // Trailers (§7.1.2) that are no field lines.
        "0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "0\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n",
        "0\r\nX: a\r\n folded\r\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nX : a\r\n\r\n",
        "0\r\n: a\r\n\r\n",
        "0\r\nX: a\x00\r\n\r\n",
        "0\r\nX: a\rb\r\n\r\n",
        "0\r\nX: a\r\n\n",
        "0\r\n\n",
        &trailers,
    ];
    for attack in attacks {
        refused(&gateway, format!("{head}{attack}").as_bytes(), 400);
    }
    eventually("the connections to the app are closed", || (app.open() == 0).then_some(()));
    for request in app.requests() {
        assert_eq!(request.line(), "POST / HTTP/1.1");
    }
    // What the app saw of each body has no end, so that it could not take a part for the whole.
    for connection in 0..app.connections() {
        let received = String::from_utf8_lossy(&app.received(connection)).into_owned();
        assert!(!received.contains("\r\n0\r\n") && !received.contains("/smuggled"), "{received:?}");
    }
}

#[test]
fn rfc_9112_7_1_1_chunk_extensions_are_dropped() {
    let app = Upstream::answering(|request| ok(&String::from_utf8_lossy(&request.body)));
    let gateway = Gateway::start(Config::before(&app).streaming());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n";
    assert_eq!(exchange(gateway.address(), request).text(), "hello");
    let received = String::from_utf8_lossy(&app.received(0)).into_owned();
    assert!(received.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{received}");
}

#[test]
fn rfc_9110_6_5_1_trailers_carry_nothing_that_heads_may_not() {
    let app = Upstream::answering(|_| ok(""));
    let tokens = "tokens: {probe: {slots: [{name: one, value: 0123456789abcdef0123456789abcdef}]}}";
    let gateway = Gateway::start(Config::before(&app).top(tokens).service("probes: {readyz: {allow: {token: probe}}}"));
    let request = concat!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: 10.0.0.1\r\n",
        "X_Forwarded_For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nX_Other: 1\r\nHost: evil\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nTE: trailers\r\nUpgrade: h2c\r\n",
        "X-Probe-Token: 1\r\nAuthorization: Basic eA==\r\nExpect: 100-continue\r\nX-Last: 2\r\n\r\n"
    );
    assert_eq!(exchange(gateway.address(), request).status, 200);
    assert_eq!(app.request().trailers, "X-Sum: 1\r\nX-Last: 2\r\n");
}

#[test]
fn rfc_9110_9_3_1_a_body_behind_get_is_a_body() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for framed in [
        format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
    ] {
        client.send(format!("GET /get HTTP/1.1\r\nHost: a\r\n{framed}HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().text(), "/get");
        client.response_to_head();
    }
    assert_eq!(app.targets(), ["/get", "/head", "/get", "/head"]);
    assert!(app.requests().iter().all(|request| request.target() == "/head" || request.body == SMUGGLED.as_bytes()));
}

#[test]
fn a_body_behind_a_probe_is_not_a_request_at_the_app() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let gateway = Gateway::start(
        Config::before(&app)
            .service("probes: {healthz: {allow: anyone, cache: off}, version: {serve: answer, allow: anyone}}"),
    );
    for path in ["/healthz", "/version"] {
        for framing in [
            format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()),
            // One that has not come yet: the connection can not go on.
            format!("Content-Length: {}\r\n\r\n", SMUGGLED.len()),
        ] {
            let mut client = Client::connect(gateway.address());
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{framing}"));
            let response = client.response();
            assert_eq!(
                (response.status, response.closes()),
                (200, framing.ends_with("\r\n\r\n") && !framing.contains('G'))
            );
            if response.closes() {
                client.try_send(SMUGGLED);
            }
            client.half_close();
            client.expect_closed();
        }
    }
    assert_eq!(app.targets(), ["/healthz"; 3]);
    for connection in 0..app.connections() {
        let received = String::from_utf8_lossy(&app.received(connection)).into_owned();
        let heads = received.matches(" HTTP/1.1\r\n").count();
        let own = received.matches("X-Request-ID: ").count();
        assert_eq!(heads, own, "a head that the gateway did not write: {received}");
    }
}

#[test]
fn a_request_that_was_not_sent_whole_leaves_no_connection_behind() {
    // An app that answers before it has read the body, over a socket whose buffer is full at some point of it. Whatever the
    // length, the next request must never be read as the rest of this one's body.
    let app = Upstream::scripted_on_unix_socket(|connection| {
        while let Some(request) = connection.head() {
            connection.write(ok(&request.target()));
            if connection.body(request).is_none() {
                return;
            }
        }
    });
    let gateway = Gateway::start(Config::before(&app));
    for length in (40 * 1024..520 * 1024).step_by(20 * 1024) {
        let mut client = Client::connect(gateway.address());
        client.send(format!("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let body = vec![b'x'; length];
        client.send(&body);
        assert_eq!(client.response().text(), "/first", "{length}");
        assert_eq!(get(gateway.address(), "/next").text(), "/next", "{length}");
    }
    for connection in 0..app.connections() {
        let mut received = &app.received(connection)[..];
        // Requests one after the other, each with the body that it declares; only the last may lack some of it.
        while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, body) = received.split_at(end + 4);
            let head = String::from_utf8_lossy(head).into_owned();
            let declared = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let declared: usize = declared.map_or(0, |length| length.parse().unwrap());
            let (body, rest) = body.split_at(declared.min(body.len()));
            assert!(body.iter().all(|&byte| byte == b'x'), "a request inside of a body of {declared} bytes");
            received = rest;
        }
    }
}

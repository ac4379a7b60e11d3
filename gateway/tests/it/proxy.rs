//! The main job: requests reach the app, and its answers come back.

use std::io::Write as _;

use crate::harness::{Client, Config, Gateway, Upstream, eventually, exchange, get, metric, ok, wait_for_metric};

#[test]
fn rfc_9112_3_a_request_reaches_the_app_and_its_answer_the_client() {
    let app = Upstream::answering(|_| "HTTP/1.1 201 Made it\r\nX-App: yes\r\nContent-Length: 5\r\n\r\nhello");
    let gateway = Gateway::start(Config::before(&app));
    let response = get(gateway.address(), "/a?b=c&d=%20");
    assert_eq!((response.status, &*response.reason, &*response.text()), (201, "Made it", "hello"));
    assert_eq!(response.field("x-app").as_deref(), Some("yes"));
    assert!(!response.closes());
    assert_eq!(app.request().line(), "GET /a?b=c&d=%20 HTTP/1.1");
    assert_eq!(app.request().field("host").as_deref(), Some("app.example"));
    let line = gateway.access("/a?b=c&d=%20");
    assert_eq!((&line["status"], &line["decision"], &line["service"]), (&201.into(), &"forward".into(), &"app".into()));
    assert_eq!(line["upstream"], app.server());
}

#[test]
fn rfc_9112_9_3_connections_are_kept_on_both_sides() {
    let app = Upstream::answering(|_| ok("again"));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "again");
    }
    // Another client's request takes the same connection to the app: with one worker there is one pool.
    assert_eq!(get(gateway.address(), "/").text(), "again");
    assert_eq!((app.requests().len(), app.connections()), (6, 1));
}

#[test]
fn rfc_9112_9_6_connection_close_from_the_client_ends_its_connection_and_not_the_apps() {
    let app = Upstream::answering(|_| ok("bye"));
    let gateway = Gateway::start(Config::before(&app));
    for _ in 0..2 {
        let mut client = Client::connect(gateway.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let response = client.response();
        assert!(response.closes());
        client.expect_closed();
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(app.requests()[0].field("connection"), None);
}

#[test]
fn rfc_9112_9_6_connection_close_from_the_app_ends_its_connection_and_not_the_clients() {
    let app = Upstream::answering(|_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((&*response.text(), response.field("connection")), ("ok", None));
    }
    assert_eq!(app.connections(), 2);
}

#[test]
fn rfc_9112_c_2_2_http_1_0_clients_keep_their_connection_only_if_they_ask() {
    let app = Upstream::answering(|_| ok("old"));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!((&*response.text(), response.field("connection").as_deref()), ("old", Some("keep-alive")));
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert!(client.response().closes());
    client.expect_closed();
    let requests = app.requests();
    assert!(requests.iter().all(|request| request.line() == "GET / HTTP/1.1"), "{requests:?}");
    assert_eq!(requests[1].field("host").as_deref(), Some(""), "RFC 9112 §3.2: the field is mandatory, if only empty");
}

#[test]
fn an_http_1_0_app_is_understood() {
    let app = Upstream::answering(|_| "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let gateway = Gateway::start(Config::before(&app));
    let response = get(gateway.address(), "/");
    assert_eq!((&*response.text(), response.closes()), ("ok", false));
}

#[test]
fn an_app_behind_a_unix_socket_is_reached_and_its_connection_kept() {
    let app = Upstream::answering_on_unix_socket(|request| ok(&format!("{} bytes", request.body.len())));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().text(), "4 bytes");
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(gateway.access("/")["upstream"], app.server());
}

#[test]
fn rfc_9110_9_3_2_head_has_fields_and_no_body() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n",
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\n\r\n",
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for (target, length) in [("/length", Some("1000")), ("/chunked", None), ("/neither", None)] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_to_head();
        assert_eq!((response.status, response.field("content-length").as_deref()), (200, length), "{target}");
        assert!(!response.closes(), "{target}");
    }
    client.send("HEAD /nowhere HTTP/1.1\r\n\r\n");
    assert_eq!(client.response_to_head().status, 400, "the gateway's own answers have no body, too");
    client.expect_closed();
    assert_eq!(app.requests()[0].line(), "HEAD /length HTTP/1.1");
}

#[test]
fn rfc_9112_6_3_204_and_304_have_no_body_whatever_their_fields_say() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
        "/204-with-length" => "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 1000\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for (target, status, length) in [
        ("/204", 204, None),
        ("/204-with-length", 204, None), // RFC 9110 §8.6: a server must not send a length with 204
        ("/empty", 200, Some("0")),
        ("/304", 304, Some("1000")),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.field("content-length").as_deref()), (status, length), "{target}");
        assert_eq!(response.field("transfer-encoding"), None, "{target}");
    }
    assert_eq!(app.connections(), 1, "all of them leave the connection to the app usable");
}

#[test]
fn rfc_9112_9_3_2_pipelined_requests_are_answered_in_order() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send(concat!(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\nGET /5 HT"
    ));
    for target in ["/1", "/2", "/3", "/4"] {
        assert_eq!(client.response().text(), target);
    }
    client.send("TP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "/5");
    assert_eq!(app.connections(), 1);
}

#[test]
fn rfc_9112_9_3_2_pipelined_requests_behind_a_refused_one_are_judged_for_themselves() {
    let app = Upstream::answering(|request| ok(&request.target()));
    let gateway = Gateway::start(
        Config::before(&app)
            .service("routes:\n  - {path: /no, allow: {network: nobody}}")
            .top("networks: {nobody: [\"192.0.2.1/32\"]}"),
    );
    let mut client = Client::connect(gateway.address());
    client.send(concat!(
        "POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
        "GET /yes HTTP/1.1\r\nHost: a\r\n\r\n"
    ));
    assert_eq!(client.response().status, 403);
    assert_eq!(client.response().text(), "/yes");
    assert_eq!(app.targets(), ["/yes"]);
}

#[test]
fn refusals_that_their_client_takes_late_are_whole_and_each_is_told_once() {
    // More than what lies between the two holds.
    const MANY: usize = 20_000;
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(
        Config::before(&app)
            .service("routes:\n  - {path: /no, allow: {network: nobody}}")
            .top("networks: {nobody: [\"192.0.2.1/32\"]}\nbounds: {requests_per_connection: 1000000}\nlog: {access: {format: off}}"),
    );
    let denied = "probegate_decisions_total{service=\"app\",decision=\"deny\"}";
    let mut client = Client::connect_narrow(gateway.address());
    let mut sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(move || sender.write_all("GET /no HTTP/1.1\r\nHost: a\r\n\r\n".repeat(MANY).as_bytes()));
        let mut before = 0.0;
        eventually("the gateway waits for its client", || {
            let now = metric(&gateway, denied);
            let earlier = std::mem::replace(&mut before, now);
            (now > 0.0 && now <= earlier).then_some(())
        });
        let mut ids = std::collections::HashSet::new();
        for _ in 0..MANY {
            let response = client.response();
            assert_eq!(response.status, 403);
            assert!(ids.insert(response.json()["request_id"].to_string()));
        }
    });
    wait_for_metric(&gateway, denied, 20_000.0);
}

#[test]
fn rfc_9110_5_names_keep_their_case_and_lines_their_order() {
    let app = Upstream::answering(
        |_| "HTTP/1.1 200 OK\r\nsERVED-BY: app\r\nSet-Cookie: a=1\r\nX-Between: yes\r\nset-cookie: b=2\r\ncontent-LENGTH: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(Config::before(&app));
    let response = exchange(
        gateway.address(),
        "GET / HTTP/1.1\r\nx-FIRST: 1\r\nHost: a\r\nCookie: a=1; b=2\r\nX-First:   2  \r\naccept: \r\nDNT: 1\r\n\r\n",
    );
    let own =
        ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Request-ID"];
    let sent: Vec<_> = app.request().fields();
    let sent: Vec<_> = sent.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (theirs, ours) = sent.split_at(sent.len() - own.len());
    assert_eq!(
        theirs,
        [("Host", "a"), ("x-FIRST", "1"), ("Cookie", "a=1; b=2"), ("X-First", "2"), ("accept", ""), ("DNT", "1")]
    );
    assert_eq!(ours.iter().map(|(name, _)| *name).collect::<Vec<_>>(), own);
    let received: Vec<_> = response.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let date = response.field("date").expect("RFC 9110 §6.6.1: a gateway with a clock adds the date");
    assert_eq!(
        received,
        [
            ("sERVED-BY", "app"),
            ("Set-Cookie", "a=1"),
            ("X-Between", "yes"),
            ("set-cookie", "b=2"),
            ("content-LENGTH", "2"),
            ("Date", &*date)
        ]
    );
}

#[test]
fn rfc_9110_7_6_1_hop_by_hop_and_nominated_fields_are_removed_from_requests() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    exchange(
        gateway.address(),
        concat!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-private, keep-alive\r\nX-Private: 1\r\nX-Stays: 1\r\n",
            "connection: X-Also , ,\r\nX-ALSO: 1\r\nx-also: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n",
            "Proxy-Authorization: Basic eA==\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Stays-Too: 1\r\n\r\n"
        ),
    );
    let request = app.request();
    let names: Vec<_> =
        request.fields().into_iter().map(|(name, _)| name).filter(|name| !name.starts_with("X-F")).collect();
    assert_eq!(names, ["Host", "X-Stays", "X-Stays-Too", "X-Real-IP", "X-Request-ID"]);
}

#[test]
fn rfc_9110_7_6_1_nominations_take_nothing_away_that_the_gateway_vouches_for() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    exchange(
        gateway.address(),
        concat!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, x-forwarded-for, x-real-ip, x-forwarded-proto, close\r\n",
            "Content-Length: 2\r\n\r\nok"
        ),
    );
    let request = app.request();
    assert_eq!(request.body, b"ok");
    for (name, value) in
        [("host", "a"), ("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1"), ("x-forwarded-proto", "http")]
    {
        assert_eq!(request.field(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn rfc_9110_7_6_1_hop_by_hop_and_nominated_fields_are_removed_from_responses() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\nConnection: X-Private, content-length\r\nx-private: 1\r\nKeep-Alive: timeout=5\r\nX-Stays: 1\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
    });
    let gateway = Gateway::start(Config::before(&app));
    let response = get(gateway.address(), "/");
    let names: Vec<_> = response.fields.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["X-Stays", "Content-Length", "Date"]);
    assert_eq!(response.text(), "ok");
}

#[test]
fn rfc_9110_15_2_interim_responses_are_passed_on_to_those_who_know_them() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.response();
    assert_eq!((hints.status, hints.field("link").as_deref()), (103, Some("</a.css>; rel=preload")));
    assert_eq!(client.response().status, 102);
    assert_eq!(client.response().text(), "ok");
    let old = exchange(gateway.address(), "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((old.status, &*old.text()), (200, "ok"));
    assert_eq!(app.connections(), 1);
}

#[test]
fn endless_interim_responses_are_an_invalid_answer() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        while connection.write("HTTP/1.1 102 Processing\r\n\r\n") {}
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let last = std::iter::repeat_with(|| client.response()).take(100).find(|response| response.status != 102);
    assert_eq!(last.map(|response| response.status), Some(502));
}

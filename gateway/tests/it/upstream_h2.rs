//! Apps that speak HTTP/2 with prior knowledge, behind clients in HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use http::{HeaderMap, HeaderValue};

use crate::harness::{
    Call, Client, Config, End, Gateway, Http2App, Response, Upstream, eventually, exchange, frame, get, head,
    next_frame, next_head, preface, send, wait_for_metric,
};

const RETRIES: &str = "probegate_upstream_retries_total{service=\"app\"}";
const H2: &str = "protocol: http2";

/// `:status: 200` (RFC 7541, appendix A).
const OK: &[u8] = &[0x88];

fn before(app: &Http2App) -> Config {
    Config::servers([app.server()]).upstream(H2)
}

/// The status of an answer of the gateway's own, and the reason in the log.
fn refusal(gateway: &Gateway, response: &Response) -> (u16, String) {
    let line = gateway.wait_for_log(|line| line["request_id"] == response.json()["request_id"]);
    (response.status, line["reason"].as_str().unwrap_or_default().to_owned())
}

/// An app that answers everything with the target.
fn echo() -> Http2App {
    Http2App::scripted(|mut call: Call| async move {
        call.read().await;
        let uri = call.seen().uri;
        call.answer(200, &[("x-app", "yes")], uri).await;
    })
}

#[test]
fn rfc_9113_8_3_1_a_request_is_told_in_pseudo_fields() {
    let app = echo();
    let gateway = Gateway::start(before(&app));
    let response = exchange(
        gateway.address(),
        "GET /a?b=<c> HTTP/1.1\r\nHost: app.example:81\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         X-Name: Value\r\nCookie: a=b\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
    );
    assert_eq!((response.status, response.field("x-app").as_deref()), (200, Some("yes")));
    assert_eq!(response.reason, "OK");
    let seen = &app.seen()[0];
    assert_eq!((&*seen.method, &*seen.uri), ("GET", "http://app.example:81/a?b=%3Cc%3E"));
    assert_eq!(seen.field("x-name").as_deref(), Some("Value"));
    assert_eq!(seen.field("te").as_deref(), Some("trailers"));
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("http"));
    for hop in ["host", "connection", "x-hop", "keep-alive", "upgrade", "http2-settings", "transfer-encoding"] {
        assert_eq!(seen.field(hop), None, "{hop}");
    }
    let line = gateway.wait_for_log(|line| line["target"] == "/a?b=<c>");
    assert_eq!(line["upstream_status"], 200);
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let app = Http2App::scripted(|mut call: Call| async move {
        call.read().await;
        let body = call.seen().body;
        let mut stream = call.start(200, &[]);
        send(&mut stream, body.into(), false).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        trailers.insert("content-length", HeaderValue::from_static("7"));
        stream.send_trailers(trailers).unwrap();
    });
    let gateway = Gateway::start(before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let response = client.response();
    assert_eq!((response.text(), &*response.trailers), ("hello".into(), "x-sum: 7\r\n"));
    client.send(
        "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Mine: 1\r\nHost: evil\r\n\r\n",
    );
    assert_eq!(client.response().text(), "abcde");
    let seen = app.seen();
    assert_eq!((seen[0].field("content-length").as_deref(), &seen[0].trailers), (Some("5"), &None));
    assert_eq!((seen[1].field("content-length"), seen[1].field("transfer-encoding")), (None, None));
    let trailers = seen[1].trailers.as_ref().unwrap();
    assert_eq!((trailers.len(), trailers["x-mine"].to_str().unwrap()), (1, "1"));
    assert_eq!(app.connections(), 1);
}

#[test]
fn answers_without_a_body_have_none_in_http_1_either() {
    let app = Http2App::scripted(|mut call: Call| async move {
        let uri = call.seen().uri;
        match uri.rsplit('/').next() {
            Some("204") => call.head(204, &[]),
            Some("304") => call.head(304, &[("content-length", "7"), ("etag", "\"a\"")]),
            Some("head") => call.head(200, &[("content-length", "7")]),
            Some("early") => {
                call.reply.send_informational(head(103, &[("link", "</a.css>")])).unwrap();
                call.answer(200, &[], "late").await;
            }
            _ => call.head(200, &[]),
        }
    });
    let gateway = Gateway::start(before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.field("content-length").as_deref()), (200, Some("0")));
    client.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response().status, response.field("transfer-encoding")), (204, None));
    client.send("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 304);
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to_head().field("content-length").as_deref(), Some("7"));
    client.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    let early = client.response();
    assert_eq!((early.status, early.field("link").as_deref()), (103, Some("</a.css>")));
    assert_eq!(client.response().text(), "late");
}

#[test]
fn requests_share_a_connection_up_to_what_the_app_allows() {
    let waiting = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&waiting);
    let app = Http2App::with(Builder::new().max_concurrent_streams(4), move |mut call: Call| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            call.answer(200, &[], "done").await;
        }
    });
    let gateway = Gateway::start(before(&app).upstream("idle_timeout: 300ms"));
    let mut clients: Vec<_> = (0..10).map(|_| Client::connect(gateway.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    app.wait_for(10);
    assert_eq!(app.connections(), 3, "ten requests, four on each");
    waiting.add_permits(10);
    for client in &mut clients {
        assert_eq!(client.response().text(), "done");
    }
    // Nobody needs them: all are closed, with GOAWAY, after their time.
    eventually("unused connections are closed", || (app.open() == 0).then_some(()));
    waiting.add_permits(1);
    assert_eq!(get(gateway.address(), "/").status, 200);
    assert_eq!(app.connections(), 4);
}

#[test]
fn a_client_that_goes_cancels_its_stream_and_nothing_else() {
    let app = Http2App::scripted(|mut call: Call| async move {
        if call.seen().uri.ends_with("/wait") {
            call.wait_reset().await;
        } else {
            call.answer(200, &[], "here").await;
        }
    });
    let gateway = Gateway::start(before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    app.wait_for(1);
    drop(client);
    eventually("the app is told", || (app.seen()[0].reset == Some(h2::Reason::CANCEL)).then_some(()));
    assert_eq!(get(gateway.address(), "/").text(), "here");
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_stream_that_the_app_gives_up_is_502_or_visibly_not_whole() {
    let taken = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&taken);
    let app = Http2App::scripted(move |mut call: Call| {
        let told = Arc::clone(&told);
        async move {
            if call.seen().uri.ends_with("/after") {
                let mut stream = call.start(200, &[]);
                send(&mut stream, Bytes::from_static(b"half"), false).await;
                told.notified().await;
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            } else {
                call.reply.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
    });
    let gateway = Gateway::start(before(&app));
    let response = get(gateway.address(), "/before");
    assert_eq!(refusal(&gateway, &response), (502, "upstream_closed".into()));
    // The connection has served before, and is not stale for all that: the app may have looked at the request.
    assert_eq!(get(gateway.address(), "/before").status, 502);
    assert_eq!(app.seen().len(), 2);
    let mut client = Client::connect(gateway.address());
    client.send("GET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().starts_with(b"HTTP/1.1 200 "));
    assert_eq!(client.exactly(9), b"4\r\nhalf\r\n");
    taken.notify_one();
    assert_eq!(client.rest().0, b"", "no last chunk");
    gateway.wait_for_log(|line| line["target"] == "/after" && line["reason"] == "upstream_closed");
    assert_eq!((app.connections(), app.open()), (1, 1), "the others on it are not disturbed");
}

#[test]
fn rfc_9113_8_7_a_refused_stream_is_asked_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&times);
    let app = Http2App::scripted(move |mut call: Call| {
        let asked = Arc::clone(&asked);
        async move {
            if call.seen().uri.ends_with("/never") || asked.fetch_add(1, Ordering::SeqCst) == 0 {
                call.reply.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                call.answer(200, &[], "second").await;
            }
        }
    });
    let gateway = Gateway::start(before(&app));
    // Not idempotent, and yet safe: the app has not looked at it.
    let response = exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((response.status, response.text()), (200, "second".into()));
    wait_for_metric(&gateway, RETRIES, 1.0);
    // Not for ever.
    assert_eq!(get(gateway.address(), "/never").status, 502);
    assert_eq!(app.seen().len(), 5);
    // A body that lies here whole can be sent twice.
    times.store(0, Ordering::SeqCst);
    let body = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let response = exchange(gateway.address(), body);
    assert_eq!((response.status, response.text()), (200, "second".into()));
}

#[test]
fn rfc_9113_6_8_what_goaway_excludes_is_asked_again_elsewhere() {
    let app = Upstream::scripted(|connection| {
        let Some(()) = preface(connection, &[]) else { return };
        let Some(stream) = next_head(connection) else { return };
        if connection.number == 0 {
            // Everything above stream 0 was not looked at.
            connection.write(frame(7, 0, 0, &[0; 8]));
            connection.wait_closed();
        } else {
            connection.write([frame(1, 4, stream, OK), frame(0, 1, stream, b"elsewhere")].concat());
            connection.wait_closed();
        }
    });
    let gateway = Gateway::start(Config::before(&app).upstream(H2));
    let response = exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status, response.text()), (200, "elsewhere".into()));
    assert_eq!(app.connections(), 2);
    wait_for_metric(&gateway, RETRIES, 1.0);
}

#[test]
fn a_connection_that_breaks_is_asked_again_only_where_that_is_safe() {
    let app = Upstream::scripted(|connection| {
        let Some(()) = preface(connection, &[]) else { return };
        let Some(stream) = next_head(connection) else { return };
        connection.write([frame(1, 4, stream, OK), frame(0, 1, stream, b"first")].concat());
        // The second request on it is lost.
        next_head(connection);
    });
    let gateway = Gateway::start(Config::before(&app).upstream(H2).upstream("idle_timeout: 10s"));
    assert_eq!(get(gateway.address(), "/").text(), "first");
    assert_eq!(get(gateway.address(), "/again").text(), "first");
    assert_eq!(app.connections(), 2);
    let post = "POST /once HTTP/1.1\r\nHost: a\r\n\r\n";
    let response = exchange(gateway.address(), post);
    assert_eq!(refusal(&gateway, &response), (502, "upstream_closed".into()));
    assert_eq!(app.connections(), 2);
}

#[test]
fn what_does_not_speak_http_2_is_502_or_504() {
    let old = Upstream::scripted(|connection| {
        connection.some();
        connection.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&old).upstream(H2));
    let response = get(gateway.address(), "/");
    assert_eq!(refusal(&gateway, &response), (502, "upstream_invalid".into()));

    let silent = Upstream::scripted(|connection| drop(connection.wait_closed()));
    let gateway = Gateway::start(Config::before(&silent).upstream(H2).upstream("connect_timeout: 300ms"));
    let response = get(gateway.address(), "/");
    assert_eq!(refusal(&gateway, &response), (504, "upstream_connect_timeout".into()));
}

#[test]
fn rfc_9113_8_1_1_malformed_answers_are_502_or_visibly_not_whole() {
    // Literal fields without indexing (RFC 7541 §6.2.2).
    let literal = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    for (fields, body) in [
        (literal("connection", "close"), &b""[..]),
        (literal("transfer-encoding", "chunked"), b"x"),
        (literal("Upper", "case"), b"x"),
        (literal("name", "a\rb"), b"x"),
        ([literal("content-length", "1"), literal("content-length", "1")].concat(), b"x"),
        (literal("content-length", "1x"), b"x"),
        (literal("content-length", "5"), b""),
    ] {
        let block = [OK, &fields].concat();
        let app = Upstream::scripted(move |connection| {
            let Some(()) = preface(connection, &[]) else { return };
            let Some(stream) = next_head(connection) else { return };
            connection.write([frame(1, 4, stream, &block), frame(0, 1, stream, body)].concat());
            connection.wait_closed();
        });
        let gateway = Gateway::start(Config::before(&app).upstream(H2));
        let mut client = Client::connect(gateway.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (response, end) = client.response_and_end();
        assert!(response.status == 502 || end != End::Whole, "{fields:?}: {response:?}");
    }
}

#[test]
fn an_app_that_does_not_answer_is_504() {
    let app = Http2App::scripted(|mut call: Call| async move { call.wait_reset().await });
    let gateway = Gateway::start(before(&app).upstream("response_timeout: 300ms"));
    let response = get(gateway.address(), "/");
    assert_eq!(refusal(&gateway, &response), (504, "upstream_timeout".into()));
    eventually("the stream is given up", || (app.seen()[0].reset == Some(h2::Reason::CANCEL)).then_some(()));
    // A connection on which nothing came meanwhile may be dead: the next requests do not wait on it.
    assert_eq!((get(gateway.address(), "/").status, get(gateway.address(), "/").status), (504, 504));
    assert!(app.connections() > 1, "{}", app.connections());
}

#[test]
fn a_client_that_takes_nothing_stops_its_stream_and_no_other() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 160;
    let sent = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&sent);
    let app = Http2App::scripted(move |mut call: Call| {
        let sent = Arc::clone(&told);
        async move {
            let mut stream = call.start(200, &[]);
            if call.seen().uri.ends_with("/large") {
                for _ in 0..PARTS {
                    if !send(&mut stream, Bytes::from(vec![b'x'; PART]), false).await {
                        return;
                    }
                    sent.fetch_add(PART, Ordering::SeqCst);
                }
            }
            send(&mut stream, Bytes::from_static(b"end"), true).await;
        }
    });
    let gateway = Gateway::start(before(&app).streaming());
    let mut slow: Vec<_> = (0..20).map(|_| Client::connect_narrow(gateway.address())).collect();
    for client in &mut slow {
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    app.wait_for(20);
    // As long as nothing moves any more, others on the same connection are served.
    let mut last = usize::MAX;
    eventually("the app is stopped", || {
        assert_eq!(get(gateway.address(), "/").text(), "end");
        std::thread::sleep(Duration::from_millis(50));
        let now = sent.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now).eq(&now).then_some(())
    });
    // What the kernel holds for each client, and one window.
    assert!(last < 20 * PARTS * PART / 2, "{last}");
    assert_eq!(app.connections(), 1);
    // One that goes on gets it all.
    let mut client = slow.pop().unwrap();
    let response = client.response();
    assert_eq!(response.body.len(), PARTS * PART + 3);
}

#[test]
fn a_large_body_goes_up_as_the_app_takes_it() {
    let app = Http2App::scripted(|mut call: Call| async move {
        call.read().await;
        let length = call.seen().body.len();
        call.answer(200, &[], length.to_string()).await;
    });
    let gateway = Gateway::start(before(&app).service("max_body: 64MiB"));
    let body = vec![b'x'; 20 << 20];
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let response = exchange(gateway.address(), [head.as_bytes(), &body].concat());
    assert_eq!(response.text(), body.len().to_string());
}

#[test]
fn an_answer_before_the_body_is_read_reaches_the_client() {
    let app = Http2App::scripted(|mut call: Call| async move {
        call.part().await;
        call.answer(413, &[], "too much").await;
    });
    let gateway = Gateway::start(before(&app).streaming().service("max_body: 64MiB"));
    let mut client = Client::connect(gateway.address());
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    client.send(vec![b'x'; 1000]);
    let response = client.response();
    assert_eq!((response.status, response.text(), response.closes()), (413, "too much".into(), true));
}

#[test]
fn probes_and_upgrades_are_asked_in_http_2_as_well() {
    let app = echo();
    let gateway = Gateway::start(before(&app).service("probes: {readyz: {allow: anyone, host: inner.example}}"));
    assert_eq!(get(gateway.address(), "/readyz").status, 200);
    assert_eq!(app.seen()[0].uri, "http://inner.example/readyz");
    // No upgrades in HTTP/2 (RFC 9113 §8.6): served as if it had not asked.
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    assert_eq!(exchange(gateway.address(), upgrade).status, 200);
    assert_eq!((app.seen()[1].field("upgrade"), app.seen()[1].field("connection")), (None, None));
}

#[test]
fn a_dead_server_is_passed_over() {
    let dead = crate::harness::Unreachable::refusing();
    let app = echo();
    let gateway = Gateway::start(Config::servers([dead.server(), app.server()]).upstream(H2));
    for _ in 0..4 {
        assert_eq!(get(gateway.address(), "/").status, 200);
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_frame_reader_of_its_own_sees_what_is_promised() {
    let app = Upstream::scripted(|connection| {
        let Some(()) = preface(connection, &[]) else { return };
        let Some(stream) = next_head(connection) else { return };
        connection.write([frame(1, 4, stream, OK), frame(0, 0, stream, b"x")].concat());
        // The client goes: RST_STREAM with CANCEL, and the connection stays.
        while let Some((kind, _, on, payload)) = next_frame(connection) {
            if kind == 3 {
                assert_eq!((on, payload), (stream, vec![0, 0, 0, 8]));
                connection.write(frame(6, 0, 0, b"pingpong"));
            }
            if kind == 6 {
                return;
            }
        }
    });
    let gateway = Gateway::start(Config::before(&app).upstream(H2).upstream("idle_timeout: 10s"));
    let mut client = Client::connect(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    drop(client);
    eventually("the app has seen it", || (app.open() == 0).then_some(()));
    let received = app.received(0);
    assert!(received.windows(8).any(|window| window == b"pingpong"), "the connection outlives the stream");
}

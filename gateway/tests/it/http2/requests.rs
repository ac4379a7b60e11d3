//! Requests over HTTP/2: what the app sees, and what the client does.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::config;
use super::raw::{
    Answer, DATA, END_HEADERS, END_STREAM, GET, HEADERS, RST_STREAM, Raw, ask, block, frame, request, with_h2,
};
use super::with_http2;
use crate::harness::{Config, Gate, Gateway, Upstream, ok};

fn with(fields: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&GET[..], fields].concat()
}

#[test]
fn rfc_9113_8_2_3_what_the_app_sees_byte_for_byte() {
    let app = Upstream::answering(|_| ok("seen"));
    let gateway = Gateway::start(config(&app));
    let mut raw = Raw::connect(gateway.address());
    let fields = with(&[
        ("cookie", "a=b"),
        ("x-one", "1"),
        ("te", "trailers"),
        ("cookie", "c=d"),
        ("x_under", "dropped"),
        ("x-forwarded-for", "192.0.2.1"),
        ("host", "a.example"),
        ("cookie", "e=f; g=h"),
    ]);
    raw.ask(1, &fields);
    assert!(raw.find(|frame| frame.kind == HEADERS).unwrap().is_ok());
    let line = gateway.access("/");
    let id = line["request_id"].as_str().unwrap();
    let port = gateway.address().port();
    let seen = format!(
        "GET / HTTP/1.1\r\nHost: a.example\r\ncookie: a=b; c=d; e=f; g=h\r\nx-one: 1\r\nX-Forwarded-For: 127.0.0.1\r\n\
         X-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\nX-Forwarded-Port: {port}\r\n\
         X-Request-ID: {id}\r\n\r\n"
    );
    assert_eq!(String::from_utf8(app.received(0)).unwrap(), seen);
}

#[test]
fn trailers_pass_in_both_directions_and_nothing_that_does_not_belong_there() {
    let app = Upstream::answering(
        |_| "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-App: 1\r\n\r\n4\r\ndone\r\n0\r\nX-Sum: 2\r\nSet-Cookie: a\r\n\r\n",
    );
    let gateway = Gateway::start(config(&app));
    with_h2(gateway.address(), async |mut send| {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "1"), ("content-length", "9"), ("host", "evil"), ("x-forwarded-for", "1.2.3.4")]
        {
            trailers.insert(name, HeaderValue::from_static(value));
        }
        let answer = ask(&mut send, request("POST", "/t"), b"hello", Some(trailers)).await.unwrap();
        assert_eq!((answer.head.status.as_u16(), &*answer.body), (200, &b"done"[..]));
        assert!(!answer.head.headers.contains_key("transfer-encoding") && answer.head.headers["x-app"] == "1");
        let trailers = answer.trailers.unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("2")));
    });
    let received = app.received(0);
    let text = String::from_utf8_lossy(&received);
    assert!(text.ends_with("\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{text}");
}

#[test]
fn ten_mebibytes_pass_both_ways() {
    let bytes: Vec<u8> = (0..10 << 20).map(|index: u32| index.to_le_bytes()[1] ^ index.to_le_bytes()[0]).collect();
    let app = Upstream::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.as_bytes(), &request.body].concat()
    });
    let gateway = Gateway::start(with_http2(&Config::before(&app).service("max_body: 20MiB")));
    with_h2(gateway.address(), async |mut send| {
        let answer = ask(&mut send, request("POST", "/large"), &bytes, None).await.unwrap();
        assert!(answer.body == bytes, "{} bytes came back, or others", answer.body.len());
    });
    let line = gateway.access("/large");
    assert!(line["received"].as_u64().unwrap() > 10 << 20 && line["sent"] == 10 << 20, "{line}");
}

#[test]
fn a_hundred_requests_are_at_work_at_a_time() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |request| {
        if request.target() != "/healthz" {
            theirs.wait();
        }
        ok(&request.target())
    });
    let gateway = Gateway::start(config(&app));
    with_h2(gateway.address(), async |send| {
        let asked: Vec<_> = (0..100)
            .map(|number| {
                let mut send = send.clone();
                tokio::spawn(async move { ask(&mut send, request("GET", &format!("/{number}")), b"", None).await })
            })
            .collect();
        while app.requests().len() <= 100 {
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
        gate.open();
        for (number, asked) in asked.into_iter().enumerate() {
            assert_eq!(asked.await.unwrap().unwrap().body, format!("/{number}").into_bytes());
        }
    });
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(with_http2(&Config::before(&app).service("max_body: 10")));
    let mut raw = Raw::connect(gateway.address());
    let mut post = with(&[("content-length", "1000")]);
    post[0].1 = "POST";
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&post)));
    let head = raw.find(|frame| frame.stream == 1).unwrap();
    assert_eq!((head.kind, head.is_ok()), (HEADERS, false));
    let body = raw.find(|frame| frame.kind == DATA).unwrap();
    assert!(String::from_utf8_lossy(&body.payload).contains("\"status\":413"), "{body:?}");
    // RFC 9113 §8.1: the rest of the body is not wanted, and that is no error.
    let reset = raw.find(|frame| frame.stream == 1 && frame.kind == RST_STREAM).unwrap();
    assert_eq!(reset.code(), 0);
    assert_eq!(gateway.access("/")["reason"], "body_too_large");
    raw.ask(3, &GET);
    assert!(raw.find(|frame| frame.stream == 3).unwrap().is_ok());
}

#[test]
fn answers_without_a_body_and_interim_answers() {
    let app = Upstream::answering(|request| match &*request.target() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n".to_owned(),
        "/103" => {
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
        }
        "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n".to_owned(),
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhel".to_owned(),
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil close".to_owned(),
    });
    let gateway = Gateway::start(config(&app));
    with_h2(gateway.address(), async |mut send| {
        let mut get = async |method: &str, path: &str| ask(&mut send, request(method, path), b"", None).await;
        let answer: Answer = get("GET", "/204").await.unwrap();
        assert_eq!((answer.head.status.as_u16(), answer.body.len()), (204, 0));
        let answer = get("GET", "/304").await.unwrap();
        assert_eq!((answer.head.status.as_u16(), answer.body.len()), (304, 0));
        let answer = get("HEAD", "/head").await.unwrap();
        assert_eq!((&answer.head.headers["content-length"], answer.body.len()), (&HeaderValue::from_static("5"), 0));
        assert!(!answer.head.headers.contains_key("x-hop") && answer.head.headers.contains_key("date"));
        let answer = get("GET", "/103").await.unwrap();
        assert_eq!((answer.head.status.as_u16(), &*answer.body), (200, &b"ok"[..]));
        assert_eq!(get("GET", "/until-close").await.unwrap().body, b"until close");
        // What is not whole is not passed off as whole.
        let broken = get("GET", "/short").await.unwrap_err();
        assert_eq!(broken.reason(), Some(h2::Reason::INTERNAL_ERROR), "{broken:?}");
    });
    assert_eq!(gateway.access("/short")["reason"], "upstream_closed");
}

#[test]
fn requests_are_judged_as_in_http_1() {
    let app = Upstream::answering(|_| ok(""));
    let service = "hosts: [a.example]\nlimits: [few]\nroutes: [{path: /admin/, allow: nobody}]";
    let service = service.replace("nobody", "{network: elsewhere}");
    let top = "limits: {few: {rate: 1/h, burst: 3}}\nnetworks: {elsewhere: [192.0.2.0/24]}";
    let gateway = Gateway::start(with_http2(&Config::before(&app).service(&service).top(top)));
    let mut raw = Raw::connect(gateway.address());
    let (mut stream, mut seen) = (1, 0);
    for (method, authority, host, path, status, reason) in [
        ("GET", Some("b.example"), None, "/1", 421, "host_unknown"),
        ("GET", Some("a.example"), Some("b.example"), "/2", 400, "host_invalid"),
        ("GET", None, None, "/3", 400, "host_missing"),
        ("TRACE", Some("a.example"), None, "/4", 405, "method_not_allowed"),
        ("GET", Some("u@a.example"), None, "/5", 400, "host_invalid"),
        ("GET", Some("a.example"), None, "/admin/6", 403, "outside_network"),
        ("GET", Some("a.example"), None, "/7%00", 400, "path_invalid"),
        ("GET", None, Some("a.example"), "/8", 200, ""),
        ("GET", Some("a.example"), None, "/9", 200, ""),
    ] {
        let mut fields = vec![(":method", method), (":scheme", "http"), (":path", path)];
        fields.extend(authority.map(|authority| (":authority", authority)));
        fields.extend(host.map(|host| ("host", host)));
        raw.ask(stream, &fields);
        let line = gateway.wait_for_log(|line| line["target"] == path);
        assert_eq!((&line["status"], line["reason"].as_str().unwrap_or("")), (&status.into(), reason), "{line}");
        assert_eq!(line["protocol"], "HTTP/2.0");
        let head = raw.find(|frame| frame.kind == HEADERS).unwrap();
        assert_eq!((head.stream, head.is_ok()), (stream, status == 200));
        stream += 2;
        seen += usize::from(status == 200);
    }
    assert_eq!(app.requests().len(), seen);
    // CONNECT has no path (RFC 9113 §8.5).
    raw.ask(stream, &[(":method", "CONNECT"), (":authority", "a.example:443")]);
    assert_eq!(gateway.wait_for_log(|line| line["method"] == "CONNECT")["status"], 405);
    for number in 1..=5 {
        raw.ask(stream + 2 * number, &GET);
    }
    assert_eq!(gateway.wait_for_log(|line| line["reason"] == "limit_exceeded")["status"], 429);
}

#[test]
fn a_panic_ends_its_stream_and_no_other() {
    let app = Upstream::answering(|_| ok("fine"));
    let gateway = Gateway::with(config(&app)).may_panic().start();
    with_h2(gateway.address(), async |mut send| {
        let answer = ask(&mut send, request("GET", "/.fault/panic"), b"", None).await.unwrap();
        assert_eq!(answer.head.status.as_u16(), 500);
        assert_eq!(ask(&mut send, request("GET", "/"), b"", None).await.unwrap().body, b"fine");
    });
    assert_eq!(gateway.access("/.fault/panic")["reason"], "panicked");
}

#[test]
fn a_body_that_lies_about_its_length_is_refused() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(config(&app));
    for (number, body) in [&b"abc"[..], b"abcdefgh"].into_iter().enumerate() {
        let mut raw = Raw::connect(gateway.address());
        let mut post = with(&[("content-length", "5")]);
        post[0].1 = "POST";
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&post)));
        raw.send(&frame(DATA, END_STREAM, 1, body));
        assert_eq!(raw.find(|frame| frame.kind == RST_STREAM).unwrap().code(), 1);
        raw.ask(3, &GET);
        assert!(raw.find(|frame| frame.stream == 3).unwrap().is_ok());
        let refused = || gateway.access_log().iter().filter(|line| line["reason"] == "body_invalid").count();
        crate::harness::eventually("it is logged", || (refused() == number + 1).then_some(()));
    }
}

//! Bodies: streamed, framed for each side in its own way, and never whole when they are not.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Client, Config, End, Gate, Gateway, Upstream, eventually, exchange, get, ok};

const MIB: usize = 1024 * 1024;

/// Bytes that are different everywhere.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// In chunks of odd sizes.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks(size) {
        out.extend_from_slice(format!("{:X}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn rfc_9112_6_large_bodies_pass_both_ways_by_length() {
    let app = Upstream::answering(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
        [head.into_bytes(), request.body.clone()].concat()
    });
    let gateway = Gateway::start(Config::before(&app).service("max_body: 16MiB"));
    let mut client = Client::connect(gateway.address());
    let body = pattern(8 * MIB + 17);
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        let response = client.response();
        assert_eq!(response.field("content-length"), Some(body.len().to_string()));
        assert!(response.body == body, "the body was changed");
    }
    assert_eq!(app.connections(), 1);
    let request = &app.requests()[0];
    assert_eq!(request.field("content-length"), Some(body.len().to_string()));
    assert_eq!(gateway.access("/")["sent"], body.len());
}

#[test]
fn rfc_9112_7_1_large_bodies_pass_both_ways_in_chunks_with_trailers() {
    let app = Upstream::answering(|request| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        let end = format!("0\r\nX-Sum: {}\r\nx-second: 2\r\n\r\n", request.body.len());
        [head.as_bytes(), &chunked(&request.body, 70_001), end.as_bytes()].concat()
    });
    let gateway = Gateway::start(Config::before(&app).service("max_body: 16MiB"));
    let mut client = Client::connect(gateway.address());
    let body = pattern(3 * MIB + 5);
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n");
        client.send(chunked(&body, 4999));
        client.send("0\r\nX-Check: 1\r\n\r\n");
        let response = client.response();
        assert!(response.body == body, "the body was changed");
        assert_eq!(response.trailers, format!("X-Sum: {}\r\nx-second: 2\r\n", body.len()));
        assert_eq!(response.field("trailer").as_deref(), Some("X-Sum"));
        assert_eq!(response.field("content-length"), None);
    }
    let request = &app.requests()[1];
    assert_eq!((&*request.trailers, request.field("trailer").as_deref()), ("X-Check: 1\r\n", Some("X-Check")));
    assert_eq!((request.field("content-length"), app.connections()), (None, 1));
}

#[test]
fn rfc_9112_7_1_a_chunk_passes_on_before_the_next_one_exists() {
    let app = Upstream::scripted(|connection| {
        let Some(request) = connection.head() else { return };
        drop(request);
        // Echoes every chunk as it comes.
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            let Some(chunk) = connection.exactly(8) else { return };
            connection.write(chunk);
        }
        connection.exactly(5);
        connection.write("0\r\n\r\n");
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).streaming());
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(client.head().starts_with(b"HTTP/1.1 200 OK\r\n"), "the head does not wait for the body");
    for chunk in ["3\r\none\r\n", "3\r\ntwo\r\n", "3\r\nsix\r\n"] {
        client.send(chunk);
        assert_eq!(client.exactly(8), chunk.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.exactly(5), b"0\r\n\r\n");
}

#[test]
fn rfc_9112_6_3_a_post_without_a_body_tells_so_to_the_app() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = Gateway::start(Config::before(&app));
    exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange(gateway.address(), "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    let lengths: Vec<_> = app.requests().iter().map(|request| request.field("content-length")).collect();
    assert_eq!(lengths, [Some("0".to_owned()), None]);
}

#[test]
fn rfc_9112_7_1_an_empty_chunked_body_is_a_body() {
    let app = Upstream::answering(|_| "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let gateway = Gateway::start(Config::before(&app).streaming());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let response = exchange(gateway.address(), request);
    assert_eq!((&*response.body, response.field("transfer-encoding").as_deref()), (&b""[..], Some("chunked")));
    assert_eq!(app.request().field("transfer-encoding").as_deref(), Some("chunked"));
}

#[test]
fn rfc_9112_6_3_an_answer_that_lasts_until_close_gets_chunks() {
    let body = pattern(300_000);
    let sent = body.clone();
    let app = Upstream::scripted(move |connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        connection.write(&sent);
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert!(response.body == body, "the body was changed");
        assert_eq!(response.field("transfer-encoding").as_deref(), Some("chunked"));
        assert!(!response.closes(), "only the app's connection ended");
    }
    assert_eq!(app.connections(), 2);
}

#[test]
fn rfc_9112_7_1_an_http_1_0_client_gets_no_chunks() {
    let app = Upstream::answering(|request| {
        if request.target() == "/chunked" {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
        }
    });
    let gateway = Gateway::start(Config::before(&app));
    for target in ["/chunked", "/until-close"] {
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"));
        let response = client.response_until_closed();
        assert_eq!(response.text(), "hello", "{target}");
        assert_eq!((response.field("transfer-encoding"), response.field("content-length")), (None, None), "{target}");
        assert!(response.closes(), "{target}");
    }
}

#[test]
fn rfc_9112_8_a_truncated_answer_stays_visibly_truncated() {
    let app = Upstream::scripted(|connection| {
        let Some(request) = connection.request() else { return };
        let target = request.target();
        connection.write(match &*target {
            "/length" | "/length/reset" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "/chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhello",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        });
        if target.ends_with("/reset") {
            connection.reset();
        }
    });
    let gateway = Gateway::start(Config::before(&app));
    for version in ["1.1", "1.0"] {
        for target in ["/length", "/chunk", "/no-last-chunk", "/length/reset", "/no-last-chunk/reset"] {
            let mut client = Client::connect(gateway.address());
            client.send(format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n"));
            let (response, end) = client.response_and_end();
            if target.ends_with("/reset") && response.status == 502 {
                continue; // the reset overtook the answer
            }
            assert_ne!(end, End::Whole, "{version} {target}: {response:?}");
            assert_eq!((response.status, &*response.text()), (200, "hello"), "{version} {target}");
            if version == "1.0" && !target.starts_with("/length") {
                // Without a length or chunks, a proper end would say that this was all.
                assert_eq!(end, End::Reset, "{version} {target}");
            }
        }
    }
    let line = gateway.access("/chunk");
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"upstream_closed".into()));
    assert_eq!(line["decision"], "fail");
}

#[test]
fn a_slow_client_holds_the_app_back() {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&written);
    let body = pattern(64 * MIB);
    let sent = body.clone();
    let app = Upstream::scripted(move |connection| {
        connection.request();
        connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len()));
        for part in sent.chunks(64 * 1024) {
            if !connection.write(part) {
                return;
            }
            counter.fetch_add(part.len(), Ordering::SeqCst);
        }
        connection.wait_closed();
    });
    let gateway = Gateway::start(Config::before(&app).streaming());
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    // Nothing more moves when all buffers of the kernel are full.
    let stuck = settled(&written);
    assert!(stuck < 32 * MIB, "the gateway took {stuck} bytes for a client that reads nothing");
    let memory = resident(gateway.pid());
    assert!(memory < 64 * MIB, "{memory} bytes of memory for one slow client");
    assert!(client.exactly(body.len()) == body, "the body was changed");
}

#[test]
fn a_slow_app_holds_the_client_back() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        let Some(request) = connection.head() else { return };
        theirs.wait();
        let Some(request) = connection.body(request) else {
            return;
        };
        connection.write(ok(&request.body.len().to_string()));
    });
    let gateway = Gateway::start(Config::before(&app).streaming().service("max_body: 128MiB"));
    let mut client = Client::connect(gateway.address());
    let length = 48 * MIB;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
    let (taken, mut sender) = (Arc::new(AtomicUsize::new(0)), client.sender());
    let counter = Arc::clone(&taken);
    let sending = std::thread::spawn(move || {
        for part in pattern(length).chunks(64 * 1024) {
            sender.write_all(part).unwrap();
            counter.fetch_add(part.len(), Ordering::SeqCst);
        }
    });
    let stuck = settled(&taken);
    assert!(stuck < 32 * MIB, "the gateway took {stuck} bytes for an app that reads nothing");
    gate.open();
    assert_eq!(client.response().text(), length.to_string());
    sending.join().unwrap();
}

#[test]
fn an_upload_may_take_longer_than_the_app_may_take_to_answer() {
    let app = Upstream::answering(|request| ok(&request.body.len().to_string()));
    let gateway = Gateway::start(Config::before(&app).streaming().upstream("response_timeout: 3s"));
    let mut client = Client::connect(gateway.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n");
    client.send("12345678");
    // The pause is what is tested: an upload that stands still for longer than the app's deadline.
    std::thread::sleep(Duration::from_millis(3500));
    client.send("12345678");
    assert_eq!(client.response().text(), "16");
}

#[test]
fn an_answer_is_whole_for_a_client_that_reads_late() {
    let body = pattern(2 * MIB);
    let sent = body.clone();
    let app = Upstream::answering(move |_| {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len()).as_bytes(), &sent].concat()
    });
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    app.wait_for_requests(1);
    let response = client.response();
    assert!(response.body == body, "the body was changed");
    client.expect_closed();
    assert_eq!(get(gateway.address(), "/").body.len(), body.len());
}

/// The value at which a counter that counts something stays.
fn settled(counter: &AtomicUsize) -> usize {
    let (mut last, mut same) = (usize::MAX, 0);
    eventually("nothing moves any more", || {
        let now = counter.load(Ordering::SeqCst);
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same > 100).then_some(now)
    })
}

/// Bytes of memory that a process uses.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

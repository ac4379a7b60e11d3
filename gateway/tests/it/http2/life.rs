//! How a connection ends: idle, old, used up, or because the gateway goes down.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::raw::{
    DATA, END_STREAM, GET, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, SOON, WINDOW_UPDATE, frame, request,
};
use super::with_http2;
use crate::harness::{Config, Gate, Gateway, PATIENCE, Upstream, gated, metric, ok};
use crate::slow_clients::{self, SLOW, STEP};

fn start(app: &Upstream, top: &str) -> Gateway {
    Gateway::start(with_http2(&Config::before(app).top(top)))
}

#[test]
fn an_idle_connection_is_told_to_go_whatever_it_pings() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = start(&app, &format!("timeouts: {{keep_alive: {}ms}}", SOON.as_millis()));
    let mut raw = Raw::connect(gateway.address());
    raw.ask(1, &GET);
    assert!(raw.find(|frame| frame.stream == 1).unwrap().is_ok());
    raw.send(&frame(PING, 0, 0, &[7; 8]));
    assert_eq!(raw.leave(), [0, 0], "gracefully, in two steps");
}

#[test]
fn a_client_that_does_not_answer_the_farewell_is_left() {
    let app = Upstream::answering(|_| ok(""));
    let gateway = start(&app, &format!("timeouts: {{keep_alive: {}ms}}", SOON.as_millis()));
    let mut raw = Raw::connect(gateway.address());
    assert_eq!(raw.farewell(), Some(0));
    assert_eq!(raw.find(|_| false), None, "the end");
}

#[test]
fn a_connection_that_is_old_or_used_up_is_told_to_go_and_its_requests_are_answered() {
    let app = Upstream::answering(|_| ok(""));
    let old = start(&app, &format!("timeouts: {{connection: {}ms}}", SOON.as_millis()));
    let used = start(&app, "bounds: {requests_per_connection: 3}");
    for (gateway, asks) in [(&old, 1), (&used, 3)] {
        let mut raw = Raw::connect(gateway.address());
        for number in 0..asks {
            raw.ask(2 * number + 1, &GET);
        }
        let (mut answered, mut told) = (0, 0);
        while let Some(got) = raw.next() {
            answered += u32::from(got.is_ok());
            told += u32::from(got.kind == GOAWAY);
            if got.kind == PING && got.flags == 0 {
                raw.send(&frame(PING, 1, 0, &got.payload));
            }
        }
        assert_eq!((answered, told), (asks, 2));
    }
}

#[test]
fn a_connection_from_before_a_reload_keeps_to_the_new_times_and_bounds_from_its_next_request_on() {
    let app = Upstream::answering(|_| ok(""));
    let config = |top: &str| with_http2(&Config::before(&app).top(top));
    let before = config("");
    for after in [&*format!("timeouts: {{keep_alive: {}ms}}", SOON.as_millis()), "bounds: {requests_per_connection: 2}"]
    {
        let gateway = Gateway::start(&before);
        let mut raw = Raw::connect(gateway.address());
        raw.ask(1, &GET);
        assert!(raw.find(|frame| frame.stream == 1).unwrap().is_ok());
        assert!(crate::lifecycle::reload(&gateway, &config(after)));
        raw.ask(3, &GET);
        let (mut answered, mut told) = (0, 0);
        while let Some(got) = raw.next() {
            answered += u32::from(got.is_ok());
            told += u32::from(got.kind == GOAWAY);
            if got.kind == PING && got.flags == 0 {
                raw.send(&frame(PING, 1, 0, &got.payload));
            }
        }
        assert_eq!((answered, told), (1, 2), "{after}");
    }
}

#[test]
fn when_the_gateway_goes_down_requests_in_flight_are_answered() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        theirs.wait();
        ok("whole")
    });
    let mut gateway = start(&app, "shutdown: {delay: 0s, drain: 10s}");
    let mut raw = Raw::connect(gateway.address());
    for stream in [1, 3, 5] {
        raw.ask(stream, &GET);
    }
    app.wait_for_requests(3);
    gateway.signal("TERM");
    assert_eq!(raw.farewell(), Some(0));
    gate.open();
    for _ in 0..3 {
        assert!(raw.find(|frame| frame.kind == HEADERS).unwrap().is_ok());
    }
    raw.leave();
    assert!(gateway.wait_exit().success());
    assert_eq!(gateway.access_log().iter().filter(|line| line["status"] == 200).count(), 3);
}

#[test]
fn requests_that_are_begun_long_after_the_farewell_are_refused_and_logged() {
    let (gate, app) = gated("/slow", "whole");
    let mut gateway = start(&app, "shutdown: {delay: 0s, drain: 1m}");
    let mut raw = Raw::connect(gateway.address());
    raw.ask(1, &[&GET[..3], &[(":path", "/slow")]].concat());
    app.wait_for_requests(1);
    gateway.signal("TERM");
    assert_eq!(raw.farewell(), Some(0));
    // The PING behind it is never answered. For a while, what comes all the same is served.
    let mut served = 0;
    let refused = (1..).find_map(|number| {
        let stream = 2 * number + 1;
        raw.ask(stream, &GET);
        let got = raw.find(|frame| frame.stream == stream).unwrap();
        if got.kind == RST_STREAM {
            return Some(got.code());
        }
        served += 1;
        raw.find(|frame| frame.stream == stream && frame.flags & END_STREAM != 0).unwrap();
        std::thread::sleep(SOON / 8);
        None
    });
    assert_eq!(refused, Some(7), "REFUSED_STREAM: it may be sent again to somebody else");
    assert!(served > 0);
    let line = gateway.wait_for_log(|line| line["reason"] == "connection_ended");
    assert_eq!((&line["status"], &line["decision"]), (&499.into(), &"refuse".into()), "{line}");
    gate.open();
    assert!(raw.find(|frame| frame.stream == 1).unwrap().is_ok());
    assert!(raw.find(|frame| frame.stream == 1 && frame.flags & END_STREAM != 0).is_some());
    drop(raw);
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert_eq!(gateway.access("/slow")["status"], 200);
}

#[test]
fn requests_that_the_end_of_the_drain_cuts_off_are_answered_or_reset_and_logged() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/begun" {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
            }
            if request.target() == "/download" {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n");
                while connection.write([b'x'; 1 << 14]) {}
            }
            theirs.wait();
        }
    });
    // One worker: a stream that does not come to its end keeps the others from theirs.
    let config = Config::before(&app).workers(1).top("shutdown: {delay: 0s, drain: 3s}");
    let mut gateway = Gateway::start(with_http2(&config));
    let mut raw = Raw::connect(gateway.address());
    for (stream, path) in [(1, "/begun"), (3, "/silent"), (5, "/silent")] {
        raw.ask(stream, &[&GET[..3], &[(":path", path)]].concat());
    }
    // One waits for its window, one for its connection.
    let downloads = [0xffff_u32, 16 << 20].map(|window| {
        let mut raw = Raw::with_settings(gateway.address(), &[&[0, 4][..], &window.to_be_bytes()].concat());
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &(16_u32 << 20).to_be_bytes()));
        raw.ask(1, &[&GET[..3], &[(":path", "/download")]].concat());
        raw
    });
    app.wait_for_requests(5);
    assert!(raw.find(|frame| frame.stream == 1).unwrap().is_ok());
    gateway.signal("TERM");
    let (mut reset, mut refused) = (Vec::new(), 0);
    while let Some(got) = raw.next() {
        match got.kind {
            RST_STREAM => reset.push((got.stream, got.code())),
            HEADERS => refused += u32::from(!got.is_ok()),
            PING if got.flags == 0 => assert!(raw.send(&frame(PING, 1, 0, &got.payload))),
            _ => {}
        }
    }
    assert_eq!((reset, refused), (vec![(1, 2)], 2), "INTERNAL_ERROR for the answer that is not whole");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let lines = gateway.access_log();
    let cut: Vec<_> = lines.iter().filter(|line| line["reason"] == "shutting_down").collect();
    let statuses = |target: &str| -> Vec<_> {
        cut.iter().filter(|line| line["target"] == target).map(|line| line["status"].as_u64().unwrap()).collect()
    };
    assert_eq!((statuses("/begun"), statuses("/silent")), (vec![200], vec![503, 503]), "{lines:?}");
    assert_eq!((statuses("/download"), lines.len()), (vec![200, 200], 5), "{lines:?}");
    drop(downloads);
    gate.open();
}

/// Takes a large answer slowly for a while, and then its rest, with a window of this size that is opened when half of it is used up.
fn takes_it_slowly(window: u32) {
    let app = slow_clients::app();
    // Whoever still takes an answer is not idle either.
    let gateway = start(&app, "timeouts: {write: 4s, keep_alive: 4s}");
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    let mut raw = Raw::with_settings(gateway.address(), &setting);
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
    raw.ask(1, &GET);
    let (begun, mut taken, mut held) = (Instant::now(), 0, 0);
    loop {
        let Some(got) = raw.next() else { panic!("ended after {taken} bytes") };
        if got.kind == PING && got.flags == 0 {
            raw.send(&frame(PING, 1, 0, &got.payload));
        }
        if got.kind == SETTINGS && got.flags == 0 {
            raw.send(&frame(SETTINGS, 1, 0, &[]));
        }
        if got.kind != DATA {
            continue;
        }
        let size = u32::try_from(got.payload.len()).unwrap();
        (taken, held) = (taken + size, held + size);
        if got.flags & 1 == 1 {
            break;
        }
        if held > window / 2 {
            for stream in [0, 1] {
                raw.send(&frame(WINDOW_UPDATE, 0, stream, &held.to_be_bytes()));
            }
            held = 0;
        }
        // At this pace altogether: that a sleep takes longer than it should must not add up.
        let due = Duration::from_millis(100) * (taken / u32::try_from(STEP).unwrap());
        if begun.elapsed() < SLOW {
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    assert_eq!(taken, 8 << 20);
    assert_eq!(gateway.access("/")["status"], 200);
}

#[test]
fn a_slow_reader_gets_a_large_answer_that_waits_for_its_connection() {
    takes_it_slowly(16 << 20);
}

#[test]
fn a_slow_reader_gets_a_large_answer_that_waits_for_its_window() {
    takes_it_slowly(400 << 10);
}

#[test]
fn a_slow_reader_gets_an_answer_that_the_kernel_holds_whole() {
    let answer = "x".repeat(1 << 20);
    let app = Upstream::answering(move |_| ok(&answer));
    // On loopback the kernel tells of what was taken in steps of 64 KiB, which take four frames: 1.2 s here.
    let gateway = start(&app, "timeouts: {keep_alive: 6s}");
    let window = 16_u32 << 20;
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    let mut raw = Raw::with_settings(gateway.address(), &setting);
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
    raw.ask(1, &GET);
    let mut taken = 0;
    while taken < 1 << 20 {
        let Some(got) = raw.next() else { panic!("ended after {taken} bytes") };
        // What a client says on a connection that is closed would reset it.
        raw.send(&frame(PING, 0, 0, &[0; 8]));
        if got.kind == DATA {
            taken += got.payload.len();
            // For longer than all the patience that an idle connection finds on its way out.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

#[test]
fn a_slow_stream_does_not_keep_those_that_have_stalled() {
    let app = Upstream::scripted(|connection| {
        if connection.head().is_some() {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n");
            while connection.write([b'x'; 1 << 14]) {}
        }
    });
    // What is held for so few streams is soon taken.
    let gateway = start(&app, "timeouts: {write: 4s}\nbounds: {streams: 5}");
    let mut raw = Raw::connect(gateway.address());
    let window = ((1_u32 << 31) - 1 - 65_535).to_be_bytes();
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &window));
    for stream in [1, 3, 5, 7] {
        raw.ask(stream, &[&GET[..3], &[(":path", "/stalled")]].concat());
    }
    raw.ask(9, &[&GET[..3], &[(":path", "/slow")]].concat());
    raw.send(&frame(WINDOW_UPDATE, 0, 9, &window));
    let (begun, mut reset, mut taken) = (Instant::now(), Vec::new(), 0);
    while reset.len() < 4 {
        let Some(got) = raw.next() else { panic!("ended after {taken} bytes") };
        match got.kind {
            RST_STREAM => reset.push(got.stream),
            PING if got.flags == 0 => assert!(raw.send(&frame(PING, 1, 0, &got.payload))),
            DATA => {
                taken += got.payload.len();
                // The connection is full all the time.
                std::thread::sleep(Duration::from_millis(4));
            }
            _ => {}
        }
        assert!(begun.elapsed() < PATIENCE, "{reset:?} after {taken} bytes");
    }
    reset.sort_unstable();
    assert_eq!(reset, [1, 3, 5, 7]);
    let lines =
        crate::harness::eventually("they are logged", || Some(gateway.access_log()).filter(|lines| lines.len() >= 4));
    let stalled = |line: &&serde_json::Value| line["reason"] == "client_stalled" && line["target"] == "/stalled";
    assert_eq!((lines.iter().filter(stalled).count(), lines.len()), (4, 4), "{lines:?}");
}

#[test]
fn who_takes_what_the_kernel_holds_slower_than_the_rate_is_not_kept() {
    let answer = "x".repeat(1 << 20);
    let app = Upstream::answering(move |_| ok(&answer));
    let gateway = start(&app, "timeouts: {write: 1s, keep_alive: 1s}\nbounds: {write_rate: 10000000}");
    // It announces its room in small steps.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&gateway.address().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let window = 16_u32 << 20;
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    let mut raw = Raw::over(TcpStream::from(socket), &setting);
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &(window - 65_535).to_be_bytes()));
    raw.ask(1, &GET);
    assert_eq!(gateway.access("/")["status"], 200);
    let mut taken = 0;
    while metric(&gateway, "probegate_connections") > 0.5 {
        let Some(got) = raw.next() else { break };
        taken += got.payload.len();
        assert!(taken < 800 << 10, "it goes on for ever");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Each answer is a copy of its page, and stays as long as its client does not take it.
#[test]
fn pages_that_nobody_takes_are_bounded_together() {
    const PAGES: usize = 9;
    let page = vec![b'x'; 100 << 10];
    let app = Upstream::answering(|_| "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    let service =
        "error_pages: {default: error.html}\nintercept: [404]\nroutes: [{path: /closed/, allow: {network: nowhere}}]";
    let config = Config::before(&app)
        .top("networks: {nowhere: [192.0.2.0/24]}\nbuffers: {total_memory: 900KiB}")
        .service(service);
    let gateway = Gateway::with(with_http2(&config)).file("error.html", &page).start();
    let held = "probegate_buffered_bytes{place=\"memory\"}";
    for path in ["/closed/", "/missing"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(0);
            let (mut send, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
            tokio::spawn(async move { connection.await.ok() });
            let mut pages = Vec::new();
            for _ in 0..2 * PAGES {
                let mut request = request("GET", path);
                request.headers_mut().insert("accept", http::HeaderValue::from_static("text/html"));
                send = send.ready().await.unwrap();
                let answer = tokio::time::timeout(PATIENCE, send.send_request(request, true).unwrap().0);
                pages.push(answer.await.unwrap().unwrap());
            }
            let whole = |answer: &http::Response<h2::RecvStream>| {
                answer.headers()["content-type"] == "text/html; charset=utf-8"
            };
            assert_eq!(pages.iter().filter(|answer| whole(answer)).count(), PAGES, "{path}");
            assert!(
                pages.iter().skip(PAGES).all(|answer| answer.headers()["content-type"] == "application/problem+json")
            );
            crate::harness::wait_for_metric(&gateway, held, 9.0 * 102_400.0);
        });
        // Whoever goes away gives it back.
        drop(runtime);
        crate::harness::wait_for_metric(&gateway, held, 0.0);
    }
}

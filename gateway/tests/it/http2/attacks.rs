//! What is sent to hurt: every one is bounded, logged and counted.

use std::io::Write as _;
use std::time::Instant;

use super::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, Raw, SETTINGS, SOON,
    WINDOW_UPDATE, block, frame,
};
use super::{config, with_http2};
use crate::harness::{Client, Config, Gateway, PATIENCE, Upstream, ok};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const ENHANCE_YOUR_CALM: u32 = 11;

fn start() -> (Upstream, Gateway) {
    let app = Upstream::answering(|_| ok("fine"));
    let gateway = Gateway::start(config(&app));
    (app, gateway)
}

#[test]
fn floods_of_control_frames_end_the_connection() {
    let (_app, gateway) = start();
    for (name, flood, open) in [
        ("PING", frame(PING, 0, 0, &[0; 8]), false),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]), false),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1]), false),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), false),
        ("unknown", frame(0xfa, 0, 0, b"grease"), false),
        ("empty DATA", frame(DATA, 0, 1, b""), true),
    ] {
        let mut raw = Raw::connect(gateway.address());
        if open {
            let mut post = GET;
            post[0].1 = "POST";
            raw.send(&frame(HEADERS, END_HEADERS, 1, &block(&post)));
        }
        for _ in 0..20 {
            if !raw.send(&flood.repeat(100)) {
                break;
            }
        }
        assert_eq!(raw.farewell(), Some(ENHANCE_YOUR_CALM), "{name}");
    }
    let count = || gateway.access_log().iter().filter(|line| line["reason"] == "http2_flood").count();
    crate::harness::eventually("all are logged", || (count() == 6).then_some(()));
    counted(&gateway, "http2_flood", 6.0);
}

/// Waits until a reason is counted so often.
fn counted(gateway: &Gateway, reason: &str, count: f64) {
    let label = format!("reason=\"{reason}\"");
    crate::harness::eventually("it is counted", || {
        let series = crate::harness::metrics(gateway);
        let found = series.iter().find(|(name, _)| name.contains(&label))?;
        ((found.1 - count).abs() < 0.1).then_some(())
    });
}

#[test]
fn cve_2023_44487_resets_without_end_end_the_connection_and_no_requests_pile_up() {
    let app = Upstream::scripted(|connection| {
        connection.wait_closed();
    });
    let gateway = Gateway::start(config(&app));
    let mut raw = Raw::connect(gateway.address());
    for number in 0..2000 {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET));
        if !raw.send(&[head, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()) {
            break;
        }
    }
    assert_eq!(raw.farewell(), Some(ENHANCE_YOUR_CALM));
    gateway.wait_for_log(|line| line["reason"] == "http2_flood");
    crate::harness::eventually("the app is left alone", || (app.open() == 0).then_some(()));
    assert!(app.requests().len() <= 600, "{} requests", app.requests().len());
}

#[test]
fn fields_that_do_not_end_end_the_connection_after_the_time_for_a_head() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.wait_closed();
    });
    let timeouts = format!("timeouts: {{head: {}ms}}", SOON.as_millis());
    let gateway = Gateway::start(with_http2(&Config::before(&app).top(&timeouts)));
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 3, &block(&GET));
    let more = frame(CONTINUATION, 0, 3, &block(&[("x-a", "b")]));
    // CONTINUATION after CONTINUATION, and one frame byte by byte.
    let ways = [(frame(HEADERS, END_STREAM, 3, &block(&GET)), more), (whole[..12].to_vec(), whole[12..13].to_vec())];
    for (number, (begin, drop)) in ways.into_iter().enumerate() {
        // A request that runs does not help, and is not blamed on anybody else.
        let mut raw = Raw::connect(gateway.address());
        let path = format!("/running/{number}");
        raw.ask(1, &[&GET[..3], &[(":path", &*path)]].concat());
        app.wait_for_requests(number + 1);
        let begun = Instant::now();
        raw.send(&begin);
        let mut sender = raw.sender();
        let dribble = std::thread::spawn(move || {
            while begun.elapsed() < PATIENCE && sender.write_all(&drop).is_ok() {
                // Slower than `h2` counts, in the first case.
                std::thread::sleep(SOON / 4);
            }
        });
        assert_eq!(raw.farewell(), Some(ENHANCE_YOUR_CALM));
        assert!(begun.elapsed() >= SOON, "not before");
        let line = gateway.access(&path);
        assert_eq!((&line["reason"], &line["status"]), (&"connection_ended".into(), &499.into()), "{line}");
        raw.sender().shutdown(std::net::Shutdown::Both).unwrap();
        dribble.join().unwrap();
    }
    let logged = || gateway.access_log().iter().filter(|line| line["reason"] == "head_timeout").count();
    crate::harness::eventually("both are logged", || (logged() == 2).then_some(()));
    counted(&gateway, "head_timeout", 2.0);
}

#[test]
fn many_heads_one_after_the_other_may_take_longer_than_one() {
    let app = Upstream::answering(|_| ok(""));
    let timeouts = format!("timeouts: {{head: {}ms}}", SOON.as_millis());
    let gateway = Gateway::start(with_http2(&Config::before(&app).top(&timeouts)));
    let mut raw = Raw::connect(gateway.address());
    let block = block(&GET);
    let begun = Instant::now();
    let mut stream = 1;
    while begun.elapsed() < 3 * SOON {
        raw.send(&frame(HEADERS, END_STREAM, stream, &block[..9]));
        std::thread::sleep(SOON / 20);
        raw.send(&frame(CONTINUATION, END_HEADERS, stream, &block[9..]));
        assert!(raw.find(|frame| frame.stream == stream).unwrap().is_ok());
        stream += 2;
    }
}

#[test]
fn cve_2024_27316_a_head_without_end_ends_the_connection() {
    let (_app, gateway) = start();
    let mut raw = Raw::connect(gateway.address());
    raw.send(&frame(HEADERS, 0, 1, &block(&GET)));
    for _ in 0..1000 {
        if !raw.send(&frame(CONTINUATION, 0, 1, &block(&[("x-a", "b")]))) {
            break;
        }
    }
    assert_eq!(raw.farewell(), Some(ENHANCE_YOUR_CALM));
    gateway.wait_for_log(|line| line["reason"] == "http2_flood");
}

#[test]
fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let (app, gateway) = start();
    let mut raw = Raw::connect(gateway.address());
    let large = "x".repeat(40_000);
    let block = block(&[&GET[..], &[("x-large", &*large)]].concat());
    let (first, rest) = block.split_at(16_000);
    let (second, third) = rest.split_at(16_000);
    raw.send(
        &[
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, 0, 1, second),
            frame(CONTINUATION, END_HEADERS, 1, third),
        ]
        .concat(),
    );
    let head = raw.find(|frame| frame.stream == 1).unwrap();
    assert_eq!((head.kind, head.is_ok()), (HEADERS, false));
    assert_eq!(gateway.wait_for_log(|line| line["reason"] == "head_too_large")["status"], 431);
    raw.ask(3, &GET);
    assert!(raw.find(|frame| frame.stream == 3).unwrap().is_ok());
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn rfc_9113_8_malformed_requests_reset_their_stream_and_reach_nobody() {
    let (app, gateway) = start();
    let mut raw = Raw::connect(gateway.address());
    let plain = |field: (&'static str, &'static str)| [&GET[..], &[field]].concat();
    let without = |name: &str| GET.into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    let path = |path: &'static str| [&without(":path")[..], &[(":path", path)]].concat();
    let cases = [
        plain(("connection", "close")),
        plain(("transfer-encoding", "chunked")),
        plain(("upgrade", "h2c")),
        plain(("keep-alive", "1")),
        plain(("proxy-connection", "close")),
        plain(("te", "gzip")),
        plain((":path", "/twice")),
        plain((":authority", "late")),
        plain((":status", "200")),
        plain(("content-length", "five")),
        without(":method"),
        without(":scheme"),
        without(":path"),
        path(""),
        path("/a b"),
        path("/a\r\nX: y"),
    ];
    let count = cases.len();
    for (number, fields) in cases.into_iter().enumerate() {
        let stream = u32::try_from(2 * number + 1).unwrap();
        raw.ask(stream, &fields);
        let reset = raw.find(|frame| frame.stream == stream || frame.kind == GOAWAY);
        let reset = reset.unwrap_or_else(|| panic!("the connection ended at {fields:?}"));
        assert_eq!((reset.kind, reset.code()), (RST_STREAM, PROTOCOL_ERROR), "{fields:?}");
    }
    raw.ask(999, &GET);
    assert!(raw.find(|frame| frame.stream == 999).unwrap().is_ok());
    assert_eq!(app.requests().len(), 1);
    let logged = || gateway.access_log().iter().filter(|line| line["reason"] == "http2_invalid").count();
    crate::harness::eventually("all are logged", || (logged() == count).then_some(()));
}

#[test]
fn rfc_9113_8_2_1_bytes_that_no_field_may_have_end_the_connection() {
    let (app, gateway) = start();
    let cases = [
        ("Upper", "case"),
        (":unknown", "x"),
        ("x-line", "a\r\nX-Injected: b"),
        ("x-feed", "a\nb"),
        ("x-nul", "a\0b"),
        ("x name", "b"),
        ("", "b"),
    ];
    for field in cases {
        let mut raw = Raw::connect(gateway.address());
        raw.ask(1, &[&GET[..], &[field]].concat());
        assert_eq!(raw.farewell(), Some(PROTOCOL_ERROR), "{field:?}");
    }
    assert!(app.requests().is_empty());
    let logged = || gateway.access_log().iter().filter(|line| line["reason"] == "http2_invalid").count();
    crate::harness::eventually("all are logged", || (logged() == cases.len()).then_some(()));
}

#[test]
fn rfc_9113_8_2_1_blanks_around_a_value_and_other_schemes_are_refused_here() {
    let (app, gateway) = start();
    let mut raw = Raw::connect(gateway.address());
    for (number, value) in [" lead", "trail ", "\ttab"].into_iter().enumerate() {
        let stream = u32::try_from(2 * number + 1).unwrap();
        raw.ask(stream, &[&GET[..], &[("x-blank", value)]].concat());
        let head = raw.find(|frame| frame.stream == stream).unwrap();
        assert_eq!((head.kind, head.payload[0]), (HEADERS, 0x8c), "400: {value:?}");
    }
    assert_eq!(gateway.wait_for_log(|line| line["status"] == 400)["reason"], "field_invalid");
    assert!(app.requests().is_empty());
}

#[test]
fn broken_rules_of_the_connection_end_it() {
    let (_app, gateway) = start();
    let overflow = [0x7f, 0xff, 0xff, 0xff];
    for (name, bytes, code) in [
        ("window of the connection", frame(WINDOW_UPDATE, 0, 0, &overflow), FLOW_CONTROL_ERROR),
        ("data for a stream that is not open", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("a head for an even stream", frame(HEADERS, 5, 2, &block(&GET)), PROTOCOL_ERROR),
        ("CONTINUATION alone", frame(CONTINUATION, 4, 1, b""), PROTOCOL_ERROR),
        ("compression broken", frame(HEADERS, 5, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), PROTOCOL_ERROR),
    ] {
        let mut raw = Raw::connect(gateway.address());
        raw.send(&bytes);
        let ended = raw.farewell();
        assert!(ended == Some(code) || (code == PROTOCOL_ERROR && ended == Some(9)), "{name}: {ended:?}");
    }
    let logged = || gateway.access_log().iter().filter(|line| line["reason"] == "http2_invalid").count();
    crate::harness::eventually("all are logged", || (logged() == 5).then_some(()));
}

#[test]
fn requests_that_end_with_a_broken_connection_are_not_blamed_on_their_client_leaving() {
    let app = Upstream::scripted(|connection| {
        connection.head();
        connection.wait_closed();
    });
    let gateway = Gateway::start(with_http2(&Config::before(&app).streaming()));
    let mut raw = Raw::connect(gateway.address());
    raw.ask(1, &[&GET[..3], &[(":path", "/waits")]].concat());
    let post = [(":method", "POST"), GET[1], GET[2], (":path", "/uploads")];
    raw.send(&frame(HEADERS, END_HEADERS, 3, &block(&post)));
    app.wait_for_requests(2);
    raw.send(&frame(CONTINUATION, 4, 1, b""));
    assert_eq!(raw.farewell(), Some(PROTOCOL_ERROR));
    for target in ["/waits", "/uploads"] {
        let line = gateway.access(target);
        assert_eq!((&line["reason"], &line["status"]), (&"connection_ended".into(), &499.into()), "{line}");
    }
    gateway.wait_for_log(|line| line["reason"] == "http2_invalid");
    // One who leaves does.
    let mut raw = Raw::connect(gateway.address());
    raw.ask(1, &[&GET[..3], &[(":path", "/leaves")]].concat());
    app.wait_for_requests(3);
    drop(raw);
    assert_eq!(gateway.access("/leaves")["reason"], "client_closed");
}

#[test]
fn a_client_that_opens_no_window_is_not_waited_for() {
    let app = Upstream::answering(|_| ok(&"x".repeat(100_000)));
    let gateway = Gateway::start(with_http2(&Config::before(&app).top("timeouts: {write: 400ms}")));
    // SETTINGS_INITIAL_WINDOW_SIZE 0
    let mut raw = Raw::with_settings(gateway.address(), &[0, 4, 0, 0, 0, 0]);
    raw.ask(1, &GET);
    assert!(raw.find(|frame| frame.stream == 1).unwrap().is_ok());
    let reset = raw.find(|frame| frame.stream == 1).unwrap();
    assert_eq!(reset.kind, RST_STREAM, "{reset:?}");
    assert_eq!(gateway.access("/")["reason"], "client_stalled");
    crate::harness::eventually("the app is left alone", || (app.open() == 0).then_some(()));
}

#[test]
fn what_begins_like_http_2_and_is_not_is_told_so() {
    let app = Upstream::answering(|_| ok("fine"));
    let timeouts = format!("timeouts: {{head: {}ms}}", SOON.as_millis());
    let gateway = Gateway::start(with_http2(&Config::before(&app).top(&timeouts)));
    let mut client = Client::connect(gateway.address());
    client.send("PRI * HTTP/2.0\r\n\r\nXX");
    assert_eq!(client.response().status, 505);
    // Half a preface, and nothing more.
    let mut client = Client::connect(gateway.address());
    client.send(&PREFACE[..10]);
    assert_eq!(client.response().status, 408);
    assert_eq!(gateway.wait_for_log(|line| line["status"] == 408)["reason"], "head_timeout");
    // A method that begins like the preface.
    let mut client = Client::connect(gateway.address());
    client.send("PR");
    client.send("OPFIND / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

//! What counts for a server and against it, and how one that was left out is tried.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::{config, of_server};
use crate::harness::{
    Call, Client, Connection, Gateway, Http2App, Unreachable, Upstream, eventually, exchange, get, ok, send,
};

const SPARE: fn(&crate::harness::Request) -> Vec<u8> = |_| ok("spare");

fn with_spare(server: &str, spare: &Upstream) -> String {
    format!("[\"{server}\", {{address: \"{}\", backup: true}}]", spare.server())
}

/// A server that hangs answers no trial, and every trial takes longer than the time for which it is left out.
#[test]
fn a_server_that_hangs_is_left_out_longer_each_time_though_trials_take_long() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let hangs = Upstream::scripted(move |connection: &mut Connection| {
        connection.request();
        noted.lock().unwrap().push(SystemTime::now());
        connection.wait_closed();
    });
    let spare = Upstream::answering(|_| {
        thread::sleep(Duration::from_millis(10));
        ok("spare")
    });
    let upstream = "response_timeout: 3s\nfail_timeout: 1s\nretries: {on: [timeout]}";
    let gateway = Gateway::start(config(&with_spare(&hangs.server(), &spare), 2, upstream));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address());
                while !stop.load(Ordering::SeqCst) {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.response().text(), "spare");
                }
            });
        }
        // When it was left out for so long.
        let longer = |seconds: u64| {
            let line = gateway.wait_for_log(|line| {
                line["message"] == "server fails and is left out" && line["seconds"].as_u64() == Some(seconds)
            });
            let at = chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).unwrap();
            UNIX_EPOCH + Duration::from_micros(at.timestamp_micros().try_into().unwrap())
        };
        let (first, _, last) = (longer(1), longer(2), longer(4));
        stop.store(true, Ordering::SeqCst);
        let tried = asked.lock().unwrap().iter().filter(|at| (first..last).contains(*at)).count();
        assert_eq!(tried, 2, "one request tries it at a time");
    });
}

#[test]
fn a_server_is_back_when_its_answer_begins_and_not_when_it_ends() {
    let works = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&works);
    let app = Upstream::scripted(move |connection: &mut Connection| {
        let Some(request) = connection.request() else { return };
        if request.target() == "/stream" && asked.load(Ordering::SeqCst) {
            connection.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n");
            connection.wait_closed();
        } else if asked.load(Ordering::SeqCst) {
            connection.write(ok("back"));
        }
    });
    let spare = Upstream::answering(SPARE);
    let gateway = Gateway::start(config(&with_spare(&app.server(), &spare), 1, "fail_timeout: 1s"));
    assert_eq!(get(gateway.address(), "/").text(), "spare");
    works.store(true, Ordering::SeqCst);
    let _stream = eventually("a stream from the server that was left out", || {
        let mut client = Client::connect(gateway.address());
        client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = String::from_utf8(client.head()).unwrap();
        head.contains("event-stream").then_some(client)
    });
    gateway.wait_for_log(|line| line["message"] == "server is back");
    assert_eq!(get(gateway.address(), "/").text(), "back", "while the stream goes on");
}

#[test]
fn an_answer_that_breaks_off_counts_unless_its_client_kept_the_app_waiting() {
    const LARGE: usize = 32 << 20;
    let app = Upstream::scripted(|connection: &mut Connection| {
        connection.request();
        connection.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LARGE + 1));
        connection.write(vec![b'a'; LARGE]);
    });
    let spare = Upstream::answering(SPARE);
    let gateway = Gateway::start(config(&with_spare(&app.server(), &spare), 1, "") + "    buffering: off\n");
    let mut client = Client::connect(gateway.address());
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    // Longer than an app that is only a little impatient would wait.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.rest().0.len(), LARGE);
    assert_eq!(gateway.access("/slow")["reason"], "upstream_closed");
    assert!(of_server(&gateway, "probegate_upstream_failures_total", &app.server()) < 0.5);
    // As fast as this thread gets a processor.
    let mut number = 0;
    eventually("it counts", || {
        number += 1;
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET /fast/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.head();
        assert_eq!(client.rest().0.len(), LARGE);
        assert_eq!(gateway.access(&format!("/fast/{number}"))["reason"], "upstream_closed");
        (of_server(&gateway, "probegate_upstream_failures_total", &app.server()) > 0.5).then_some(())
    });
    assert_eq!(get(gateway.address(), "/").text(), "spare");
}

/// Each takes the whole time to connect: nobody waits for all of them.
#[test]
fn servers_that_swallow_connections_cost_attempts() {
    let swallow: Vec<_> = (0..4).map(|_| Unreachable::full()).collect();
    let spare = Upstream::answering(SPARE);
    let listed: Vec<_> = swallow.iter().map(|server| format!("\"{}\"", server.server())).collect();
    let servers = format!("[{}, {{address: \"{}\", backup: true}}]", listed.join(", "), spare.server());
    let upstream = "connect_timeout: 1s\nmax_fails: 0\nretries: {attempts: 1}";
    let gateway = Gateway::start(config(&servers, 1, upstream));
    let begun = Instant::now();
    let post = exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(post.status, 504);
    assert_eq!(gateway.access("/")["reason"], "upstream_connect_timeout");
    let failures = |server: &Unreachable| of_server(&gateway, "probegate_upstream_failures_total", &server.server());
    let dialled: f64 = swallow.iter().map(failures).sum();
    assert!((dialled - 2.0).abs() < 0.1, "{dialled} in {:?}", begun.elapsed());
    // One of them costs nobody his answer.
    let servers = with_spare(&swallow[0].server(), &spare);
    let gateway = Gateway::start(config(&servers, 1, upstream));
    let post = exchange(gateway.address(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(post.text(), "spare");
}

/// RFC 9113 §5.4.2: a stream error is about one request.
#[test]
fn a_stream_that_the_app_gives_up_counts_as_an_error_status_does() {
    let app = || {
        Http2App::scripted(|mut call: Call| async move {
            if call.seen().uri.ends_with("/within") {
                let mut stream = call.start(200, &[]);
                send(&mut stream, Bytes::from_static(b"half"), false).await;
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            } else {
                call.reply.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        })
    };
    for (fail_on, failures) in [("", 0.0), ("\nfail_on: [502]", 1.0)] {
        for target in ["/before", "/within"] {
            let (app, spare) = (app(), app());
            let servers = format!("[\"{}\", {{address: \"{}\", backup: true}}]", app.server(), spare.server());
            let gateway = Gateway::start(config(&servers, 1, &format!("protocol: http2{fail_on}")));
            let mut client = Client::connect(gateway.address());
            client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            client.response_and_end();
            gateway.access(target);
            let counted = of_server(&gateway, "probegate_upstream_failures_total", &app.server());
            assert!((counted - failures).abs() < 0.1, "{target} {fail_on} {counted}");
        }
    }
}

#[test]
fn only_the_methods_that_are_named_are_sent_again() {
    let closes = Upstream::scripted(|connection| drop(connection.request()));
    let spare = Upstream::answering(SPARE);
    let upstream = "max_fails: 0\nretries: {methods: [GET, DELETE]}";
    let gateway = Gateway::start(config(&with_spare(&closes.server(), &spare), 1, upstream));
    for (method, status) in [("GET", 200), ("DELETE", 200), ("PUT", 502), ("OPTIONS", 502), ("POST", 502)] {
        let asked = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(exchange(gateway.address(), asked).status, status, "{method}");
    }
}

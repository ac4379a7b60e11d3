//! For how long a request has its place: however it ends, the place is free again.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{app, ask, in_flight, limited, silent, waiting};
use crate::harness::{Client, Config, Gateway, Redis, Upstream, eventually, get, ok, probegate, run};
use crate::http2::with_http2;

const HANDSHAKE: &str = concat!(
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
);

#[test]
fn streams_of_one_connection_count_each() {
    let (app, released) = app();
    let gateway = Gateway::start(with_http2(&limited(&app, "{max_in_flight: 2}")));
    let url = format!("http://{}/hold/1", gateway.address());
    let client = thread::spawn(move || run(Command::new("nghttp").args(["-v", "-m", "5", &url])));
    app.wait_for_requests(2);
    eventually("the others are refused", || (gateway.access_log().len() >= 3).then_some(()));
    in_flight(&gateway, 2.0);
    released.release("/hold/1");
    let ended = client.join().unwrap();
    assert_eq!(ended.out.matches(":status: 200").count(), 2, "{ended:?}");
    assert_eq!(ended.out.matches(":status: 429").count(), 3, "{ended:?}");
    in_flight(&gateway, 0.0);
}

#[test]
fn streams_of_one_connection_wait_each() {
    let (app, released) = app();
    released.release("/hold/1");
    let limit = "{max_in_flight: 1, queue: 9, queue_timeout: 60s}";
    let gateway = Gateway::start(with_http2(&limited(&app, limit)));
    let url = format!("http://{}/hold/1", gateway.address());
    let ended = run(Command::new("nghttp").args(["-v", "-m", "10", &url]));
    assert_eq!(ended.out.matches(":status: 200").count(), 10, "{ended:?}");
    in_flight(&gateway, 0.0);
    waiting(&gateway, 0.0);
}

#[test]
fn a_client_that_goes_leaves_its_place() {
    let app = Upstream::scripted(silent);
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1}"));
    for round in 1..=2 {
        let client = ask(&gateway, "/hangs");
        app.wait_for_requests(round);
        assert_eq!(get(gateway.address(), "/refused").status, 429);
        if round == 1 {
            drop(client);
        } else {
            client.reset();
        }
        in_flight(&gateway, 0.0);
    }
    assert_eq!(get(gateway.address(), "/after").status, 200);
}

#[test]
fn a_process_that_is_killed_leaves_its_places() {
    let app = Upstream::scripted(silent);
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1}"));
    let url = format!("http://{}/hangs", gateway.address());
    let mut curl = Command::new("curl").args(["-s", &url]).spawn().unwrap();
    app.wait_for_requests(1);
    in_flight(&gateway, 1.0);
    curl.kill().unwrap();
    curl.wait().unwrap();
    in_flight(&gateway, 0.0);
    assert_eq!(get(gateway.address(), "/after").status, 200);
}

#[test]
fn a_websocket_has_its_place_until_it_ends() {
    let app = Upstream::scripted(silent);
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 1, queue_timeout: 60s}"));
    let mut socket = Client::connect(gateway.address());
    socket.send(HANDSHAKE);
    assert_eq!(socket.response().status, 101);
    let mut second = ask(&gateway, "/second");
    waiting(&gateway, 1.0);
    in_flight(&gateway, 1.0);
    assert_eq!(get(gateway.address(), "/third").status, 429);
    drop(socket);
    assert_eq!(second.response().text(), "plain");
    in_flight(&gateway, 0.0);
}

#[test]
fn a_panic_gives_the_place_back() {
    let (app, _released) = app();
    let gateway = Gateway::with(limited(&app, "{max_in_flight: 1}")).may_panic().start();
    for _ in 0..3 {
        assert_eq!(get(gateway.address(), "/.fault/panic").status, 500);
        in_flight(&gateway, 0.0);
    }
    assert_eq!(get(gateway.address(), "/after").status, 200);
}

#[test]
fn an_answer_is_in_flight_until_the_client_has_it() {
    let body = "x".repeat(32 << 20);
    let app = Upstream::answering(move |request| ok(if request.target() == "/large" { &body } else { "small" }));
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1}"));
    let mut slow = Client::connect_narrow(gateway.address());
    slow.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    // The app is done with it, and has answered others meanwhile.
    app.wait_for_requests(1);
    in_flight(&gateway, 1.0);
    assert_eq!(get(gateway.address(), "/small").status, 429);
    assert_eq!(slow.response().body.len(), 32 << 20);
    in_flight(&gateway, 0.0);
}

#[test]
fn one_place_is_enough_for_many_clients_on_several_workers() {
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (theirs, seen) = (Arc::clone(&at_once), Arc::clone(&most));
    let app = Upstream::answering(move |_| {
        seen.fetch_max(theirs.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::yield_now();
        theirs.fetch_sub(1, Ordering::SeqCst);
        ok("served")
    });
    let limit = "{max_in_flight: 1, queue: 1000, queue_timeout: 60s, key: service}";
    let gateway = Gateway::start(limited(&app, limit).workers(4));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address());
                for _ in 0..25 {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(client.response().status, 200);
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1);
    // A wake-up that is lost costs a tenth of a second, so that 800 requests would show it.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    in_flight(&gateway, 0.0);
    waiting(&gateway, 0.0);
}

#[test]
fn the_store_of_shared_limits_is_not_charged_for_who_finds_no_place_and_whom_it_refuses_holds_none() {
    let redis = Redis::start();
    let (app, released) = app();
    let top = format!(
        "limits:\n  exports: {{max_in_flight: 1, queue: 1, queue_timeout: 5s}}\n  \
         all: {{rate: 1/h, burst: 1, shared: true}}\nlimit_store: {{redis: \"{}\", replicas: 1, timeout: 900ms}}",
        redis.url()
    );
    let gateway = Gateway::start(Config::before(&app).top(&top).service("limits: [all, exports]"));
    let mut held = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    let mut late = ask(&gateway, "/late");
    waiting(&gateway, 1.0);
    assert_eq!(get(gateway.address(), "/full").status, 429);
    assert_eq!(late.response().status, 429);
    assert_eq!(gateway.access("/late")["reason"], "in_flight_exceeded");
    released.release("/hold/1");
    assert_eq!(held.response().status, 200);
    in_flight(&gateway, 0.0);
    assert_eq!(get(gateway.address(), "/second").status, 200);
    for _ in 0..2 {
        assert_eq!(get(gateway.address(), "/third").status, 429);
        assert_eq!(gateway.access("/third")["reason"], "limit_exceeded");
        in_flight(&gateway, 0.0);
    }
}

#[test]
fn explain_says_who_has_how_many_places() {
    let told =
        run(&mut probegate(["explain", "-c", "examples/concurrency-limits/probegate.yaml", "GET", "/export/"])).out;
    assert!(
        told.contains("while it is in flight: 2 at a time, 3 more wait for 10s at the most; beyond that, 429"),
        "{told}"
    );
    assert!(told.contains("50 at a time; in shadow mode: it refuses nobody"), "{told}");
    let told =
        run(&mut probegate(["explain", "-c", "examples/concurrency-limits/probegate.yaml", "GET", "/reports/"])).out;
    assert!(told.contains("beyond that, 503 (capacity_exceeded)"), "{told}");
}

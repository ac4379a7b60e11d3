//! What lies between a gateway and its store: connections that are swallowed, held, or filled without an end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::gateway_with;
use crate::harness::{Gateway, Redis, Reply, Resp, Upstream, eventually, get, metric, ok};

const LIMIT: &str = "limits: {all: {rate: 3600/h, burst: 3599, shared: true}}";

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

/// Passes on what comes and goes.
struct Relay {
    address: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    /// Connections that were made.
    accepted: AtomicUsize,
    /// The one, counted from 1, of which nothing arrives any more.
    swallowed: AtomicUsize,
    /// New ones are accepted, and nothing else.
    holds: AtomicBool,
}

impl Relay {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self { address: listener.local_addr().unwrap(), line: Arc::default() };
        let line = Arc::clone(&relay.line);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for client in listener.incoming().map(Result::unwrap) {
                let number = line.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                if line.holds.load(Ordering::SeqCst) {
                    held.push(client);
                    continue;
                }
                let server = TcpStream::connect(server).unwrap();
                let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                for (from, to) in [(client, server), (back, forth)] {
                    let line = Arc::clone(&line);
                    std::thread::spawn(move || pass(from, to, &|| line.swallowed.load(Ordering::SeqCst) == number));
                }
            }
        });
        relay
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    fn accepted(&self) -> usize {
        self.line.accepted.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_swallowed: &dyn Fn() -> bool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !is_swallowed() && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

/// A firewall forgets one connection. What the other workers hear says nothing about it.
#[test]
fn a_connection_that_nothing_comes_back_on_is_made_again() {
    let (redis, app) = (Redis::start(), app());
    let relay = Relay::to(redis.address());
    let text = super::config(&app, &relay.url(), LIMIT, "limits: [all]", "timeout: 150ms");
    let gateway = Gateway::start(text.replace("workers: 1", "workers: 8"));
    let ask = || assert_eq!(get(gateway.address(), "/").status, 200);
    eventually("all are connected", || {
        ask();
        (relay.accepted() >= 8).then_some(())
    });
    relay.line.swallowed.store(1, Ordering::SeqCst);
    eventually("its worker connects again", || {
        ask();
        (relay.accepted() > 8).then_some(())
    });
    let local = || metric(&gateway, "probegate_limit_store_decisions_total{by=\"local\"}");
    eventually("the store decides", || {
        let before = local();
        (0..40).for_each(|_| ask());
        (local() - before < 0.5).then_some(())
    });
}

/// Somebody answers the door, and then nobody says a word.
#[test]
fn a_connection_that_is_never_finished_holds_nobody_up() {
    let (redis, app) = (Redis::with(&["--requirepass", "hush"]), app());
    let relay = Relay::to(redis.address());
    let store = "timeout: 150ms\npassword: {value: hush}";
    let gateway = gateway_with(&app, &relay.url(), LIMIT, "limits: [all]", store).start();
    let of = |name: &str| metric(&gateway, name);
    let ask = || {
        let began = Instant::now();
        assert_eq!(get(gateway.address(), "/").status, 200);
        // Connecting is given up after two seconds.
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    };
    eventually("it is asked", || {
        ask();
        (of("probegate_limit_store_decisions_total{by=\"store\"}") > 0.5).then_some(())
    });
    relay.line.holds.store(true, Ordering::SeqCst);
    let mut root = Resp::connect(redis.address());
    assert_eq!(root.run(&["AUTH", "hush"]), Reply::Text("OK".to_owned()));
    root.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let unreachable = "probegate_limit_store_failures_total{reason=\"unreachable\"}";
    let before = of(unreachable);
    eventually("it is given up", || {
        ask();
        let is_open = of("probegate_limit_store_breaker_opened_total") > 0.5;
        (is_open && of(unreachable) > before + 0.5).then_some(())
    });
    relay.line.holds.store(false, Ordering::SeqCst);
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
    let before = of("probegate_limit_store_decisions_total{by=\"store\"}");
    ask();
    assert!(of("probegate_limit_store_decisions_total{by=\"store\"}") > before);
}

/// The client library keeps an answer until it is whole, and the memory of the gateway is not the store's.
#[test]
fn an_answer_without_an_end_is_not_listened_to() {
    const ENOUGH: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (said, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&said), Arc::clone(&calls));
    std::thread::spawn(move || {
        for mut client in listener.incoming().map(Result::unwrap) {
            let counts = (Arc::clone(&counts.0), Arc::clone(&counts.1));
            std::thread::spawn(move || {
                if !matches!(client.read(&mut [0; 4096]), Ok(1..)) {
                    return;
                }
                client.write_all(b"$4000000000\r\n").ok();
                let (mut own, page) = (0, vec![b'x'; 1 << 16]);
                while own < ENOUGH && client.write_all(&page).is_ok() {
                    own += page.len();
                }
                counts.0.fetch_max(own, Ordering::SeqCst);
                counts.1.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let app = app();
    let gateway = gateway_with(&app, &url, LIMIT, "limits: [all]", "timeout: 150ms").start();
    eventually("it has hung up", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (calls.load(Ordering::SeqCst) > 0).then_some(())
    });
    // With what lies in the buffers of the system.
    assert!(said.load(Ordering::SeqCst) < ENOUGH / 2, "{}", said.load(Ordering::SeqCst));
    assert!(metric(&gateway, "probegate_limit_store_failures_total{reason=\"broken\"}") > 0.5);
}

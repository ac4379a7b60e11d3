//! What a request gets while there is no answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{gateway, gateway_with};
use crate::harness::{
    Folder, Gateway, Redis, Reply, Upstream, eventually, free_address, get, metric, ok, wait_for_metric,
};

const LIMIT: &str = "limits: {all: {rate: 6/h, shared: true}}";

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(gateway.address(), "/").status).collect()
}

#[test]
fn a_gateway_starts_without_its_store_and_asks_it_when_it_is_there() {
    let address = free_address();
    let app = app();
    let gateway = gateway_with(&app, &format!("redis://{address}"), LIMIT, "limits: [all]", "timeout: 900ms").start();
    // Its share is two of six.
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    let line = gateway.wait_for_log(|line| line["level"] == "WARN" && line["reason"].is_string());
    let message = line["message"].as_str().unwrap();
    assert_eq!(message, "the limit store is not asked any more: each gateway counts alone, with 1/3 of the limit");
    assert_eq!(line["reason"], "unreachable");
    let redis = Redis::on(address, Folder::new(), &[]);
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
    // The store has heard of none of them.
    assert_eq!(statuses(&gateway, 7), [200, 200, 200, 200, 200, 200, 429]);
    drop(redis);
}

#[test]
fn open_lets_pass_and_closed_refuses() {
    let app = app();
    let nobody = format!("redis://{}", free_address());
    let open = gateway_with(&app, &nobody, LIMIT, "limits: [all]", "on_failure: open").start();
    assert_eq!(statuses(&open, 20), [200; 20]);
    wait_for_metric(&open, "probegate_limit_store_decisions_total{by=\"open\"}", 20.0);
    let limits = "limits: {all: {rate: 6/h, shared: true}, own: {rate: 2/h}}";
    let closed = gateway_with(&app, &nobody, limits, "limits: [own, all]", "on_failure: closed").start();
    for _ in 0..3 {
        let refused = get(closed.address(), "/closed");
        assert_eq!((refused.status, refused.field("retry-after").as_deref()), (503, Some("5")));
    }
    let line = closed.access("/closed");
    assert_eq!((line["reason"].as_str(), line["status"].as_u64()), (Some("limit_unavailable"), Some(503)));
    // Nor has any of them used up the gateway's own limit, which would say 429.
    assert_eq!(statuses(&closed, 3), [503; 3]);
}

#[test]
fn a_client_that_has_used_up_its_limit_does_not_begin_anew_when_the_store_goes() {
    let mut redis = Redis::start();
    let app = app();
    let gateway = gateway(&app, &redis, LIMIT, "limits: [all]");
    assert_eq!(statuses(&gateway, 7), [200, 200, 200, 200, 200, 200, 429]);
    redis.kill();
    gateway.wait_for_log(|line| line["level"] == "WARN" && line["reason"].is_string());
    assert_eq!(statuses(&gateway, 3), [429; 3]);
}

#[test]
fn a_server_that_may_not_be_written_to_is_as_good_as_gone() {
    let redis = Redis::start();
    let app = app();
    let gateway = gateway(&app, &redis, "limits: {all: {rate: 60000/h, burst: 59, shared: true}}", "limits: [all]");
    assert_eq!(statuses(&gateway, 3), [200; 3]);
    redis.run(&["CONFIG", "SET", "maxmemory", "1"]);
    redis.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    eventually("it is noticed", || {
        assert!(matches!(get(gateway.address(), "/").status, 200 | 429));
        gateway.log_lines().iter().any(|line| line.contains("OOM")).then_some(())
    });
    redis.run(&["CONFIG", "SET", "maxmemory", "0"]);
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
    let before = metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}");
    assert!(matches!(get(gateway.address(), "/").status, 200 | 429));
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > before);
}

/// With several workers as well: that others are connected to such a server says nothing for it.
#[test]
fn a_server_that_only_reads_is_not_asked_any_more() {
    let redis = Redis::start();
    let app = app();
    let limits = "limits: {all: {rate: 3600/h, burst: 3599, shared: true}}";
    let text = super::config(&app, &redis.url(), limits, "limits: [all]", "timeout: 900ms");
    let gateway = Gateway::start(text.replace("workers: 1", "workers: 3"));
    let of = |name: &str| metric(&gateway, name);
    eventually("it is asked", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (of("probegate_limit_store_decisions_total{by=\"store\"}") > 5.5).then_some(())
    });
    // Of a master that is not there.
    assert_eq!(redis.run(&["REPLICAOF", "127.0.0.1", "1"]), Reply::Text("OK".to_owned()));
    eventually("it is noticed", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (of("probegate_limit_store_breaker_opened_total") > 0.5).then_some(())
    });
    gateway.wait_for_log(|line| line["reason"] == "broken" && line["level"] == "WARN");
    let failed = of("probegate_limit_store_failures_total{reason=\"broken\"}");
    assert!((4.5..12.5).contains(&failed), "five in a row are enough, and a trial now and then: {failed}");
    assert_eq!(redis.run(&["REPLICAOF", "NO", "ONE"]), Reply::Text("OK".to_owned()));
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
}

/// What no script can have said is not believed, or a client would be refused for as long as somebody likes.
#[test]
fn a_server_that_answers_what_can_not_be_is_as_good_as_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            std::thread::spawn(move || {
                let mut bytes = vec![0; 4096];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    let asked = bytes[..count].windows(7).filter(|word| *word == b"EVALSHA").count();
                    let said = "*3\r\n:1\r\n:9000000000000000000\r\n:0\r\n".repeat(asked);
                    if client.write_all(said.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    let app = app();
    let gateway = gateway_with(&app, &url, LIMIT, "limits: [all]", "timeout: 900ms").start();
    // Its share is two of six.
    assert_eq!(statuses(&gateway, 2), [200, 200]);
    let refused = get(gateway.address(), "/");
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((refused.status, after <= 1800) == (429, true), "{after}");
    let failed = metric(&gateway, "probegate_limit_store_failures_total{reason=\"refused\"}");
    assert!(failed > 2.5, "{failed}");
}

/// A connection that breaks while nobody uses it is made again, and one request at the most is counted locally for it.
#[test]
fn a_connection_that_is_cut_is_made_again() {
    let redis = Redis::start();
    let app = app();
    let gateway = gateway(&app, &redis, "limits: {all: {rate: 3600/h, burst: 99, shared: true}}", "limits: [all]");
    for _ in 0..3 {
        assert_eq!(statuses(&gateway, 2), [200; 2]);
        redis.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        eventually("it is asked again", || {
            let before = metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}");
            assert_eq!(get(gateway.address(), "/").status, 200);
            (metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > before).then_some(())
        });
    }
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"local\"}") < 20.0);
}

/// One worker of two may connect: the store is there, and the other one counts alone.
#[test]
fn a_worker_that_can_not_connect_does_not_keep_the_others_from_asking() {
    let redis = Redis::with(&["--maxclients", "1", "--requirepass", "hush"]);
    let app = app();
    let limits = "limits: {all: {rate: 3600/h, burst: 3599, shared: true}}";
    let text = super::config(&app, &redis.url(), limits, "limits: [all]", "timeout: 900ms\npassword: {value: hush}");
    let gateway = Gateway::start(text.replace("workers: 1", "workers: 2"));
    eventually("both have tried, and one was turned away again and again", || {
        // So many that its share may be used up.
        assert!(matches!(get(gateway.address(), "/").status, 200 | 429));
        let of = |name: &str| metric(&gateway, name);
        (of("probegate_limit_store_failures_total{reason=\"unreachable\"}") > 3.5
            && of("probegate_limit_store_decisions_total{by=\"store\"}") > 0.5)
            .then_some(())
    });
    assert!(metric(&gateway, "probegate_limit_store_breaker_opened_total") < 0.5);
    let before = metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}");
    eventually("the one goes on", || {
        assert!(matches!(get(gateway.address(), "/").status, 200 | 429));
        (metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > before).then_some(())
    });
}

/// Passes bytes on in both directions, later than they came while it is told to.
fn relay(to: SocketAddr, late: &'static AtomicBool) -> SocketAddr {
    relay_on("127.0.0.1:0".parse().unwrap(), to, late, 220)
}

/// The same at this address, and by so many milliseconds.
fn relay_on(address: SocketAddr, to: SocketAddr, late: &'static AtomicBool, by: u64) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let pass = move |mut from: TcpStream, mut to: TcpStream, slow: bool| {
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if slow && late.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(by));
                }
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            to.shutdown(std::net::Shutdown::Both).ok();
        });
    };
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            pass(client.try_clone().unwrap(), server.try_clone().unwrap(), false);
            pass(server, client, true);
        }
    });
    address
}

#[test]
fn a_store_that_is_always_late_is_not_taken_for_recovered() {
    static LATE: AtomicBool = AtomicBool::new(false);
    let redis = Redis::start();
    let app = app();
    let url = format!("redis://{}", relay(redis.address(), &LATE));
    let limits = "limits: {all: {rate: 3600/h, burst: 3599, shared: true}}";
    let gateway = gateway_with(&app, &url, limits, "limits: [all]", "timeout: 150ms").start();
    let of = |name: &str| metric(&gateway, name);
    eventually("it is asked", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (of("probegate_limit_store_decisions_total{by=\"store\"}") > 0.5).then_some(())
    });
    LATE.store(true, Ordering::Relaxed);
    let opened = "probegate_limit_store_breaker_opened_total";
    eventually("it is given up", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (of(opened) > 0.5).then_some(())
    });
    let (failed, openings) = (of("probegate_limit_store_failures_total{reason=\"timeout\"}"), of(opened));
    // Trials that are answered late are trials that fail.
    eventually("it was tried", || {
        (of("probegate_limit_store_failures_total{reason=\"timeout\"}") > failed + 1.5).then_some(())
    });
    assert!(of("probegate_limit_store_breaker{state=\"closed\"}") < 0.5 && (of(opened) - openings).abs() < 0.5);
    LATE.store(false, Ordering::Relaxed);
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
}

/// A request would wait for this one: so does a trial.
#[test]
fn a_store_that_is_slow_and_within_the_timeout_is_asked_again() {
    static LATE: AtomicBool = AtomicBool::new(true);
    let redis = Redis::start();
    let app = app();
    let address = free_address();
    let limits = "limits: {all: {rate: 3600/h, burst: 3599, shared: true}}";
    let url = format!("redis://{address}");
    let gateway = gateway_with(&app, &url, limits, "limits: [all]", "timeout: 1s").start();
    eventually("it is given up", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (metric(&gateway, "probegate_limit_store_breaker_opened_total") > 0.5).then_some(())
    });
    relay_on(address, redis.address(), &LATE, 300);
    gateway.wait_for_log(|line| line["message"] == "the limit store is asked again");
    eventually("it decides", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 0.5).then_some(())
    });
}

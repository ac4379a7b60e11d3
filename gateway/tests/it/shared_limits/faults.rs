//! What a request gets while there is no answer.

use super::{gateway, gateway_with};
use crate::harness::{Folder, Gateway, Redis, Upstream, eventually, free_address, get, metric, ok, wait_for_metric};

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
    let line = gateway.wait_for_log(|line| line["level"] == "WARN");
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
    gateway.wait_for_log(|line| line["level"] == "WARN");
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

//! One gateway or two, and a server that is well.

use serde_json::json;

use super::{config, gateway, gateway_with};
use crate::harness::{Config, Redis, Reply, Upstream, eventually, exchange, get, ok, wait_for_metric};

fn statuses(gateway: &crate::harness::Gateway, target: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(gateway.address(), target).status).collect()
}

#[test]
fn two_gateways_share_one_limit_and_the_refused_are_told_as_ever() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let [one, two] =
        [(); 2].map(|()| gateway(&app, &redis, "limits: {all: {rate: 3/h, shared: true}}", "limits: [all]"));
    assert_eq!(statuses(&one, "/", 2), [200, 200]);
    assert_eq!(statuses(&two, "/", 2), [200, 429]);
    let refused = get(one.address(), "/refused");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.field("ratelimit-policy").as_deref(), Some("\"all\";q=3;w=3600"));
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1100..=1200).contains(&after), "{after}");
    assert_eq!(refused.json()["violated-policies"], json!(["all"]));
    assert_eq!(app.requests().len(), 3);
}

#[test]
fn whoever_is_over_the_limit_is_remembered_and_the_store_is_not_asked() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = gateway(&app, &redis, "limits: {all: {rate: 1/h, shared: true}}", "limits: [all]");
    assert_eq!(statuses(&gateway, "/", 50), [vec![200], vec![429; 49]].concat());
    // The first one was told that it was the last.
    wait_for_metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}", 1.0);
    wait_for_metric(&gateway, "probegate_limit_store_call_duration_seconds_count", 1.0);
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"all\"}", 49.0);
    wait_for_metric(&gateway, "probegate_limit_store_breaker{state=\"closed\"}", 1.0);
}

/// The store is not asked about who is too fast for the gateway's own limits, and would let nobody in any sooner.
#[test]
fn what_the_store_would_refuse_is_told_where_the_gateway_refuses() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let limits = "limits: {own: {rate: 2/h, burst: 0}, all: {rate: 1/h, burst: 0, shared: true}}";
    let gateway = gateway(&app, &redis, limits, "limits: [own, all]");
    assert_eq!(get(gateway.address(), "/").status, 200);
    let refused = get(gateway.address(), "/");
    assert_eq!((refused.status, refused.json()["violated-policies"].clone()), (429, json!(["all"])));
    let after: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&after), "{after}");
}

#[test]
fn a_request_that_one_limit_refuses_is_charged_by_none() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let limits = "limits: {wide: {rate: 100/h, shared: true}, narrow: {rate: 1/h, shared: true}, own: {rate: 3/h}}";
    let gateway = gateway(&app, &redis, limits, "limits: [wide, own]\nroutes: [{path: /narrow, limits: [narrow]}]");
    assert_eq!(statuses(&gateway, "/narrow", 1), [200]);
    let debt = |limit: &str| {
        let key = redis.run(&["KEYS", &format!("*{limit}*")]).texts().pop().unwrap();
        let Reply::Number(left) = redis.run(&["PTTL", &key]) else { panic!() };
        left
    };
    let before = debt("wide");
    assert!((20_000..=36_001).contains(&before), "{before}");
    assert_eq!(statuses(&gateway, "/narrow", 5), [429; 5]);
    assert!(debt("wide") <= before, "nothing was charged");
    // Nor was the gateway's own limit.
    assert_eq!(statuses(&gateway, "/", 3), [200, 200, 429]);
    let all = redis.run(&["KEYS", "*"]).texts();
    assert!(all.iter().all(|key| !key.contains("127.0.0.1")) && all.len() == 2, "{all:?}");
}

#[test]
fn a_server_that_has_forgotten_the_script_is_told_it_again() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let gateway = gateway(&app, &redis, "limits: {all: {rate: 100/h, shared: true}}", "limits: [all]");
    for _ in 0..3 {
        assert_eq!(redis.run(&["SCRIPT", "FLUSH"]), Reply::Text("OK".to_owned()));
        assert_eq!(statuses(&gateway, "/", 2), [200, 200]);
    }
    wait_for_metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}", 6.0);
}

#[test]
fn a_delay_is_counted_over_all_gateways() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let limits = "limits: {all: {rate: 15/m, burst: 4, delay: all, shared: true}}";
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis, limits, "limits: [all]"));
    assert_eq!(get(one.address(), "/first").status, 200);
    assert_eq!(get(two.address(), "/second").status, 200);
    let line = two.access("/second");
    let delayed = line["delayed_ms"].as_f64().unwrap();
    assert!((1.0..=4000.0).contains(&delayed), "{line}");
}

#[test]
fn a_reload_brings_another_store_and_takes_it_away() {
    let (first, second) = (Redis::start(), Redis::start());
    let app = Upstream::answering(|_| ok("answered"));
    let limit = "limits: {all: {rate: 1/h, burst: 9, shared: true}}";
    let gateway = gateway(&app, &first, limit, "limits: [all]");
    assert_eq!(statuses(&gateway, "/", 1), [200]);
    assert_eq!(first.run(&["DBSIZE"]), Reply::Number(1));
    let reload = |text: String| {
        std::fs::write(gateway.config_path(), text).unwrap();
        let before = gateway.log_lines().len();
        gateway.signal("HUP");
        eventually("it is reloaded", || {
            gateway.log_lines()[before..].iter().any(|line| line.contains("configuration reloaded")).then_some(())
        });
    };
    reload(config(&app, &second.url(), limit, "limits: [all]", ""));
    eventually("the second is asked", || {
        get(gateway.address(), "/");
        (second.run(&["DBSIZE"]) == Reply::Number(1)).then_some(())
    });
    reload(Config::before(&app).top("limits: {all: {rate: 1/h}}").service("limits: [all]").to_string());
    eventually("the connections are closed", || {
        let Reply::Text(clients) = second.run(&["CLIENT", "LIST"]) else { panic!() };
        (clients.lines().count() == 1).then_some(())
    });
}

#[test]
fn a_unix_socket_and_another_database_do_as_well() {
    let folder = crate::harness::Folder::new();
    let socket = folder.path().join("r.sock").display().to_string();
    let redis = Redis::with(&["--unixsocket", &socket]);
    let app = Upstream::answering(|_| ok("answered"));
    let limit = "limits: {all: {rate: 1/h, shared: true}}";
    let over_socket = gateway_with(&app, &format!("unix:{socket}"), limit, "limits: [all]", "timeout: 900ms").start();
    assert_eq!(statuses(&over_socket, "/", 2), [200, 429]);
    let in_three = gateway_with(&app, &format!("{}/3", redis.url()), limit, "limits: [all]", "timeout: 900ms").start();
    assert_eq!(statuses(&in_three, "/", 2), [200, 429]);
    assert_eq!(redis.run(&["DBSIZE"]), Reply::Number(1));
}

#[test]
fn values_are_counted_over_all_gateways_each_for_itself() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let limits = "limits: {tenant: {rate: 2/h, key: [{header: X-Tenant}, path], shared: true}}";
    let [one, two] = [(); 2].map(|()| gateway(&app, &redis, limits, "limits: [tenant]"));
    let ask = |gateway: &crate::harness::Gateway, path: &str, tenant: &str| {
        exchange(gateway.address(), format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Tenant: {tenant}\r\n\r\n")).status
    };
    for (path, tenant) in [("/", "a"), ("/", "b"), ("/b", "a")] {
        let found =
            [ask(&one, path, tenant), ask(&two, path, tenant), ask(&one, path, tenant), ask(&two, path, tenant)];
        assert_eq!(found, [200, 200, 429, 429], "{path} {tenant}");
    }
    assert_eq!(redis.run(&["DBSIZE"]), Reply::Number(3));
}

#[test]
fn a_limit_in_shadow_mode_refuses_nobody_and_holds_no_other_back() {
    let redis = Redis::start();
    let app = Upstream::answering(|_| ok("answered"));
    let limits = "limits: {watched: {rate: 1/h, shared: true, mode: shadow}, real: {rate: 3/h, shared: true}}";
    let gateway = gateway(&app, &redis, limits, "limits: [watched, real]");
    assert_eq!(statuses(&gateway, "/", 4), [200, 200, 200, 429]);
}

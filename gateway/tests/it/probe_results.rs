//! What counts as the failure of a probe: what the app says to those who are known or make nothing up, and nothing that strangers can bring about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::harness::{
    Client, Gate, Gateway, Unreachable, Upstream, eventually, exchange, get_admin, metric, metrics, ok, wait_for_metric,
};

fn results(probe: &str, result: &str) -> String {
    format!("probegate_probe_results_total{{service=\"shop\",probe=\"{probe}\",result=\"{result}\"}}")
}

fn outcomes(probe: &str, outcome: &str) -> String {
    format!("probegate_probe_outcomes_total{{service=\"shop\",probe=\"{probe}\",outcome=\"{outcome}\"}}")
}

fn probe(gateway: &Gateway, name: &str) -> Value {
    let told = get_admin(gateway.admin(), "/probes/shop").json();
    let found = told["probes"].as_array().unwrap().iter().find(|probe| probe["probe"] == name);
    found.unwrap_or_else(|| panic!("{name}: {told}")).clone()
}

#[test]
fn strangers_cannot_have_a_probe_fail_and_the_app_can() {
    let (sick, gate) = (Arc::<AtomicBool>::default(), Arc::<Gate>::default());
    let (is_sick, theirs) = (Arc::clone(&sick), Arc::clone(&gate));
    let app = Upstream::answering(move |request| {
        let target = request.target();
        if target == "/startupz" {
            theirs.wait();
        }
        let odd = target.contains('?') || request.field("accept").as_deref() == Some("x/y");
        match (odd, is_sick.load(Ordering::SeqCst)) {
            (true, _) => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
            (_, true) => b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(),
            _ => ok("{}"),
        }
    });
    let gateway = Gateway::start(format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\n\
         networks: {{internal: [10.0.0.0/8]}}\n\
         probes: {{timeout: 30s, healthz: {{allow: anyone, cache: {{ok: 0s, fail: 0s}}}}, readyz: {{allow: anyone, cache: off}}, startupz: {{allow: anyone, cache: off}}}}\n\
         aggregates: {{all: {{path: /all, hosts: [status.example.com], timeout: 30s, probe: healthz, allow: anyone, services: {{required: [shop]}}}}}}\n\
         services: {{shop: {{hosts: [shop.example.com], upstream: {{servers: [\"{}\"]}}}}}}\n",
        app.server()
    ));
    let ask = |target: &str, more: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: shop.example.com\r\n{more}Connection: close\r\n\r\n");
        exchange(gateway.address(), head).status
    };
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path, ""), 200);
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(path, "Accept: x/y\r\n"), 400);
    }
    for name in ["healthz", "readyz"] {
        wait_for_metric(&gateway, &outcomes(name, "failed"), 1.0);
        eventually("both answers are remembered", || {
            (probe(&gateway, name)["history"].as_array().unwrap().len() == 2).then_some(())
        });
        assert_eq!(
            (metric(&gateway, &results(name, "passed")), metric(&gateway, &results(name, "failed"))),
            (1.0, 0.0)
        );
        let told = probe(&gateway, name);
        assert_eq!((&told["state"], &told["last"]["status"]), (&"good".into(), &200.into()), "{told}");
    }

    // Whoever leaves has heard nothing.
    let mut hasty = Client::connect(gateway.address());
    hasty.send("GET /startupz HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    eventually("the app is asked", || app.targets().contains(&"/startupz".to_owned()).then_some(()));
    drop(hasty);
    wait_for_metric(&gateway, &outcomes("startupz", "left"), 1.0);
    gate.open();
    assert_eq!(
        (metric(&gateway, &outcomes("startupz", "failed")), metric(&gateway, &results("startupz", "failed"))),
        (0.0, 0.0)
    );
    assert_eq!(probe(&gateway, "startupz")["state"], "unknown");

    // The app itself fails: whoever asks, an aggregate as well.
    sick.store(true, Ordering::SeqCst);
    assert_eq!(ask("/healthz", ""), 503);
    wait_for_metric(&gateway, &results("healthz", "failed"), 1.0);
    let all = "GET /all HTTP/1.1\r\nHost: status.example.com\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(gateway.address(), all).status, 503);
    wait_for_metric(&gateway, &results("healthz", "failed"), 2.0);
    let told = probe(&gateway, "healthz");
    assert_eq!((&told["state"], &told["last"]["status"]), (&"bad".into(), &503.into()), "{told}");
}

#[test]
fn the_metric_of_readiness_says_what_readyz_of_the_gateway_says() {
    let gone = Unreachable::refusing();
    let gateway = Gateway::start(format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nreadiness: {{services: [shop]}}\n\
         services: {{shop: {{upstream: {{servers: [\"{}\"], health: {{path: /up, interval: 100ms, timeout: 30s, fall: 1}}}}}}}}\n",
        gone.server()
    ));
    eventually("it is not ready", || (get_admin(gateway.admin(), "/readyz").status == 503).then_some(()));
    eventually("the metric says so", || (metrics(&gateway).get("probegate_ready") == Some(&0.0)).then_some(()));
}

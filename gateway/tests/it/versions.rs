//! The versions of all servers of a service side by side, what an aggregate makes of them, and the gateway's own readiness with reasons.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{
    APP_TOKEN, Client, Ended, Folder, Gate, Gateway, Upstream, eventually, exchange, free_address, get_admin, metrics,
    ok, probegate, run,
};

/// An app that tells this version; other paths are fine.
fn telling(body: &'static str) -> Upstream {
    Upstream::answering(move |request| ok(if request.target() == "/version" { body } else { "{}" }))
}

const BLUE: &str = r#"{"service": "shop", "environment": "test", "version": "1.4", "commit": "abc", "branch": "main", "build_time": "2026-11-22T00:00:00Z", "slot": "blue"}"#;
const GREEN: &str = r#"{"service": "shop", "environment": "test", "version": "1.4", "commit": "abc", "slot": "green"}"#;
const NEWER: &str = r#"{"service": "shop", "environment": "test", "version": "1.5", "commit": "def", "slot": "green"}"#;

fn config(storage: &Folder, shop: &[String], more: &str) -> String {
    format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.2:0\", serve: probes}}]\nworkers: 1\nadmin: {{address: \"127.0.0.1:0\"}}\nstorage: {}\n\
         services:\n  shop:\n    hosts: [shop.example.com]\n    upstream: {{servers: {shop:?}}}\n    probes: {{version: {{timeout: 1s, token: {{env: APP_PROBE_TOKEN}}}}}}\n{more}",
        storage.path().display()
    )
}

fn start(text: String) -> Gateway {
    Gateway::with(text).env("APP_PROBE_TOKEN", APP_TOKEN).start()
}

fn versions(gateway: &Gateway, arguments: &[&str]) -> Ended {
    run(probegate([&["versions"], arguments].concat()).arg("--admin").arg(gateway.admin().to_string()))
}

fn readyz(gateway: &Gateway) -> (u16, Value) {
    let answer = exchange(gateway.addresses()[1], "GET /all/readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    (answer.status, serde_json::from_str(&answer.text()).unwrap())
}

/// An app that says its version when the gate is opened.
fn hanging() -> (Arc<Gate>, Upstream) {
    let gate = Arc::<Gate>::default();
    let wait = Arc::clone(&gate);
    let app = Upstream::answering(move |request| {
        if request.target() == "/version" {
            wait.wait();
        }
        ok(BLUE)
    });
    (gate, app)
}

#[test]
fn every_server_is_asked_on_its_own_and_told_side_by_side() {
    let (gate, hangs) = hanging();
    let apps = [telling(BLUE), telling(NEWER), telling("<html>")];
    let gone = free_address().to_string();
    let servers: Vec<String> = apps.iter().map(Upstream::server).chain([hangs.server(), gone.clone()]).collect();
    let storage = Folder::new();
    let more = "  files: {hosts: [old.example.com], redirect: {to: \"https://shop.example.com/\"}}\n";
    let gateway = start(config(&storage, &servers, more));
    let told = versions(&gateway, &["shop", "--json"]);
    assert_eq!((told.code, &*told.err), (Some(1), ""), "not one version");
    let value: Value = serde_json::from_str(&told.out).unwrap();
    let shop = &value["versions"][0];
    assert_eq!(
        (&shop["service"], &shop["agree"], &shop["pending"]),
        (&json!("shop"), &json!("several"), &json!(false))
    );
    let of = |index: usize| (&shop["servers"][index]["version"], &shop["servers"][index]["why"]);
    let expected: Value = serde_json::from_str(BLUE).unwrap();
    assert_eq!(of(0), (&expected, &Value::Null));
    assert_eq!(of(1).0["commit"], "def");
    assert_eq!(of(2), (&Value::Null, &json!("its answer is not JSON as django-deploy-probes has it")));
    assert_eq!(of(3), (&Value::Null, &json!("the application did not answer a probe in time")));
    assert_eq!(of(4), (&Value::Null, &json!("the application cannot be reached")));
    // With the app's token, under the service's own host, as the gateway.
    let asked = apps[0].request();
    assert_eq!(asked.field("x-probe-token").as_deref(), Some(APP_TOKEN));
    assert_eq!(
        (asked.field("host").as_deref(), asked.field("user-agent").as_deref()),
        (Some("shop.example.com"), Some("probegate"))
    );
    // For people.
    let told = versions(&gateway, &[]);
    assert_eq!(told.code, Some(1));
    for part in ["shop", "several versions", "abc", "def", "blue", "2026-11-22T00:00:00Z", &gone, "cannot be reached"] {
        assert!(told.out.contains(part), "{part}: {}", told.out);
    }
    let unknown = versions(&gateway, &["shpo"]);
    assert_eq!(unknown.code, Some(2), "{} {}", unknown.out, unknown.err);
    gate.open();
}

#[test]
fn an_aggregate_can_require_one_version_of_the_servers_that_get_requests() {
    let asked = Arc::<AtomicUsize>::default();
    let theirs = Arc::clone(&asked);
    let one = Upstream::answering(move |request| {
        if request.target() == "/version" {
            theirs.fetch_add(1, Ordering::SeqCst);
        }
        ok(BLUE)
    });
    let (other, newer) = (telling(GREEN), telling(NEWER));
    let servers = [one.server(), other.server(), newer.server()];
    let storage = Folder::new();
    let more =
        "aggregates: {all: {path: /all/readyz, timeout: 20s, one_version: [shop], services: {required: [shop]}}}\n";
    let gateway = start(config(&storage, &servers, more));
    let (status, told) = readyz(&gateway);
    assert_eq!(
        (status, &told["checks"]["shop.version"]),
        (503, &json!({"status": "fail", "reason": "versions_differ"}))
    );
    assert_eq!(told["checks"]["shop"], "ok");
    // A storm is one question for each server while the answer serves.
    let before = asked.load(Ordering::SeqCst);
    let begun = std::time::Instant::now();
    let mut clients: Vec<_> = (0..100).map(|_| Client::connect(gateway.addresses()[1])).collect();
    for client in &mut clients {
        client.send("GET /all/readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 503);
    }
    let most = begun.elapsed().as_millis() / 1000 + 2;
    assert!((asked.load(Ordering::SeqCst) - before) as u128 <= most, "{before} {asked:?}");
    // The one with another version gets no requests any more: it does not count.
    let drained = run(probegate(["drain", "shop", &newer.server()]).arg("--admin").arg(gateway.admin().to_string()));
    assert_eq!(drained.code, Some(0), "{}", drained.err);
    eventually("those that are left agree", || (readyz(&gateway).0 == 200).then_some(()));
    let told = versions(&gateway, &["shop", "--json"]);
    let value: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code, &value["versions"][0]["agree"]), (Some(0), &json!("one")));
    assert_eq!(value["versions"][0]["servers"][2]["serves"], false);
}

#[test]
fn one_that_hangs_does_not_show_that_all_are_the_same() {
    let (gate, hangs) = hanging();
    let good = telling(BLUE);
    let storage = Folder::new();
    let more =
        "aggregates: {all: {path: /all/readyz, timeout: 20s, one_version: [shop], services: {required: [shop]}}}\n";
    let gateway = start(config(&storage, &[good.server(), hangs.server()], more));
    let (status, told) = readyz(&gateway);
    assert_eq!(
        (status, &told["checks"]["shop.version"]),
        (503, &json!({"status": "fail", "reason": "version_unknown"}))
    );
    gate.open();
    eventually("it tells", || (readyz(&gateway).0 == 200).then_some(()));
}

#[test]
fn slots_are_told_as_they_are_and_as_the_app_says_where_that_differs() {
    let (storage, apps) = (
        Folder::new(),
        [telling(BLUE), telling(NEWER), telling(r#"{"service": "shop", "environment": "test", "version": "2"}"#)],
    );
    let [blue, moved, silent] = &apps;
    let text = config(&storage, &[], "").replace(
        "upstream: {servers: []}",
        &format!(
            "slots: {{blue: {{servers: [\"{}\", \"{}\"]}}, green: {{servers: [\"{}\"]}}}}\n    active: blue",
            blue.server(),
            moved.server(),
            silent.server()
        ),
    );
    let gateway = start(text);
    let told = versions(&gateway, &[]);
    for (app, slot) in [(blue, "blue"), (moved, "blue, says green"), (silent, "green")] {
        let line = told.out.lines().find(|line| line.contains(&app.server())).unwrap();
        assert!(line.contains(&format!("  {slot}  ")) || line.ends_with(&format!("  {slot}")), "{told:?}");
    }
    let all = get_admin(gateway.admin(), "/versions/shop").json();
    let slots: Vec<_> = (0..3).map(|at| all["versions"][0]["servers"][at]["slot"].clone()).collect();
    assert_eq!(slots, ["blue", "blue", "green"].map(Value::from), "{all}");
}

#[test]
fn the_gateway_tells_everything_that_speaks_against_it() {
    let storage = Folder::new();
    let healthy = Arc::<AtomicUsize>::default();
    let theirs = Arc::clone(&healthy);
    let shop = Upstream::answering(move |_| {
        if theirs.load(Ordering::SeqCst) == 0 {
            ok("up")
        } else {
            b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
    });
    let blog = telling(BLUE);
    let text = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.2:0\", serve: probes}}]\nworkers: 1\nadmin: {{address: \"127.0.0.1:0\"}}\nstorage: {}\n\
         shutdown: {{delay: 5s}}\nreadiness: {{services: [shop]}}\naggregates: {{all: {{path: /all/readyz, services: {{required: [blog]}}}}}}\n\
         services:\n  shop:\n    hosts: [shop.example.com]\n    upstream: {{servers: [\"{}\"], health: {{interval: 100ms, timeout: 20s, fall: 1, rise: 1}}}}\n\
         \x20 blog: {{hosts: [blog.example.com], upstream: {{servers: [\"{}\"]}}}}\n",
        storage.path().display(),
        shop.server(),
        blog.server()
    );
    let mut gateway = Gateway::start(&text);
    let own = |gateway: &Gateway| {
        let answer = get_admin(gateway.admin(), "/readyz");
        (answer.status, answer.json())
    };
    eventually("it is ready", || (own(&gateway).0 == 200).then_some(()));
    let (_, told) = own(&gateway);
    assert_eq!((&told["status"], &told["reasons"], &told["warnings"]), (&json!("ready"), &json!([]), &json!([])));
    // A service that it is nothing without.
    healthy.store(1, Ordering::SeqCst);
    eventually("not ready", || (own(&gateway).0 == 503).then_some(()));
    let (_, told) = own(&gateway);
    assert_eq!((&told["status"], &told["reason"]), (&json!("not_ready"), &json!("servers_down")));
    assert_eq!((&told["reasons"][0]["reason"], &told["reasons"][0]["about"]), (&json!("servers_down"), &json!("shop")));
    let (status, all) = readyz(&gateway);
    assert_eq!((status, &all["checks"]["gateway"]), (503, &json!({"status": "fail", "reason": "servers_down"})));
    healthy.store(0, Ordering::SeqCst);
    eventually("ready again", || (own(&gateway).0 == 200).then_some(()));
    // What is wrong without being a reason to look elsewhere.
    std::fs::write(gateway.config_path(), "services: [").unwrap();
    gateway.signal("HUP");
    eventually("a warning", || (own(&gateway).1["warnings"][0]["reason"] == "reload_refused").then_some(()));
    let drained =
        run(probegate(["drain", "blog", &blog.server(), "--force"]).arg("--admin").arg(gateway.admin().to_string()));
    assert_eq!(drained.code, Some(0), "{}", drained.err);
    let (status, told) = own(&gateway);
    assert_eq!(status, 200);
    assert_eq!(
        (&told["warnings"][1]["reason"], &told["warnings"][1]["about"]),
        (&json!("servers_drained"), &json!("blog"))
    );
    std::fs::write(gateway.config_path(), &text).unwrap();
    gateway.signal("HUP");
    eventually("it is mended", || (own(&gateway).1["warnings"][0]["reason"] != "reload_refused").then_some(()));
    // It goes down: that comes first, and connections are taken for a while.
    gateway.signal("TERM");
    gateway.wait_for_log(|line| line["message"] == "draining");
    let (status, told) = own(&gateway);
    assert_eq!((status, &told["reason"]), (503, &json!("draining")));
    assert_eq!(exchange(gateway.address(), "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").status, 200);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_reload_wakes_nobody() {
    let (storage, app) = (Folder::new(), telling(BLUE));
    let more =
        "    blog: {hosts: [blog.example.com], upstream: {servers: [\"SERVER\"]}}\n".replace("SERVER", &app.server());
    let text = |needed: &str| {
        let aggregates = format!(
            "aggregates: {{all: {{path: /all/readyz, timeout: 30s, one_version: [shop], services: {{required: [{needed}]}}}}}}\n"
        );
        config(&storage, &[app.server()], &(more.replacen("    ", "  ", 1) + &aggregates))
    };
    let gateway = start(text("shop"));
    let passing = "probegate_aggregate_passing{aggregate=\"all\"}";
    let of = |service: &str| format!("probegate_aggregate_service_passing{{aggregate=\"all\",service=\"{service}\"}}");
    assert!(!metrics(&gateway).contains_key(passing), "nobody has asked");
    assert_eq!(readyz(&gateway).0, 200);
    let known = |passes: Option<f64>, shop: Option<f64>, blog: Option<f64>| {
        let metrics = metrics(&gateway);
        let found = [passing.to_owned(), of("shop"), of("blog")].map(|name| metrics.get(&name).copied());
        assert_eq!(found, [passes, shop, blog]);
    };
    known(Some(1.0), Some(1.0), None);
    let reload = |text: &str| {
        std::fs::write(gateway.config_path(), text).unwrap();
        let ended = run(probegate(["reload"]).arg("--admin").arg(gateway.admin().to_string()));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    };
    // What was known about versions is known still.
    reload(&text("shop"));
    known(Some(1.0), Some(1.0), None);
    // Of a service that is new, nothing is known yet: that is no failure.
    reload(&text("shop, blog"));
    known(None, Some(1.0), None);
    assert_eq!(readyz(&gateway).0, 200);
    known(Some(1.0), Some(1.0), Some(1.0));
}

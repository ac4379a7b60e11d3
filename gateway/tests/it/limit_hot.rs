//! What people see of limits: who is over one, who is near it, and what one that is tried would have done.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::{
    Client, Config, Ended, Gateway, Program, Upstream, eventually, exchange, metric, ok, probegate, run,
    wait_for_metric, wait_ready,
};

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

fn statuses(gateway: &Gateway, source: u8, fields: &str, count: usize) -> Vec<u16> {
    let ask = |_| {
        let mut client = Client::connect_from([127, 0, 0, source], gateway.address());
        client.send(format!("GET /?q=1 HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.response().status
    };
    (0..count).map(ask).collect()
}

fn top(admin: SocketAddr, arguments: &[&str]) -> Ended {
    run(&mut command(admin, arguments))
}

fn command(admin: SocketAddr, arguments: &[&str]) -> std::process::Command {
    let mut command = probegate(["top", "limits"].iter().chain(arguments));
    command.arg("--admin").arg(admin.to_string()).env_remove("PROBEGATE_ADMIN_TOKEN");
    command
}

/// What it says of a limit.
pub(crate) fn seen(gateway: &Gateway, limit: &str) -> Value {
    let ended = top(gateway.admin(), &["--json", limit]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    serde_json::from_str(&ended.out).unwrap()
}

#[test]
fn whoever_is_over_a_limit_or_near_it_is_told_of() {
    let app = app();
    let limits = "limits:\n  clients: {rate: 10/d, show_keys: true}\n  tried: {rate: 2/d, key: {header: X-Tenant}, mode: shadow}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [clients, tried]"));
    assert_eq!(statuses(&gateway, 3, "X-Tenant: acme\r\n", 12), [vec![200; 10], vec![429; 2]].concat());
    assert_eq!(statuses(&gateway, 4, "X-Tenant: other\r\n", 1), [200]);

    let clients = seen(&gateway, "clients");
    assert_eq!((&clients["requests"], &clients["near"], &clients["over"]), (&json!(13), &json!(1), &json!(2)));
    assert_eq!((&clients["terms"], &clients["mode"]), (&json!("10/d, burst 9"), &json!("enforce")));
    let hot = clients["hot"]["keys"].as_array().unwrap();
    assert_eq!(hot.len(), 1, "{hot:?}");
    assert_eq!((&hot[0]["shown"], &hot[0]["requests"], &hot[0]["over"]), (&json!("127.0.0.3"), &json!(3), &json!(2)));
    assert_eq!(hot[0]["at_least"], 3);

    // Not asked where the other one refuses.
    let tried = seen(&gateway, "tried");
    assert_eq!((&tried["requests"], &tried["near"], &tried["over"]), (&json!(11), &json!(1), &json!(8)));
    assert!((tried["over_share"].as_f64().unwrap() - 8.0 / 11.0).abs() < 1e-9);
    let text = tried.to_string();
    assert!(tried["hot"]["keys"][0]["shown"].is_null() && !text.contains("acme"), "{text}");
    let key = tried["hot"]["keys"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(key.len(), 16, "{key}");

    for (name, value) in [
        ("probegate_limit_requests_total{limit=\"clients\"}", 13.0),
        ("probegate_limit_near_total{limit=\"clients\"}", 1.0),
        ("probegate_limit_requests_total{limit=\"tried\"}", 11.0),
    ] {
        assert!((metric(&gateway, name) - value).abs() < 0.5, "{name}");
    }

    let table = top(gateway.admin(), &["--once"]).out;
    assert!(table.starts_with("LIMIT    TERMS          REQUESTS  PER SECOND  NEAR"), "{table}");
    assert!(table.contains("\nclients  10/d, burst 9  13 "), "{table}");
    assert!(table.contains("\n  127.0.0.3: 3 times near or over in "), "{table}");
    assert!(table.contains("\n  shadow: would have refused 73 % of 11 requests since 2"), "{table}");
    assert!(table.contains(&format!("\n  {key}: 9 times near or over in ")), "{table}");
    assert!(!top(gateway.admin(), &["--once", "--keys", "0"]).out.contains("times"));
}

/// Two clients must not look alike, and none writes to the terminal.
#[test]
fn what_nobody_sees_is_shown() {
    let app = app();
    let limits = "limits: {tenants: {rate: 1/d, key: {header: X-Tenant}, show_keys: true}}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [tenants]"));
    let odd = "ac\u{200b}m\u{2060}e\u{feff}\u{2028}\u{e0041}\u{202e}ü";
    assert_eq!(statuses(&gateway, 3, &format!("X-Tenant: {odd}\r\n"), 2), [200, 429]);
    let shown = &seen(&gateway, "tenants")["hot"]["keys"][0]["shown"];
    assert_eq!(shown, "header x-tenant ac\u{fffd}m\u{fffd}e\u{fffd}\u{fffd}\u{fffd}\u{fffd}ü");
    assert!(top(gateway.admin(), &["--once"]).out.contains("ac\u{fffd}m\u{fffd}e\u{fffd}"));
}

#[test]
fn the_table_goes_on_until_nobody_looks() {
    let app = app();
    let config = Config::before(&app).top("limits: {one: {rate: 1/d}}").service("limits: [one]");
    let gateway = Gateway::start(config);
    let program = Program::start(&mut command(gateway.admin(), &["--every", "50ms"]));
    statuses(&gateway, 1, "", 3);
    program.wait_for("a table with a rate", |text| {
        let mut lines = text.lines().filter(|line| line.starts_with("one "));
        lines.next_back().filter(|line| line.contains(" 3 ") && line.contains("2 (67 %)")).map(|_| ())
    });
    drop(gateway);
    assert_eq!(program.wait().code, Some(1), "nobody answers any more");
}

#[test]
fn a_limit_that_is_changed_is_looked_at_anew_and_its_metrics_go_on() {
    let app = app();
    let config = |mode: &str| {
        let limits = format!("limits: {{one: {{rate: 1/d, mode: {mode}}}}}");
        Config::before(&app).top(&limits).service("limits: [one]").to_string()
    };
    let gateway = Gateway::start(config("shadow"));
    assert_eq!(statuses(&gateway, 1, "", 4), [200; 4]);
    assert_eq!(seen(&gateway, "one")["over"], 3);
    let reload = |text: String| {
        std::fs::write(gateway.config_path(), text).unwrap();
        gateway.signal("HUP");
    };
    reload(config("enforce"));
    eventually("it is another limit", || (seen(&gateway, "one")["mode"] == "enforce").then_some(()));
    let anew = seen(&gateway, "one");
    assert_eq!((&anew["requests"], &anew["over"], &anew["hot"]["keys"]), (&json!(0), &json!(0), &json!([])));
    assert_eq!(statuses(&gateway, 1, "", 1), [429]);
    assert_eq!(seen(&gateway, "one")["over"], 1);
    assert!((metric(&gateway, "probegate_limit_requests_total{limit=\"one\"}") - 5.0).abs() < 0.5);
}

#[test]
fn who_may_not_turn_switches_is_not_told_either() {
    let app = app();
    let config = Config::before(&app).top("limits: {one: {rate: 1/d}}").service("limits: [one]");
    let gateway = Gateway::start(config);
    wait_ready(&gateway);
    let ask = |line: &str, field: &str| {
        let response = exchange(
            gateway.admin(),
            format!("{line} HTTP/1.1\r\nHost: {}\r\n{field}Connection: close\r\n\r\n", gateway.admin()),
        );
        (response.status, response.text())
    };
    let field = "X-Probegate-Control: 1\r\n";
    let elsewhere =
        exchange(gateway.admin(), "GET /limits HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(elsewhere.status, 403);
    assert_eq!(ask("GET /limits", field).0, 200);
    assert_eq!(ask("GET /limits?keys=65", field).0, 400);
    assert_eq!(ask("PUT /limits/one", field).0, 405);
    let (status, text) = ask("GET /limits/two", field);
    assert!(status == 404 && text.contains("\"one\""), "{text}");
    let ended = top(gateway.admin(), &["--once", "two"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("there is no limit `two`; there is `one`"), "{}", ended.err);
}

#[test]
fn what_sounds_like_a_secret_is_never_shown() {
    let app = app();
    let limits = "limits:\n  \
        named: {rate: 1/d, key: [{header: X-Api-Token}, {header: X-Tenant}, {cookie: sid}, {query: q}, method], show_keys: true}\n  \
        places: {max_in_flight: 1, key: service, show_keys: true}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [named, places]"));
    let fields = "X-Api-Token: hush\r\nX-Tenant: ac\tme\r\nCookie: sid=hush\r\n";
    assert_eq!(statuses(&gateway, 1, fields, 2), [200, 429]);
    // The place is given back a moment after the answer, before its line in the log.
    gateway.wait_for_log(|line| line["status"] == 200);
    assert_eq!(statuses(&gateway, 2, "", 2), [200, 429]);
    let keys = seen(&gateway, "named")["hot"]["keys"].clone();
    let shown: Vec<&str> = keys.as_array().unwrap().iter().map(|key| key["shown"].as_str().unwrap()).collect();
    assert!(
        shown.contains(
            &"header x-api-token [redacted], header x-tenant ac\u{fffd}me, cookie sid [redacted], query q 1, method GET"
        ),
        "{shown:?}"
    );
    let nothing = "no header x-api-token: 127.0.0.2, no header x-tenant: 127.0.0.2, no cookie sid: 127.0.0.2, query q 1, method GET";
    assert!(shown.contains(&nothing), "{shown:?}");
    let places = seen(&gateway, "places");
    assert_eq!((&places["requests"], &places["over"], &places["terms"]), (&json!(2), &json!(0), &json!("1 in flight")));
}

#[test]
fn what_a_limit_has_counted_outlives_reloads_with_other_workers() {
    let app = app();
    let limits = "limits:\n  clients: {rate: 1000/d}";
    let text = Config::before(&app).workers(2).top(limits).service("limits: [clients]").to_string();
    let gateway = Gateway::start(&text);
    let ask = |count: usize| assert_eq!(statuses(&gateway, 3, "", count), vec![200; count]);
    let name = "probegate_limit_requests_total{limit=\"clients\"}";
    let counted = |count: f64| wait_for_metric(&gateway, name, count);
    let reload = |workers: usize| {
        std::fs::write(gateway.config_path(), text.replace("workers: 2", &format!("workers: {workers}"))).unwrap();
        let ended = run(probegate(["reload"]).arg("--admin").arg(gateway.admin().to_string()));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    };
    ask(10);
    counted(10.0);
    // Two workers run until the next start, whatever the file says: both count, and nothing is forgotten.
    let mut all = 10.0;
    for workers in [1, 1, 4, 2] {
        reload(workers);
        counted(all);
        ask(20);
        all += 20.0;
        counted(all);
    }
    reload(1);
    let told = run(probegate(["status", "--admin"]).arg(gateway.admin().to_string())).out;
    assert!(told.contains("; 2 workers run, and 1 after a restart\n"), "{told}");
}

//! Limits on requests in flight: who has a place and for how long, who waits, and who is told to come back.

mod places;
mod waits;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::json;

use crate::harness::{Client, Config, Connection, Gateway, Upstream, eventually, get, metric, ok, wait_for_metric};

/// What an app may answer by now.
#[derive(Debug, Default)]
struct Released {
    targets: Mutex<BTreeSet<String>>,
    changed: Condvar,
}

impl Released {
    /// From now on, the app answers this.
    fn release(&self, target: &str) {
        self.targets.lock().unwrap().insert(target.to_owned());
        self.changed.notify_all();
    }

    fn wait_for(&self, target: &str) {
        let mut targets = self.targets.lock().unwrap();
        while !targets.contains(target) {
            targets = self.changed.wait(targets).unwrap();
        }
    }
}

/// An app that holds what begins with `/hold` until it is released, and answers everything else at once.
fn app() -> (Upstream, Arc<Released>) {
    let released = Arc::new(Released::default());
    let theirs = Arc::clone(&released);
    let app = Upstream::answering(move |request| {
        let target = request.target();
        if target.starts_with("/hold") {
            theirs.wait_for(&target);
        }
        ok(&target)
    });
    (app, released)
}

/// A gateway with this limit on everything.
fn limited(app: &Upstream, limit: &str) -> Config {
    Config::before(app).top(&format!("limits: {{exports: {limit}}}")).service("limits: [exports]")
}

/// Sends a request and does not wait for the answer.
fn ask(gateway: &Gateway, target: &str) -> Client {
    ask_from(gateway, [127, 0, 0, 1], target)
}

fn ask_from(gateway: &Gateway, from: [u8; 4], target: &str) -> Client {
    let mut client = Client::connect_from(from, gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

fn in_flight(gateway: &Gateway, count: f64) {
    wait_for_metric(gateway, "probegate_limit_in_flight{limit=\"exports\"}", count);
}

fn waiting(gateway: &Gateway, count: f64) {
    wait_for_metric(gateway, "probegate_limit_waiting{limit=\"exports\"}", count);
}

#[test]
fn a_client_has_so_many_requests_at_a_time_and_others_have_theirs() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 2}"));
    let mut held = [ask(&gateway, "/hold/1"), ask(&gateway, "/hold/2")];
    app.wait_for_requests(2);
    in_flight(&gateway, 2.0);
    let refused = get(gateway.address(), "/third");
    assert_eq!(refused.status, 429);
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    assert_eq!(refused.field("ratelimit-policy").as_deref(), Some(r#""exports";q=2;qu="concurrent-requests""#));
    assert_eq!(refused.field("ratelimit").as_deref(), Some(r#""exports";r=0"#));
    let problem = refused.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["violated-policies"], json!(["exports"]));
    let line = gateway.access("/third");
    let said = [&line["decision"], &line["reason"], &line["policy"]];
    assert_eq!(said, [&json!("limit"), &json!("in_flight_exceeded"), &json!("limit:exports")]);
    // Another client has places of its own.
    assert_eq!(ask_from(&gateway, [127, 0, 0, 2], "/other").response().status, 200);
    released.release("/hold/1");
    assert_eq!(held[0].response().status, 200);
    in_flight(&gateway, 1.0);
    assert_eq!(get(gateway.address(), "/again").status, 200);
    released.release("/hold/2");
    assert_eq!(held[1].response().status, 200);
    in_flight(&gateway, 0.0);
    wait_for_metric(&gateway, "probegate_limited_total{limit=\"exports\"}", 1.0);
    assert!(!app.targets().contains(&"/third".to_owned()));
}

#[test]
fn where_all_clients_share_the_places_it_is_not_the_clients_fault() {
    let (app, released) = app();
    let config = Config::before(&app)
        .top("limits: {exports: {max_in_flight: 1, key: route}}")
        .service("routes:\n  - {path: /hold/, limits: [exports]}\n  - {path: /other/, limits: [exports]}");
    let gateway = Gateway::start(config);
    let mut held = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    let refused = ask_from(&gateway, [127, 0, 0, 2], "/hold/2").response();
    assert_eq!((refused.status, refused.field("retry-after").as_deref()), (503, Some("5")));
    let problem = refused.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity");
    assert_eq!(gateway.access("/hold/2")["reason"], "capacity_exceeded");
    // Each route for itself.
    assert_eq!(get(gateway.address(), "/other/").status, 200);
    released.release("/hold/1");
    assert_eq!(held.response().status, 200);
}

#[test]
fn those_who_wait_come_in_their_order_and_more_do_not_wait() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 3, queue_timeout: 60s}").workers(2));
    let mut clients = vec![ask(&gateway, "/hold/0")];
    app.wait_for_requests(1);
    for number in 1..=3 {
        clients.push(ask(&gateway, &format!("/hold/{number}")));
        waiting(&gateway, f64::from(number));
    }
    assert_eq!(get(gateway.address(), "/fourth").status, 429);
    // The line is the client's own.
    assert_eq!(ask_from(&gateway, [127, 0, 0, 2], "/other").response().status, 200);
    for (number, client) in clients.iter_mut().enumerate() {
        let target = format!("/hold/{number}");
        eventually("it is its turn", || app.targets().contains(&target).then_some(()));
        released.release(&target);
        assert_eq!(client.response().text(), target);
    }
    let others = app.targets().into_iter().filter(|target| target.starts_with("/hold")).collect::<Vec<_>>();
    assert_eq!(others, ["/hold/0", "/hold/1", "/hold/2", "/hold/3"]);
    assert!(gateway.access("/hold/3")["delayed_ms"].as_f64().unwrap() > 0.0);
    assert!(gateway.access("/hold/0").get("delayed_ms").is_none());
    wait_for_metric(&gateway, "probegate_limit_delayed_total{limit=\"exports\"}", 3.0);
    in_flight(&gateway, 0.0);
}

#[test]
fn who_waits_for_too_long_is_refused_and_who_leaves_makes_room() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 2, queue_timeout: 5s}"));
    let mut held = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    let (mut late, leaver) = (ask(&gateway, "/late"), ask(&gateway, "/leaver"));
    waiting(&gateway, 2.0);
    drop(leaver);
    assert_eq!(gateway.access("/leaver")["reason"], "client_closed");
    waiting(&gateway, 1.0);
    assert_eq!(late.response().status, 429);
    let line = gateway.access("/late");
    assert_eq!(line["reason"], "in_flight_exceeded");
    assert!(line["delayed_ms"].as_f64().unwrap() >= 5000.0, "{line}");
    waiting(&gateway, 0.0);
    released.release("/hold/1");
    assert_eq!(held.response().status, 200);
    assert_eq!(get(gateway.address(), "/after").status, 200);
    assert_eq!(app.targets(), ["/hold/1", "/after"], "the app never hears of the others");
}

#[test]
fn who_finds_no_place_has_used_up_no_rate_and_who_is_too_fast_holds_no_place() {
    let (app, released) = app();
    let limits = "limits:\n  exports: {max_in_flight: 1, queue: 1, queue_timeout: 5s}\n  rate: {rate: 1/h, burst: 2}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [exports, rate]"));
    let mut held = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    // One is refused after it has waited, the others at once.
    let mut waits = ask(&gateway, "/waits");
    waiting(&gateway, 1.0);
    for _ in 0..3 {
        assert_eq!(get(gateway.address(), "/full").status, 429);
        assert_eq!(gateway.access("/full")["reason"], "in_flight_exceeded");
    }
    assert_eq!(waits.response().status, 429);
    released.release("/hold/1");
    assert_eq!(held.response().status, 200);
    in_flight(&gateway, 0.0);
    for _ in 0..2 {
        assert_eq!(get(gateway.address(), "/more").status, 200);
    }
    for _ in 0..3 {
        assert_eq!(get(gateway.address(), "/fast").status, 429);
        assert_eq!(gateway.access("/fast")["reason"], "limit_exceeded");
    }
    in_flight(&gateway, 0.0);
}

#[test]
fn who_is_delayed_by_a_rate_is_not_in_flight_meanwhile() {
    let (app, released) = app();
    let limits = "limits:\n  exports: {max_in_flight: 1}\n  rate: {rate: 15/m, burst: 4, delay: all}";
    let routes = "limits: [exports]\nroutes:\n  - {path: /hold/, limits: [rate]}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service(routes));
    released.release("/hold/1");
    assert_eq!(get(gateway.address(), "/hold/1").status, 200);
    let mut delayed = ask(&gateway, "/hold/2");
    wait_for_metric(&gateway, "probegate_limit_waiting{limit=\"rate\"}", 1.0);
    assert_eq!(get(gateway.address(), "/between").status, 200);
    app.wait_for_requests(3);
    in_flight(&gateway, 1.0);
    // This one finds no place when its time has come.
    assert_eq!(get(gateway.address(), "/hold/3").status, 429);
    let line = gateway.access("/hold/3");
    assert_eq!(line["reason"], "in_flight_exceeded");
    assert!(line["delayed_ms"].as_f64().unwrap() > 0.0, "{line}");
    released.release("/hold/2");
    assert_eq!(delayed.response().status, 200);
    assert_eq!(app.targets(), ["/hold/1", "/between", "/hold/2"]);
}

#[test]
fn whom_a_rule_refuses_takes_no_place_and_needs_none() {
    let (app, released) = app();
    let config = Config::before(&app)
        .top("limits: {exports: {max_in_flight: 1, queue: 5}}\nnetworks: {nobody: [192.0.2.0/24]}")
        .service("limits: [exports]\nroutes:\n  - {path: /shut, allow: {network: nobody}}");
    let gateway = Gateway::start(config);
    let mut held = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    assert_eq!(get(gateway.address(), "/shut").status, 403);
    assert_eq!(gateway.access("/shut")["decision"], "deny");
    released.release("/hold/1");
    assert_eq!(held.response().status, 200);
}

#[test]
fn in_shadow_mode_it_counts_and_refuses_nobody() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 1, mode: shadow}"));
    let mut clients: Vec<_> = (0..3).map(|number| ask(&gateway, &format!("/hold/{number}"))).collect();
    app.wait_for_requests(3);
    in_flight(&gateway, 3.0);
    for (number, client) in clients.iter_mut().enumerate() {
        released.release(&format!("/hold/{number}"));
        assert_eq!(client.response().status, 200);
    }
    // One has the place, one would have waited, one would have been refused.
    wait_for_metric(&gateway, "probegate_limit_shadow_total{limit=\"exports\"}", 1.0);
    assert!(metric(&gateway, "probegate_limited_total{limit=\"exports\"}") < 0.5);
    in_flight(&gateway, 0.0);
}

#[test]
fn two_limits_are_both_kept_and_the_line_of_one_holds_up_nobody_else() {
    let (app, released) = app();
    let limits =
        "limits:\n  exports: {max_in_flight: 1, queue: 1, queue_timeout: 60s}\n  all: {max_in_flight: 3, key: service}";
    let gateway = Gateway::start(Config::before(&app).top(limits).service("limits: [all, exports]"));
    let mut first = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    // It waits for a place of its client's, and takes none of everybody's meanwhile: `exports` comes first in the file.
    let mut second = ask(&gateway, "/hold/2");
    waiting(&gateway, 1.0);
    wait_for_metric(&gateway, "probegate_limit_in_flight{limit=\"all\"}", 1.0);
    let mut others: Vec<_> =
        (2..=3).map(|last| ask_from(&gateway, [127, 0, 0, last], &format!("/hold/other{last}"))).collect();
    app.wait_for_requests(3);
    let refused = ask_from(&gateway, [127, 0, 0, 4], "/full").response();
    assert_eq!(refused.status, 503);
    assert_eq!(gateway.access("/full")["policy"], "limit:all");
    released.release("/hold/1");
    assert_eq!(first.response().status, 200);
    app.wait_for_requests(4);
    for target in ["/hold/2", "/hold/other2", "/hold/other3"] {
        released.release(target);
    }
    assert_eq!(second.response().status, 200);
    assert!(others.iter_mut().all(|client| client.response().status == 200));
    in_flight(&gateway, 0.0);
    wait_for_metric(&gateway, "probegate_limit_in_flight{limit=\"all\"}", 0.0);
}

/// The configuration with other words in the place of these.
/// Changes the configuration, and waits until it is in effect.
fn reload(gateway: &Gateway, before: &str, after: &str) {
    let reloads = || gateway.log_lines().iter().filter(|line| line.contains("configuration reloaded")).count();
    let earlier = reloads();
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    assert!(text.contains(before), "{text}");
    std::fs::write(gateway.config_path(), text.replace(before, after)).unwrap();
    gateway.signal("HUP");
    eventually("the configuration is reloaded", || (reloads() > earlier).then_some(()));
}

#[test]
fn a_reload_keeps_who_is_in_and_who_waits() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1, queue: 1, queue_timeout: 60s}"));
    let mut held = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    let mut queued = ask(&gateway, "/hold/2");
    waiting(&gateway, 1.0);
    reload(&gateway, "queue: 1,", "queue: 2,");
    in_flight(&gateway, 1.0);
    // It has the new plan, and stands behind one with the old one.
    let mut third = ask(&gateway, "/hold/3");
    waiting(&gateway, 2.0);
    assert_eq!(get(gateway.address(), "/full").status, 429);
    for (number, client) in [(1, &mut held), (2, &mut queued), (3, &mut third)] {
        let target = format!("/hold/{number}");
        eventually("it is its turn", || (app.targets().last() == Some(&target)).then_some(()));
        released.release(&target);
        assert_eq!(client.response().text(), target);
    }
    in_flight(&gateway, 0.0);
}

#[test]
fn more_places_after_a_reload_are_for_those_who_come_and_fewer_end_nobody() {
    let (app, released) = app();
    let gateway = Gateway::start(limited(&app, "{max_in_flight: 1}"));
    let mut first = ask(&gateway, "/hold/1");
    app.wait_for_requests(1);
    reload(&gateway, "max_in_flight: 1", "max_in_flight: 2");
    eventually("there are more places", || (get(gateway.address(), "/probe").status == 200).then_some(()));
    // A place is given back a moment after the answer.
    in_flight(&gateway, 1.0);
    let mut second = ask(&gateway, "/hold/2");
    eventually("both are at the app", || app.targets().contains(&"/hold/2".to_owned()).then_some(()));
    reload(&gateway, "max_in_flight: 2", "max_in_flight: 1");
    eventually("there are fewer", || (get(gateway.address(), "/probe").status == 429).then_some(()));
    released.release("/hold/1");
    assert_eq!(first.response().status, 200);
    in_flight(&gateway, 1.0);
    assert_eq!(get(gateway.address(), "/still").status, 429);
    released.release("/hold/2");
    assert_eq!(second.response().status, 200);
    in_flight(&gateway, 0.0);
    assert_eq!(get(gateway.address(), "/after").status, 200);
}

/// An app that switches protocols, and one that says nothing.
fn silent(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        if request.target() == "/hangs" {
            connection.wait_closed();
            return;
        }
        if request.field("upgrade").is_some() {
            connection.write(concat!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            ));
            connection.wait_closed();
            return;
        }
        connection.write(ok("plain"));
    }
}

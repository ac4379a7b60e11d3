//! Aggregates: one answer from what several services say, however they behave.

mod observed;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Client, Ended, Folder, Gate, Gateway, Response, Upstream, eventually, exchange, free_address, get, metric, ok,
    probegate, run, wait_for_metric,
};

const TOKEN: &str = "the-token-of-the-monitor-0123456789abcdef";
const NEAR: [u8; 4] = [127, 0, 0, 1];
const FAR: [u8; 4] = [127, 0, 0, 9];

/// One listener for everything, which redirects, and one for probes; services by name, each with its server and more lines.
fn config(services: &[(&str, String, &str)], aggregates: &str) -> String {
    let mut text = format!(
        "listeners:\n  - {{address: \"127.0.0.1:0\", redirect_https: true}}\n  - {{address: \"127.0.0.2:0\", serve: probes}}\n\
         workers: 2\nadmin: {{address: \"127.0.0.1:0\"}}\nnetworks: {{internal: [\"127.0.0.1/32\"]}}\n\
         tokens: {{probe: {{slots: [{{name: uptime, value: {TOKEN}}}]}}}}\n\
         limits: {{few: {{rate: 1/h, burst: 0}}}}\nprobes: {{timeout: 30s}}\naggregates:\n{aggregates}services:\n"
    );
    for (name, server, lines) in services {
        write!(
            text,
            "  {name}:\n    hosts: [{name}.example.com]\n    limits: [few]\n    upstream: {{servers: [\"{server}\"]}}\n"
        )
        .unwrap();
        for line in lines.lines() {
            writeln!(text, "    {line}").unwrap();
        }
    }
    text
}

fn ask(gateway: &Gateway, listener: usize, from: [u8; 4], head: &str) -> Response {
    let mut client = Client::connect_from(from, gateway.addresses()[listener]);
    client.send(format!("{head}\r\n\r\n"));
    if head.starts_with("HEAD") { client.response_to_head() } else { client.response() }
}

/// What the aggregate `/readyz` says on the listener for probes.
fn readyz(gateway: &Gateway) -> (u16, Value) {
    let answer = ask(gateway, 1, NEAR, "GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:8081");
    (answer.status, serde_json::from_str(&answer.text()).unwrap())
}

fn saying(status: &'static str) -> Upstream {
    Upstream::answering(move |_| format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}"))
}

#[test]
fn one_service_hangs_one_is_slow_one_refuses_and_one_fails() {
    let (hangs, slow) = (Arc::<Gate>::default(), Arc::<Gate>::default());
    let waits = |gate: &Arc<Gate>| {
        let gate = Arc::clone(gate);
        Upstream::answering(move |_| {
            gate.wait();
            ok("at last")
        })
    };
    let apps =
        [saying("200 OK"), waits(&hangs), waits(&slow), saying("503 Not now"), saying("302 Elsewhere\r\nLocation: /")];
    let [good, hung, late, bad, led] = &apps;
    let refuses = free_address();
    let gateway = Gateway::start(config(
        &[
            ("good", good.server(), ""),
            ("hung", hung.server(), "probes: {readyz: {timeout: 1s}}"),
            ("late", late.server(), "probes: {readyz: {timeout: 30s}}"),
            ("bad", bad.server(), ""),
            ("led", led.server(), ""),
            ("gone", refuses.to_string(), ""),
        ],
        "  all: {path: /readyz, timeout: 4s, services: {required: [good], optional: [hung, late, bad, led, gone]}}\n\
         \x20 strict: {path: /strict, timeout: 4s, services: {required: [good, hung]}}\n",
    ));
    let fail = |reason: &str| json!({"status": "fail", "reason": reason, "required": false});
    assert_eq!(
        readyz(&gateway),
        (
            200,
            json!({"status": "ready", "checks": {
                "good": "ok", "hung": fail("probe_timeout"), "late": fail("probe_timeout"), "bad": fail("status_503"),
                "led": fail("probe_redirected"), "gone": fail("upstream_unreachable"), "gateway": "ok",
            }})
        )
    );
    let strict = ask(&gateway, 1, NEAR, "GET /strict HTTP/1.1\r\nHost: a");
    assert_eq!(
        (strict.status, &*strict.text()),
        (
            503,
            r#"{"status": "not_ready", "checks": {"good": "ok", "hung": {"status": "fail", "reason": "probe_timeout"}, "gateway": "ok"}}"#
        )
    );
    let line = gateway.access("/strict");
    assert_eq!((&line["reason"], &line["policy"]), (&"aggregate_failing".into(), &"aggregate:strict".into()));
    assert_eq!((&line["origin"], &line["decision"]), (&"gateway".into(), &"fail".into()));

    // Both come round.
    slow.open();
    hangs.open();
    eventually("what was slow passes", || (readyz(&gateway).1["checks"]["late"] == "ok").then_some(()));
    eventually("what hung passes", || {
        (ask(&gateway, 1, NEAR, "GET /strict HTTP/1.1\r\nHost: a").status == 200).then_some(())
    });
    wait_for_metric(&gateway, "probegate_aggregate_passing{aggregate=\"strict\"}", 1.0);
    wait_for_metric(&gateway, "probegate_aggregate_service_passing{aggregate=\"all\",service=\"bad\"}", 0.0);
}

#[test]
fn a_service_that_flaps_turns_the_answer_only_after_so_many_in_a_row() {
    let (count, steady) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (theirs, mode) = (Arc::clone(&count), Arc::clone(&steady));
    let app = Upstream::answering(move |_| {
        let good = match mode.load(Ordering::SeqCst) {
            0 => theirs.fetch_add(1, Ordering::SeqCst).is_multiple_of(2),
            1 => false,
            _ => true,
        };
        if good { ok("{}") } else { b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec() }
    });
    let text = config(
        &[
            ("shop", app.server(), "probes: {readyz: {timeout: 30s, cache: {ok: 0s, fail: 0s}}}"),
            ("blog", app.server(), ""),
        ],
        "  all: {path: /readyz, timeout: 30s, fall: 3, rise: 2, services: {required: [shop]}}\n",
    );
    let gateway = Gateway::start(&text);
    for round in 0..20 {
        let (status, body) = readyz(&gateway);
        assert_eq!(status, 200, "{body}");
        let shop = if round % 2 == 0 { json!("ok") } else { json!({"status": "ok", "reason": "status_500"}) };
        assert_eq!(body["checks"]["shop"], shop, "round {round}");
    }
    // From a good answer on: two bad ones turn nothing, a reload forgets neither, the third one does.
    assert_eq!(readyz(&gateway).0, 200);
    steady.store(1, Ordering::SeqCst);
    assert_eq!([readyz(&gateway).0, readyz(&gateway).0], [200, 200]);
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    eventually("the third one turns it", || (readyz(&gateway).0 == 503).then_some(()));
    let line = gateway.wait_for_log(|line| line["message"] == "service does not pass");
    assert_eq!(
        (&line["aggregate"], &line["service"], &line["why"]),
        (&"all".into(), &"shop".into(), &"status_500".into())
    );
    steady.store(2, Ordering::SeqCst);
    let (status, body) = readyz(&gateway);
    assert_eq!((status, &body["checks"]["shop"]), (503, &json!({"status": "fail", "reason": "recovering"})));
    assert_eq!(readyz(&gateway).0, 200);
    gateway.wait_for_log(|line| line["message"] == "aggregate passes");
}

#[test]
fn an_answer_too_large_to_be_kept_serves_no_longer_than_another() {
    let mode = Arc::<AtomicUsize>::default();
    let theirs = Arc::clone(&mode);
    let large = "x".repeat(100_000);
    let app = Upstream::answering(move |_| match theirs.load(Ordering::SeqCst) {
        0 => ok(&large),
        1 => b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        2 => format!("HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n{large}", large.len()).into_bytes(),
        _ => ok("{}"),
    });
    let text = config(
        &[("shop", app.server(), "probes: {readyz: {cache: {ok: 1s, fail: 1s}}}"), ("blog", app.server(), "")],
        "  all: {path: /readyz, services: {required: [shop]}}\n",
    );
    let gateway = Gateway::start(&text);
    assert_eq!(readyz(&gateway).0, 200);
    for (next, status, why) in [(1, 503, "status_503"), (0, 200, ""), (2, 503, "status_500"), (3, 200, "")] {
        mode.store(next, Ordering::SeqCst);
        let changed = Instant::now();
        let body = eventually("the aggregate says what the app says", || {
            let (now, body) = readyz(&gateway);
            (now == status).then_some(body)
        });
        // It took ten seconds where nobody asked again.
        assert!(changed.elapsed() < Duration::from_secs(8), "mode {next}: {:?}", changed.elapsed());
        assert!(why.is_empty() || body["checks"]["shop"]["reason"] == why, "{body}");
    }
}

#[test]
fn a_storm_on_the_aggregate_is_one_request_for_each_app() {
    let gate = Arc::<Gate>::default();
    let apps: Vec<_> = (0..5)
        .map(|_| {
            let gate = Arc::clone(&gate);
            Upstream::answering(move |_| {
                gate.wait();
                ok("ready")
            })
        })
        .collect();
    let lines = "probes: {readyz: {timeout: 30s, cache: {ok: 5m, fail: 5m}}}";
    let names = ["a", "b", "c", "d", "e"];
    let services: Vec<_> = names.iter().zip(&apps).map(|(name, app)| (*name, app.server(), lines)).collect();
    let gateway = Gateway::start(config(&services, "  all: {path: /readyz, timeout: 30s}\n"));
    let mut clients: Vec<_> = (0..300).map(|_| Client::connect_from(NEAR, gateway.addresses()[1])).collect();
    for client in &mut clients {
        client.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("all apps are asked", || apps.iter().all(|app| !app.requests().is_empty()).then_some(()));
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    for app in &apps {
        assert_eq!(app.requests().len(), 1, "the app's own count");
        let asked = app.request();
        assert_eq!(asked.field("user-agent").as_deref(), Some("probegate"));
    }
    // The probe itself, as a balancer asks it, is the same question.
    assert_eq!(
        ask(&gateway, 1, NEAR, "GET /a/readyz HTTP/1.1\r\nHost: 10.1.2.3").field("x-probe-cache").as_deref(),
        Some("hit")
    );
    assert_eq!(
        ask(&gateway, 0, NEAR, "GET /readyz HTTP/1.1\r\nHost: a.example.com").field("x-probe-cache").as_deref(),
        Some("hit")
    );
    assert_eq!(apps[0].requests().len(), 1);
}

#[test]
fn names_are_for_those_whom_the_policy_lets_see_them() {
    let (shop, blog) = (saying("200 OK"), saying("503 No"));
    let gateway = Gateway::start(config(
        &[("shop", shop.server(), ""), ("blog", blog.server(), "")],
        "  status:\n    path: /status\n    timeout: 30s\n    hosts: [status.example.com, shop.example.com]\n    allow: {any: [{network: internal}, {token: probe}]}\n\
         \x20   deny: 404\n    services: {required: [shop], optional: [blog]}\n\
         \x20 open: {path: /open, timeout: 30s, hosts: [\"*\"], allow: anyone, details: {token: probe}, services: {required: [shop]}}\n\
         \x20 shut: {path: /shut, timeout: 30s, allow: anyone, details: off, deny: close, services: {required: [blog]}}\n\
         \x20 closed: {path: /closed, deny: close, services: {required: [blog]}}\n",
    ));
    let token = format!("X-Probe-Token: {TOKEN}");
    let at = |from, path: &str, host: &str, more: &str| {
        let more = if more.is_empty() { "A: b" } else { more };
        ask(&gateway, 0, from, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}"))
    };
    let seen = r#"{"status": "ready", "checks": {"shop": "ok", "blog": {"status": "fail", "reason": "status_503", "required": false}, "gateway": "ok"}}"#;
    for host in ["status.example.com", "shop.example.com", "shop.example.com:80"] {
        assert_eq!(at(NEAR, "/status", host, "").text(), seen, "{host}");
    }
    // Let in by a token, but not inside: the status alone.
    let monitor = at(FAR, "/status", "status.example.com", &token);
    assert_eq!((monitor.status, &*monitor.text()), (200, r#"{"status": "ready", "checks": {}}"#));
    let stranger = at(FAR, "/status", "status.example.com", "Accept: text/html");
    assert_eq!((stranger.status, stranger.field("location")), (404, None));
    assert!(!stranger.text().contains("shop"));
    assert_eq!(gateway.access("/status")["policy"], "aggregate:status");
    assert_eq!(at(FAR, "/open", "any.example", "").text(), r#"{"status": "ready", "checks": {}}"#);
    assert_eq!(
        at(FAR, "/open", "any.example", &token).text(),
        r#"{"status": "ready", "checks": {"shop": "ok", "gateway": "ok"}}"#
    );
    let shut = ask(&gateway, 1, NEAR, "GET /shut HTTP/1.1\r\nHost: a\r\nAccept: application/health+json");
    assert_eq!((shut.status, &*shut.text()), (503, r#"{"status": "fail"}"#));
    let mut closed = Client::connect_from(FAR, gateway.addresses()[1]);
    closed.send("GET /closed HTTP/1.1\r\nHost: a\r\n\r\n");
    closed.expect_closed();
    eventually("it is logged", || gateway.access_log().iter().any(|line| line["status"] == 444).then_some(()));

    // Other hosts, and other spellings, are nobody's aggregate: off to HTTPS like anything else there.
    assert_eq!(at(NEAR, "/status", "blog.example.com", "").status, 308);
    assert_eq!(at([127, 0, 0, 3], "/status/", "shop.example.com", "").status, 308);
    assert_eq!(at(NEAR, "/status", "nobody.example", "").status, 421);
}

#[test]
fn it_is_never_limited_redirected_or_a_page_and_speaks_two_formats() {
    let (shop, blog) = (saying("200 OK"), saying("503 No"));
    let gateway = Gateway::start(config(
        &[("shop", shop.server(), ""), ("blog", blog.server(), "")],
        "  all: {path: /all, timeout: 30s, hosts: [shop.example.com], services: {required: [shop], optional: [blog]}}\n\
         \x20 live: {path: /live, probe: healthz, timeout: 30s, services: {required: [shop, blog]}}\n",
    ));
    for listener in [0, 1] {
        for head in [
            "GET /all HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\nConnection: close",
            "GET /all HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed",
            "GET /all HTTP/1.1\r\nHost: shop.example.com\r\nAccept: text/html,*/*;q=0.8",
            "GET /all?cache=0 HTTP/1.1\r\nHost: shop.example.com",
        ] {
            let answer = ask(&gateway, listener, NEAR, head);
            assert_eq!((answer.status, answer.field("location")), (200, None), "{listener} {head}");
            assert_eq!(answer.field("content-type").as_deref(), Some("application/json"));
            assert_eq!(
                answer.field("cache-control").as_deref(),
                Some("max-age=0, no-cache, no-store, must-revalidate, private")
            );
            assert!(answer.field("expires").is_some());
        }
    }
    let head = ask(&gateway, 1, NEAR, "HEAD /all HTTP/1.1\r\nHost: a");
    assert_eq!((head.status, head.field("content-type").as_deref()), (200, Some("application/json")));
    assert!(head.field("content-length").is_some_and(|length| length != "0"));
    let draft = ask(
        &gateway,
        1,
        NEAR,
        "GET /all HTTP/1.1\r\nHost: a\r\nAccept: application/health+json, application/json;q=0.5",
    );
    assert_eq!(
        (draft.field("content-type").as_deref(), &*draft.text()),
        (
            Some("application/health+json"),
            concat!(
                r#"{"status": "warn", "checks": {"shop:readyz": [{"componentType": "component", "status": "pass"}], "#,
                r#""blog:readyz": [{"componentType": "component", "status": "fail", "output": "status_503"}], "#,
                r#""gateway:readyz": [{"componentType": "component", "status": "pass"}]}}"#
            )
        )
    );
    let live = ask(&gateway, 1, NEAR, "GET /live HTTP/1.1\r\nHost: a");
    assert_eq!(
        (live.status, &*live.text()),
        (503, r#"{"status": "fail", "checks": {"shop": "ok", "blog": {"status": "fail", "reason": "status_503"}}}"#)
    );
    for (method, status) in [("POST", 405), ("DELETE", 405), ("OPTIONS", 405)] {
        let answer = ask(&gateway, 1, NEAR, &format!("{method} /all HTTP/1.1\r\nHost: a\r\nContent-Length: 0"));
        assert_eq!((answer.status, answer.field("allow").as_deref()), (status, Some("GET, HEAD")), "{method}");
    }
    // A stranger does not learn from a 405 that something is here (D10).
    assert_eq!(ask(&gateway, 1, FAR, "POST /all HTTP/1.1\r\nHost: a\r\nContent-Length: 0").status, 403);
    // A body that nobody asked for is not read as the next request.
    let mut client = Client::connect_from(NEAR, gateway.addresses()[1]);
    client.send("GET /all HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /all HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.response().status, client.response().status), (200, 200));
    assert!(metric(&gateway, "probegate_probe_requests_total{service=\"\",probe=\"readyz\"}") >= 10.0);
}

#[test]
fn what_checks_know_costs_nobody_a_question() {
    let healthy = Arc::new(AtomicUsize::new(1));
    let theirs = Arc::clone(&healthy);
    let one = Upstream::answering(move |_| {
        if theirs.load(Ordering::SeqCst) == 1 {
            ok("up")
        } else {
            b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
    });
    let other = Upstream::answering(|_| ok("up"));
    let text = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.2:0\", serve: probes}}]\nworkers: 1\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         networks: {{internal: [\"127.0.0.1/32\"]}}\n\
         aggregates:\n  all: {{path: /readyz, from: checks, up: 100%}}\n  half: {{path: /half, from: checks, up: 50%}}\n  any: {{path: /any, from: checks}}\n\
         services:\n  shop:\n    hosts: [shop.example.com]\n    upstream:\n      servers: [\"{}\", \"{}\"]\n      health: {{path: /up, interval: 100ms, timeout: 30s, fall: 1, rise: 1}}\n\
         \x20 moved: {{hosts: [old.example.com], redirect: {{to: \"https://shop.example.com/\"}}}}\n",
        one.server(),
        other.server()
    );
    let gateway = Gateway::start(&text);
    let status = |path: &str| ask(&gateway, 1, NEAR, &format!("GET {path} HTTP/1.1\r\nHost: a")).status;
    eventually("all were checked", || (status("/readyz") == 200).then_some(()));
    healthy.store(0, Ordering::SeqCst);
    eventually("one is down", || (status("/readyz") == 503).then_some(()));
    assert_eq!((status("/half"), status("/any")), (200, 200));
    assert_eq!(readyz(&gateway).1["checks"]["shop"], json!({"status": "fail", "reason": "servers_down"}));
    for request in one.requests().iter().chain(&other.requests()) {
        assert_eq!(request.target(), "/up", "nothing but checks");
    }
}

#[test]
fn while_the_gateway_goes_down_its_readiness_fails_first() {
    let app = saying("200 OK");
    let text = config(
        &[("shop", app.server(), "probes: {readyz: {cache: {ok: 5m}}}"), ("blog", app.server(), "")],
        "  all: {path: /readyz, timeout: 30s, services: {required: [shop]}}\n  apps: {path: /apps, timeout: 30s, gateway: false, services: {required: [shop]}}\n\
         \x20 live: {path: /live, probe: healthz, timeout: 30s, services: {required: [shop]}}\n",
    );
    let mut gateway = Gateway::start(text + "shutdown: {delay: 10s}\n");
    let mut before = Client::connect_from(NEAR, gateway.addresses()[1]);
    before.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(before.response().status, 200);
    gateway.signal("TERM");
    gateway.wait_for_log(|line| line["message"] == "draining");
    // New connections are taken, apps are asked, and whoever asks whether to send more is told no.
    let (status, body) = readyz(&gateway);
    assert_eq!((status, &body["checks"]["gateway"]), (503, &json!({"status": "fail", "reason": "draining"})));
    assert_eq!(body["checks"]["shop"], "ok");
    for (path, status) in [("/apps", 200), ("/live", 200), ("/shop/readyz", 503)] {
        assert_eq!(ask(&gateway, 1, NEAR, &format!("GET {path} HTTP/1.1\r\nHost: a")).status, status, "{path}");
    }
    assert!(gateway.is_running());
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn explain_tells_whom_it_asks_and_what_the_client_sees() {
    let folder = Folder::new();
    let text = "\
listeners: [{address: \"127.0.0.1:8080\"}, {address: \"127.0.0.1:8081\", serve: probes}]
services:
  shop: {hosts: [shop.example.com], upstream: {servers: [\"127.0.0.1:1\"]}}
  blog: {hosts: [blog.example.com], upstream: {servers: [\"127.0.0.1:2\"]}}
aggregates:
  all: {path: /readyz, services: {required: [shop], optional: [blog]}, fall: 3}
";
    let file = folder.write("probegate.yaml", text).display().to_string();
    let explain = |url: &str, more: &[&str]| -> Ended {
        run(&mut probegate([&["explain", "-c", &file], more, &["GET", url]].concat()))
    };
    let told = explain("http://10.0.0.1:8081/readyz", &[]);
    assert_eq!(told.code, Some(0));
    assert_eq!(
        told.out.replace(&file, "FILE"),
        "\
request   GET http://10.0.0.1:8081/readyz from 127.0.0.1
path      `/readyz`
peer      127.0.0.1, not a trusted proxy: forwarding fields are ignored
client    127.0.0.1 (peer)
service   none: an aggregate answers whatever the host is
part      aggregate `all` at `/readyz` (FILE:6)
rule      network internal (default): lets it in
required  shop
optional  blog
asked     for `readyz`, each from behind its shield, within 800ms together: one fails after 3 failures in a row, passes after 1
gateway   it fails while the gateway itself is not ready
details   this client sees the services
verdict   passes: the gateway answers
"
    );
    let refused = explain("http://10.0.0.1:8081/readyz", &["--from", "203.0.113.9"]);
    assert!(refused.code == Some(1) && refused.out.contains("verdict   refused: 403"), "{}", refused.out);
    let probe = explain("http://10.0.0.1:8081/shop/readyz", &[]).out;
    assert!(
        probe.contains("service   `shop` answers whatever the host is (") && !probe.contains("for host"),
        "{probe}"
    );
    let nothing = explain("http://10.0.0.1:8081/x", &[]).out;
    assert!(nothing.contains("service   none: this listener serves probes, and there is none here\n"), "{nothing}");
    let meant = explain("http://10.0.0.1:8081/healthz", &[]).out;
    assert!(
        meant.contains("there is none here; by the names of services: `/shop/healthz`, `/blog/healthz`\n"),
        "{meant}"
    );
    let elsewhere = explain("http://shop.example.com:8080/readyz", &[]).out;
    assert!(elsewhere.contains("part      probe `readyz`"), "{elsewhere}");
}

#[test]
fn an_app_without_a_name_is_asked_under_localhost() {
    let app = Upstream::answering(|_| ok("ready"));
    let text = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nworkers: 1\nadmin: off\nprobes: {{timeout: 30s}}\naggregates: {{all: {{path: /all, timeout: 30s, hosts: [\"*\"]}}}}\n\
         services: {{app: {{upstream: {{servers: [\"{}\"]}}}}}}\n",
        app.server()
    );
    let gateway = Gateway::start(text);
    assert_eq!(exchange(gateway.address(), "GET /all HTTP/1.1\r\nHost: any.example\r\n\r\n").status, 200);
    assert_eq!(app.request().field("host").as_deref(), Some("localhost"));
    assert_eq!(get(gateway.address(), "/").status, 200);
}

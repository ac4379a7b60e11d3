//! Active checks: servers that fail them get nothing, and get their share again when they pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{
    APP_TOKEN, Authority, Config, Folder, Gateway, Http2App, Unreachable, Upstream, app_config, eventually, get,
    metric, ok, probegate, run, wait_for_metric,
};

/// A server with a status for its checks.
struct Checked {
    app: Upstream,
    status: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Checked {
    fn start(status: usize) -> Self {
        let [status, checks, requests] = [status, 0, 0].map(|number| Arc::new(AtomicUsize::new(number)));
        let (answered, checked, asked) = (Arc::clone(&status), Arc::clone(&checks), Arc::clone(&requests));
        let app = Upstream::answering(move |request| {
            if request.target() == "/" {
                asked.fetch_add(1, Ordering::SeqCst);
                return ok("answered");
            }
            checked.fetch_add(1, Ordering::SeqCst);
            let status = answered.load(Ordering::SeqCst);
            format!("HTTP/1.1 {status} Status\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n").into_bytes()
        });
        Self { app, status, checks, requests }
    }

    fn answer(&self, status: usize) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

const FAST: &str = "health: {interval: 100ms, timeout: 30s}";

fn status(gateway: &Gateway) -> Vec<Value> {
    let ended = run(probegate(["status", "--json", "--admin"]).arg(gateway.admin().to_string()));
    let status: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    status["services"][0]["servers"].as_array().unwrap().clone()
}

/// Waits until a server is in this state.
fn wait_for(gateway: &Gateway, server: usize, health: &str) -> Value {
    eventually(health, || Some(status(gateway)[server].clone()).filter(|server| server["health"] == health))
}

fn up(label: &str) -> String {
    format!("probegate_upstream_server_up{{service=\"app\",server=\"{label}\",slot=\"\"}}")
}

#[test]
fn a_server_that_fails_its_checks_gets_nothing_until_it_passes_again() {
    let (one, other) = (Checked::start(200), Checked::start(200));
    let labels = [one.app.server(), other.app.server()];
    let gateway = Gateway::start(Config::servers(labels.clone()).workers(2).upstream(FAST));
    for (index, label) in labels.iter().enumerate() {
        wait_for(&gateway, index, "up");
        wait_for_metric(&gateway, &up(label), 1.0);
    }
    // A redirect leads to something that was not asked, and is no success.
    one.answer(302);
    let line = gateway.wait_for_log(|line| line["message"] == "server is down");
    assert_eq!((line["service"].as_str(), line["server"].as_str()), (Some("app"), Some(&*labels[0])));
    assert_eq!(line["why"], "it answers with status 302");
    wait_for_metric(&gateway, &up(&labels[0]), 0.0);
    let down = wait_for(&gateway, 0, "down");
    assert_eq!((&down["state"], &down["why"]), (&"down".into(), &"check: it answers with status 302".into()));
    let before = one.requests();
    for _ in 0..30 {
        assert_eq!(get(gateway.address(), "/").status, 200);
    }
    assert_eq!(one.requests(), before, "a server that is down got a request");
    assert!(
        metric(
            &gateway,
            &format!(
                "probegate_upstream_checks_total{{service=\"app\",server=\"{}\",slot=\"\",result=\"failed\"}}",
                labels[0]
            )
        ) > 2.5
    );

    one.answer(204);
    gateway.wait_for_log(|line| line["message"] == "server is up" && line["server"] == *labels[0]);
    wait_for_metric(&gateway, &up(&labels[0]), 1.0);
    eventually("it gets requests again", || {
        assert_eq!(get(gateway.address(), "/").status, 200);
        (one.requests() > before).then_some(())
    });
}

#[test]
fn with_every_server_down_nobody_is_asked() {
    let one = Checked::start(503);
    let gateway =
        Gateway::start(Config::before(&one.app).upstream("health: {interval: 100ms, timeout: 30s, fall: 1, rise: 1}"));
    wait_for(&gateway, 0, "down");
    let before = one.requests();
    assert_eq!(get(gateway.address(), "/").status, 503);
    assert_eq!(gateway.access("/")["reason"], "upstream_down");
    assert_eq!(one.requests(), before);
    one.answer(200);
    wait_for(&gateway, 0, "up");
    assert_eq!(get(gateway.address(), "/").status, 200);
}

#[test]
fn a_server_that_was_never_checked_is_asked() {
    let hung = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/" {
                connection.write(ok("answered"));
            } else {
                // It takes the check and never answers.
                connection.wait_closed();
            }
        }
    });
    let gateway = Gateway::start(Config::before(&hung).upstream("health: {interval: 100ms, timeout: 4s, fall: 2}"));
    assert_eq!(get(gateway.address(), "/").status, 200);
    let line = gateway.wait_for_log(|line| line["message"] == "server is down");
    assert_eq!(line["why"], "the application did not answer in time");
}

#[test]
fn the_check_is_asked_as_the_app_wants_to_be_asked() {
    let one = Checked::start(207);
    let health = "health: {path: /internal/health, host: \"shop.example.com:8443\", token: {env: APP_PROBE_TOKEN}, status: [207], interval: 100ms, timeout: 30s}";
    let gateway = Gateway::with(Config::before(&one.app).upstream(health)).env("APP_PROBE_TOKEN", APP_TOKEN).start();
    wait_for(&gateway, 0, "up");
    let request = one.app.requests()[0].clone();
    assert_eq!(request.line(), "GET /internal/health HTTP/1.1");
    for (name, value) in [
        ("host", "shop.example.com:8443"),
        ("x-probe-token", APP_TOKEN),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "127.0.0.1"),
        ("user-agent", "probegate"),
        ("connection", "close"),
    ] {
        assert_eq!(request.field(name).as_deref(), Some(value), "{name}");
    }
    // Without a host of its own, the first one of the service.
    let two = Checked::start(200);
    let config = Config::before(&two.app).upstream(FAST).service("hosts: [\"*.example.org\", shop.example.com]");
    let gateway = Gateway::start(config);
    wait_for(&gateway, 0, "up");
    assert_eq!(two.app.requests()[0].field("host").as_deref(), Some("shop.example.com"));
    assert_eq!(two.app.requests()[0].target(), "/healthz");
}

#[test]
fn whatever_a_server_speaks_it_is_checked_in_it() {
    // HTTP/2 with prior knowledge.
    let app = Http2App::scripted(|mut call| async move {
        call.read().await;
        call.answer(200, &[], "fine").await;
    });
    let gateway = Gateway::start(Config::servers([app.server()]).upstream("protocol: http2").upstream(FAST));
    wait_for(&gateway, 0, "up");
    assert!(app.seen()[0].uri.ends_with("/healthz"), "{:?}", app.seen()[0]);
    // TLS that is verified, and TLS that is not what it should be.
    let (authority, stranger) = (Authority::new("one"), Authority::new("another"));
    let issued = authority.issue(&["localhost"]);
    let app = Upstream::answering_over_tls(app_config(&issued, None, &[b"http/1.1"]), |_| ok("fine"));
    let server = format!("https://{}", app.server());
    for (trusted, health) in [(&authority, "up"), (&stranger, "down")] {
        let config = Config::servers([server.clone()])
            .upstream("tls: {ca: ca.pem, server_name: localhost}")
            .upstream("health: {interval: 100ms, timeout: 30s, fall: 1}");
        let gateway = Gateway::with(config).file("ca.pem", &trusted.pem).start();
        wait_for(&gateway, 0, health);
    }
    // A Unix socket, and the PROXY protocol, in which nobody's name is told.
    let app = Upstream::answering_on_unix_socket(|_| ok("fine"));
    let gateway = Gateway::start(Config::before(&app).upstream(FAST));
    wait_for(&gateway, 0, "up");
    let app = Upstream::scripted(|connection| {
        let header = connection.exactly(16).unwrap();
        assert_eq!(header[12], 0x20, "LOCAL");
        while connection.request().is_some() {
            connection.write(ok("fine"));
        }
    });
    let gateway = Gateway::start(Config::before(&app).upstream("proxy_protocol: true").upstream(FAST));
    wait_for(&gateway, 0, "up");
}

#[test]
fn a_connection_is_enough_where_that_is_said() {
    let app = Upstream::scripted(|connection| drop(connection.some()));
    let refusing = Unreachable::refusing();
    let config =
        Config::servers([app.server(), refusing.server()]).upstream("health: {tcp: true, interval: 100ms, fall: 2}");
    let gateway = Gateway::start(config);
    wait_for(&gateway, 0, "up");
    let down = wait_for(&gateway, 1, "down");
    assert_eq!(down["why"], "check: the application cannot be reached");
}

#[test]
fn a_reload_keeps_what_checks_know_and_ends_those_that_are_not_wanted_any_more() {
    let (one, other, folder) = (Checked::start(503), Checked::start(200), Folder::new());
    let config = |health: &str| {
        Config::servers([one.app.server(), other.app.server()])
            .upstream(health)
            .top(&format!("storage: {}", folder.path().display()))
            .to_string()
    };
    let gateway = Gateway::start(config("health: {interval: 200ms, timeout: 30s}"));
    wait_for(&gateway, 0, "down");
    wait_for(&gateway, 1, "up");
    let reload = |count: usize| {
        gateway.signal("HUP");
        eventually("it is reloaded", || {
            let lines = gateway.log_lines();
            (lines.iter().filter(|line| line.contains("configuration reloaded")).count() >= count).then_some(())
        });
    };
    let (begun, before) = (std::time::Instant::now(), other.checks.load(Ordering::SeqCst));
    for count in 1..=10 {
        reload(count);
        assert_eq!(status(&gateway)[0]["health"], "down");
    }
    eventually("it is checked on", || (other.checks.load(Ordering::SeqCst) >= before + 5).then_some(()));
    // As often as by one task, which never comes sooner than nine tenths of the interval.
    let (checks, most) = (other.checks.load(Ordering::SeqCst) - before, begun.elapsed().as_millis() / 180 + 2);
    assert!(checks as u128 <= most, "{checks} checks where {most} are due");
    assert_eq!(gateway.log_lines().iter().filter(|line| line.contains("server is down")).count(), 1);

    // Another question is another check, of a server that nothing is known about.
    std::fs::write(gateway.config_path(), config("health: {interval: 100ms, timeout: 30s, path: /other}")).unwrap();
    reload(11);
    eventually("it is asked anew", || one.app.targets().contains(&"/other".to_owned()).then_some(()));
    eventually("it is down again", || {
        (gateway.log_lines().iter().filter(|line| line.contains("server is down")).count() == 2).then_some(())
    });
    // And without a question, there is nothing to know.
    std::fs::write(gateway.config_path(), config("")).unwrap();
    reload(12);
    wait_for(&gateway, 0, "unknown");
    assert_eq!(metric(&gateway, &up(&one.app.server())).to_bits(), 0.0_f64.to_bits());
    eventually("the server that was down is asked", || {
        get(gateway.address(), "/");
        (one.requests() > 0).then_some(())
    });
}

#[test]
fn a_check_is_for_the_host_that_the_app_is_told_of() {
    for (more, host) in [("", "app.internal"), (", host: check.internal", "check.internal")] {
        // An app of its own: checks of the gateway before may still lie there.
        let app = Upstream::answering(|_| ok("answered"));
        let upstream = format!("health: {{interval: 100ms{more}}}");
        let _gateway = Gateway::start(Config::before(&app).upstream(&upstream).service("host: app.internal"));
        eventually(host, || {
            let requests = app.requests();
            let check = requests.iter().find(|request| request.target() == "/healthz")?;
            assert_eq!(check.field("host").as_deref(), Some(host));
            Some(())
        });
    }
}

//! The life of the process: reload, drain, and the signals for both. The hand-over to a new process is in `handover`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{
    Client, Config, Folder, Gate, Gateway, Upstream, accepts, eventually, exchange, free_address, gated, get,
    get_admin, listening_on, metric, ok, wait_ready,
};

/// Writes the configuration and asks for a reload; whether it was put in force.
pub(crate) fn reload(gateway: &Gateway, config: &(impl ToString + ?Sized)) -> bool {
    let counts = || (metric(gateway, "probegate_reloads_total"), metric(gateway, "probegate_reload_failures_total"));
    let (reloads, failures) = counts();
    std::fs::write(gateway.config_path(), config.to_string()).unwrap();
    gateway.signal("HUP");
    eventually("a reload", || match counts() {
        (now, _) if now > reloads => Some(true),
        (_, now) if now > failures => Some(false),
        _ => None,
    })
}

/// An app that answers `/slow` when the gate is open, and everything else at once.
fn slow_app() -> (Upstream, Arc<Gate>) {
    let (gate, app) = gated("/slow", "answered");
    (app, gate)
}

/// A request to `/slow` that the app has received.
fn in_flight(gateway: &Gateway, app: &Upstream) -> Client {
    let mut client = Client::connect(gateway.address());
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the app has it", || app.targets().contains(&"/slow".to_owned()).then_some(()));
    client
}

fn own_readiness(gateway: &Gateway) -> u16 {
    get_admin(gateway.admin(), "/readyz").status
}

fn error_log(gateway: &Gateway, about: &str) -> String {
    let line =
        gateway.wait_for_log(|line| line["level"] == "ERROR" && line["message"].as_str().unwrap().contains(about));
    line["message"].as_str().unwrap().to_owned()
}

#[test]
fn sighup_puts_a_new_rule_in_force_and_a_request_in_flight_keeps_its_plan() {
    let (app, gate) = slow_app();
    let config = Config::before(&app).workers(2).top("networks: {nobody: [192.0.2.1/32]}");
    let open = config.clone().service("routes:\n  - {path: /slow, allow: anyone}");
    let gateway = Gateway::start(&open);
    let mut idle = Client::connect(gateway.address());
    idle.send("GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().status, 200);
    let mut early = in_flight(&gateway, &app);

    let shut = config.service("routes:\n  - {path: /slow, allow: {network: nobody}, deny: 404}");
    assert!(reload(&gateway, &shut));
    assert_eq!(get(gateway.address(), "/slow").status, 404, "a new connection");
    idle.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().status, 404, "a connection from before");
    gate.open();
    assert_eq!(early.response().text(), "answered");
    early.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(early.response().status, 404, "the next request of the same connection");
    assert_eq!(app.targets().iter().filter(|target| *target == "/slow").count(), 1);
    let line = gateway.wait_for_log(|line| line["target"] == "/slow" && line["status"] == 200);
    assert_eq!(line["policy"], "route:/slow");
}

#[test]
fn limits_keep_their_state_over_a_reload() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).workers(2).service("limits: [few]");
    let gateway = Gateway::start(config.clone().top("limits: {few: {rate: 1/d, burst: 2}}"));
    let statuses = |count: usize| -> Vec<u16> { (0..count).map(|_| get(gateway.address(), "/").status).collect() };
    assert_eq!(statuses(2), [200, 200]);
    assert!(reload(&gateway, &config.clone().top("# nothing new\nlimits: {few: {rate: 1/d, burst: 2}}")));
    assert_eq!(statuses(2), [200, 429]);
    // More room under the same name: what was used stays used.
    assert!(reload(&gateway, &config.clone().top("limits: {few: {rate: 1/d, burst: 3}}")));
    assert_eq!(statuses(2), [200, 429]);
    assert!(!reload(&gateway, &config.top("limits: {fewer: {rate: 1/d}}")));
    assert_eq!(statuses(1), [429], "nor does a reload that was refused forget anything");
}

#[test]
fn a_reload_binds_new_listeners_and_closes_old_ones() {
    let (app, gate) = slow_app();
    let config = Config::before(&app).workers(2);
    let [first, second] = [free_address(), free_address()];
    let on = |listeners: &[SocketAddr]| listening_on(&config, listeners);
    let gateway = Gateway::start(on(&[first]));
    assert_eq!(gateway.address(), first);
    let mut early = in_flight(&gateway, &app);

    assert!(reload(&gateway, &on(&[first, second])));
    assert_eq!((get(first, "/").status, get(second, "/").status), (200, 200));
    assert!(reload(&gateway, &on(&[second])));
    eventually("the old listener is closed", || (!accepts(first)).then_some(()));
    for _ in 0..20 {
        assert_eq!(get(second, "/").status, 200);
    }
    gate.open();
    assert_eq!(early.response().status, 200, "a request that came over the closed listener");
    early.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(early.response().status, 200, "its connection lives on");
    // A port that was given back can be had again.
    assert!(reload(&gateway, &on(&[first, second])));
    assert_eq!((get(first, "/").status, get(second, "/").status), (200, 200));
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).service("routes:\n  - {path: /shut, allow: {network: nobody}}");
    let config = config.top("networks: {nobody: [192.0.2.1/32]}");
    let gateway = Gateway::start(&config);
    let loaded = metric(&gateway, "probegate_config_loaded_timestamp_seconds");
    let bad = config.to_string().replace("network: nobody}", "network: nobdy}");
    assert!(!reload(&gateway, &bad));
    let reason = error_log(&gateway, "reload refused");
    let line = bad.lines().position(|line| line.contains("nobdy}")).unwrap() + 1;
    for part in
        ["network `nobdy` is not defined", &format!("probegate.yaml: line {line}, column "), "did you mean `nobody`?"]
    {
        assert!(reason.contains(part), "{part:?} is not in {reason}");
    }
    assert!(!reload(&gateway, "\t- nonsense: ["), "no YAML at all");
    std::fs::remove_file(gateway.config_path()).unwrap();
    gateway.signal("HUP");
    eventually("three", || (metric(&gateway, "probegate_reload_failures_total") >= 3.0).then_some(()));
    assert_eq!((get(gateway.address(), "/shut").status, get(gateway.address(), "/").status), (403, 200));
    assert!(metric(&gateway, "probegate_reloads_total") < 0.5);
    assert!((metric(&gateway, "probegate_config_loaded_timestamp_seconds") - loaded).abs() < 0.5);
    assert_eq!(own_readiness(&gateway), 200);
    assert!(reload(&gateway, &config.to_string().replace("/shut", "/elsewhere")), "and a good file still works");
    assert_eq!(get(gateway.address(), "/shut").status, 200);
}

#[test]
fn a_reload_that_cannot_bind_changes_nothing() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).workers(2).top("networks: {nobody: [192.0.2.1/32]}");
    let [own, free] = [free_address(), free_address()];
    let taken = TcpListener::bind(free_address()).unwrap();
    let address = taken.local_addr().unwrap();
    let gateway = Gateway::start(listening_on(&config, &[own]));

    let shut = config.service("routes:\n  - {path: /, allow: {network: nobody}}");
    let shut = listening_on(&shut, &[free, address]);
    assert!(!reload(&gateway, &shut));
    let reason = error_log(&gateway, "reload refused");
    assert!(reason.contains(&format!("cannot listen on {address}")), "{reason}");
    assert_eq!(get(own, "/").status, 200, "the old listener and the old rules");
    assert!(!accepts(free), "not even the listener that could be bound");
    drop(taken);
    assert!(reload(&gateway, &shut), "once the port is free");
    assert_eq!((get(free, "/").status, get(address, "/").status), (403, 403));
    eventually("the old listener is closed", || (!accepts(own)).then_some(()));
}

#[test]
fn an_access_log_that_cannot_be_written_is_refused_at_the_start_and_by_a_reload() {
    let app = Upstream::answering(|_| ok(""));
    let folder = Folder::new();
    let path = folder.path().join("missing/access.log").display().to_string();
    let config = Config::before(&app);
    let unwritable = config.clone().top(&format!("log: {{access: {{to: {path}}}}}"));
    let gateway = Gateway::start(&config);
    assert!(!reload(&gateway, &unwritable));
    assert!(error_log(&gateway, "reload refused").contains(&path));
    assert_eq!(get(gateway.address(), "/still-logged").status, 200);
    gateway.access("/still-logged");
    let mut gateway = Gateway::with(&unwritable).spawn();
    assert_eq!(gateway.wait_exit().code(), Some(1));
    error_log(&gateway, &path);
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let app = Upstream::answering(|_| ok(""));
    let arguments = ["proxy", &app.server(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let program = crate::harness::Program::start(&mut crate::harness::probegate(arguments));
    program.wait_for("it listens", |text| text.contains("\"admin listener\"").then_some(()));
    program.signal("HUP");
    program.wait_for("the reason", |text| text.contains("started without a configuration file").then_some(()));
    program.signal("TERM");
    assert_eq!(program.wait().code, Some(0));
}

#[test]
fn sigterm_fails_own_readiness_finishes_what_runs_refuses_newcomers_and_exits_0_at_once() {
    let (app, gate) = slow_app();
    let mut gateway = Gateway::start(Config::before(&app).workers(2).top("shutdown: {drain: 60s}"));
    let mut idle = Client::connect(gateway.address());
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.response().status, 200);
    let mut early = in_flight(&gateway, &app);
    wait_ready(&gateway);

    gateway.signal("TERM");
    eventually("own readiness fails", || (own_readiness(&gateway) == 503).then_some(()));
    let answer = get_admin(gateway.admin(), "/readyz").json();
    assert_eq!((&answer["status"], &answer["reason"]), (&"not_ready".into(), &"draining".into()));
    assert_eq!(get_admin(gateway.admin(), "/healthz").status, 200, "alive all the same");
    eventually("newcomers are refused", || (!accepts(gateway.address())).then_some(()));
    idle.expect_closed();
    assert!(gateway.is_running(), "a request is in flight");

    let opened = Instant::now();
    gate.open();
    assert_eq!(early.response().text(), "answered");
    early.expect_closed();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(opened.elapsed() < Duration::from_secs(45), "it must not wait for its deadline");
    gateway.access("/slow");
}

#[test]
fn a_stream_in_flight_is_whole_after_sigterm_and_a_new_request_on_its_connection_is_the_last() {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhead\r\n");
            theirs.wait();
            connection.write("4\r\ntail\r\n0\r\n\r\n");
        }
    });
    let mut gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    client.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    app.wait_for_requests(1);
    // The second one lies behind the first before the drain begins.
    client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    gateway.signal("TERM");
    eventually("own readiness fails", || (own_readiness(&gateway) == 503).then_some(()));
    gate.open();
    assert_eq!(client.response().text(), "headtail");
    let second = client.response();
    assert_eq!((second.status, second.closes()), (200, true));
    client.expect_closed();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_connection_that_never_asks_anything_does_not_hold_the_end_up() {
    let app = Upstream::answering(|_| ok(""));
    let mut gateway = Gateway::start(Config::before(&app).top("shutdown: {drain: 10m}"));
    let mut silent = Client::connect(gateway.address());
    eventually("it is accepted", || (metric(&gateway, "probegate_connections") > 0.5).then_some(()));
    gateway.signal("TERM");
    silent.expect_closed();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn the_deadline_ends_what_is_stuck_and_the_exit_code_is_still_0() {
    let (app, gate) = slow_app();
    let mut gateway = Gateway::start(Config::before(&app).top("shutdown: {delay: 200ms, drain: 300ms}"));
    let mut stuck = in_flight(&gateway, &app);
    let started = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(started.elapsed() >= Duration::from_millis(500), "not before the deadline");
    let answer = stuck.response();
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(answer.text().contains("shutting_down") || answer.text().contains("going down"), "{}", answer.text());
    stuck.expect_closed();
    gateway.wait_for_log(|line| {
        line["message"] == "the deadline ended connections that were still open" && line["connections"] == 1
    });
    gate.open();
}

#[test]
fn whatever_the_deadline_or_a_second_signal_cuts_off_is_in_the_log() {
    for impatient in [None, Some("TERM"), Some("INT")] {
        let (app, gate) = stuck_app();
        let drain = if impatient.is_some() { "10m" } else { "300ms" };
        let top = format!("shutdown: {{drain: {drain}}}\ntimeouts: {{head: 10m, body: 10m}}");
        // One worker: a connection that does not come to its end keeps the others from theirs.
        let mut gateway = Gateway::start(Config::before(&app).streaming().workers(1).top(&top));
        let mut silent = Client::connect(gateway.address());
        silent.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut begun = Client::connect(gateway.address());
        begun.send("GET /begun HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut upload = Client::connect(gateway.address());
        upload.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\npart");
        let mut download = Client::connect(gateway.address());
        download.send("GET /download HTTP/1.1\r\nHost: a\r\n\r\n");
        app.wait_for_requests(4);
        for begun in [&begun, &download] {
            eventually("the answer has begun", || (begun.sender().peek(&mut [0]).is_ok_and(|n| n > 0)).then_some(()));
        }
        let mut head = Client::connect(gateway.address());
        head.send("GET /head HTTP/1.1\r\nHost:");
        eventually("it is accepted", || (metric(&gateway, "probegate_connections") > 4.5).then_some(()));
        // Behind a request that has passed through the worker, what came before it has been read.
        assert_eq!(get(gateway.address(), "/%zz").status, 400);

        gateway.signal("TERM");
        gateway.wait_for_log(|line| line["message"] == "draining");
        if let Some(signal) = impatient {
            gateway.signal(signal);
        }
        assert_eq!(gateway.wait_exit().code(), Some(0));
        gate.open();
        let lines = gateway.access_log();
        for (target, status) in
            [("/silent", 503), ("/begun", 200), ("/upload", 503), ("/head", 503), ("/download", 200)]
        {
            let line = lines.iter().find(|line| line["target"] == target);
            let line = line.unwrap_or_else(|| panic!("no line for {target}: {lines:?}"));
            assert_eq!((&line["reason"], &line["status"]), (&"shutting_down".into(), &status.into()), "{line}");
        }
        assert_eq!(silent.response().status, 503);
        let (answer, end) = begun.response_and_end();
        assert_eq!((answer.status, &*answer.body), (200, &b"begun"[..]));
        assert_ne!(end, crate::harness::End::Whole);
    }
}

/// An app that answers nothing, or not all, before the gate is open.
fn stuck_app() -> (Upstream, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::scripted(move |connection| {
        match connection.head() {
            Some(request) if request.target() == "/begun" => {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
            }
            Some(request) if request.target() == "/download" => {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n");
                while connection.write([b'x'; 1 << 14]) {}
            }
            _ => {}
        }
        theirs.wait();
    });
    (app, gate)
}

#[test]
fn during_the_delay_requests_are_taken_while_readiness_fails_and_a_second_signal_ends_it() {
    let app = Upstream::answering(|_| ok(""));
    let config = Config::before(&app).top("shutdown: {delay: 10m}").service("probes: {readyz: {serve: answer}}");
    let mut gateway = Gateway::start(config);
    assert_eq!(get(gateway.address(), "/readyz").status, 200);
    gateway.signal("TERM");
    eventually("own readiness fails", || (own_readiness(&gateway) == 503).then_some(()));
    for count in 2..=21 {
        let mut client = Client::connect(gateway.address());
        // It sends only once it was accepted: a connection without a request is none that may be closed.
        eventually("it is accepted", || {
            (metric(&gateway, "probegate_connections_accepted_total") >= f64::from(count)).then_some(())
        });
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.closes()), (200, true));
    }
    assert_eq!(get(gateway.address(), "/readyz").status, 503, "a probe that the gateway answers fails as well");
    eventually("it is logged as it was answered", || {
        let lines = gateway.access_log();
        lines.iter().any(|line| line["target"] == "/readyz" && line["status"] == 503).then_some(())
    });
    assert!(gateway.is_running());
    gateway.signal("TERM");
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_taken_address_ends_the_start_at_once_and_is_named() {
    let app = Upstream::answering(|_| ok(""));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = Config::before(&app).workers(2);
    let configurations = [
        ("the listener", listening_on(&config, &[&*address])),
        ("the second listener", listening_on(&config, &["127.0.0.1:0", &address])),
        (
            "the admin address",
            config
                .to_string()
                .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{address}\"}}")),
        ),
        ("another gateway", config.to_string()),
    ];
    for (what, config) in configurations {
        let mut address = address.clone();
        let mut other = None;
        let config = if what == "another gateway" {
            let gateway = Gateway::start(&config);
            address = gateway.address().to_string();
            let config = config.replacen("127.0.0.1:0", &address, 1);
            other = Some(gateway);
            config
        } else {
            config
        };
        let started = Instant::now();
        let mut gateway = Gateway::with(config).spawn();
        assert_eq!(gateway.wait_exit().code(), Some(1), "{what}");
        assert!(started.elapsed() < Duration::from_secs(25), "{what}");
        assert!(error_log(&gateway, "cannot listen").contains(&address), "{what}");
        assert!(
            !gateway.log_lines().iter().any(|line| line.contains("\"listening\"")),
            "{what}: it must not serve meanwhile"
        );
        if let Some(other) = other {
            assert_eq!(get(other.address(), "/").status, 200);
        }
    }
}

#[test]
fn sigusr1_opens_the_access_log_again() {
    let app = Upstream::answering(|_| ok(""));
    let folder = Folder::new();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let gateway = Gateway::start(Config::before(&app).top(&format!("log: {{access: {{to: {}}}}}", path.display())));
    let lines = |path: &std::path::Path| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The last one may be there in part.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    get(gateway.address(), "/before");
    eventually("a line", || (lines(&path).len() == 1).then_some(()));
    std::fs::rename(&path, &old).unwrap();
    get(gateway.address(), "/between");
    eventually("a line in the renamed file", || (lines(&old).len() == 2).then_some(()));
    gateway.signal("USR1");
    let mut asked = 0;
    eventually("a line in the new file", || {
        asked += 1;
        get(gateway.address(), &format!("/after/{asked}"));
        (!lines(&path).is_empty()).then_some(())
    });
    eventually("all lines", || (lines(&path).len() + lines(&old).len() == 2 + asked).then_some(()));
    assert_eq!(lines(&path).last().unwrap()["target"], format!("/after/{asked}"));
    assert_eq!(lines(&old)[0]["target"], "/before");
    assert_eq!(exchange(gateway.address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}

/// What the gateway reads at a reload may lie on a disk that hangs: a pipe into which nobody writes is one.
#[test]
fn a_reload_that_hangs_holds_up_neither_traffic_nor_an_end() {
    let app = Upstream::answering(|_| ok("answered"));
    let config = Config::before(&app);
    let mut gateway = Gateway::start(&config);
    let path = gateway.config_path().to_owned();
    let pipe = || {
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    };
    pipe();
    // However many ask meanwhile, it is read once more, as it is then.
    for _ in 0..3 {
        gateway.signal("HUP");
    }
    assert_eq!(get(gateway.address(), "/").text(), "answered");
    // Opening waits until the gateway reads.
    let first = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for _ in 0..3 {
        gateway.signal("HUP");
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, config.to_string()).unwrap();
    drop(first);
    eventually("one refused, one or two taken", || {
        (metric(&gateway, "probegate_reload_failures_total") > 0.5 && metric(&gateway, "probegate_reloads_total") > 0.5)
            .then_some(())
    });
    pipe();
    gateway.signal("HUP");
    let second = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    drop(second);
}

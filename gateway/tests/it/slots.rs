//! Slots and the switch between them, with scripted apps: what moves, what goes back, what is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{
    Client, Connection, Ended, Folder, Gateway, Request, Unreachable, Upstream, eventually, exchange, free_address,
    get, get_admin, listening_on, metric, ok, probegate, run, wait_for_metric, wait_ready,
};

/// An app of one release.
pub(crate) struct Release {
    pub(crate) app: Upstream,
    /// `readyz` answers 503.
    pub(crate) unready: Arc<AtomicBool>,
    /// Everything but probes answers 500.
    pub(crate) broken: Arc<AtomicBool>,
}

impl Release {
    pub(crate) fn new(name: &'static str) -> Self {
        let (unready, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (is_unready, is_broken) = (Arc::clone(&unready), Arc::clone(&broken));
        let app = Upstream::answering(move |request: &Request| match &*request.target() {
            "/version" => ok(&format!("{{\"version\": \"{name}\"}}")),
            "/readyz" if is_unready.load(Ordering::SeqCst) => failing(503),
            "/healthz" | "/readyz" | "/startupz" => ok("{}"),
            _ if is_broken.load(Ordering::SeqCst) => failing(500),
            _ => ok(name),
        });
        Self { app, unready, broken }
    }

    /// Requests but probes.
    pub(crate) fn served(&self) -> usize {
        self.app.targets().iter().filter(|target| !target.ends_with('z') && *target != "/version").count()
    }
}

pub(crate) fn failing(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Bad\r\nContent-Length: 3\r\n\r\nbad").into_bytes()
}

/// Two slots with these servers, and more lines of the service.
pub(crate) fn config(storage: &Folder, blue: &[String], green: &[String], more: &str) -> String {
    format!(
        "listeners:\n  - address: \"127.0.0.1:0\"\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 2\n\
         probes: {{healthz: {{timeout: 20s}}, readyz: {{timeout: 20s}}, startupz: {{timeout: 20s}}, version: {{timeout: 20s}}}}\n\
         storage: {}\nclient_ip: {{trusted_proxies: [127.0.0.1], header: X-Real-IP, missing: peer}}\n\
         services:\n  shop:\n    slots:\n      blue: {{servers: {blue:?}}}\n      \
         green: {{servers: {green:?}}}\n    active: blue\n{more}",
        storage.path().display()
    )
}

pub(crate) fn two(storage: &Folder, blue: &Release, green: &Release) -> String {
    config(storage, &[blue.app.server()], &[green.app.server()], "")
}

/// A command that asks the gateway at `admin`.
pub(crate) fn command(admin: SocketAddr, arguments: &[&str]) -> Ended {
    run(probegate(arguments).arg("--admin").arg(admin.to_string()).env_remove("PROBEGATE_ADMIN_TOKEN"))
}

pub(crate) fn switch(admin: SocketAddr, arguments: &[&str]) -> Ended {
    command(admin, &[&["switch", "shop"], arguments].concat())
}

/// How the switch is, as JSON.
pub(crate) fn state(admin: SocketAddr) -> Value {
    get_admin(admin, "/services/shop/switch").json()
}

pub(crate) fn share(slot: &str) -> String {
    format!("probegate_slot_share{{service=\"shop\",slot=\"{slot}\"}}")
}

pub(crate) fn ends(outcome: &str) -> String {
    format!("probegate_switches_total{{service=\"shop\",outcome=\"{outcome}\"}}")
}

#[test]
fn a_good_release_gets_everything_and_everybody_is_told() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    wait_for_metric(&gateway, &share("blue"), 1.0);
    assert_eq!(get(gateway.address(), "/before").text(), "1");
    assert_eq!(gateway.access("/before")["upstream_slot"], "blue");
    let told = switch(admin, &[]);
    assert_eq!(told.code, Some(0));
    assert!(told.out.starts_with("blue: 100 % of the clients"), "{}", told.out);

    let ended = switch(admin, &["green", "--version", "2", "--bake", "0s"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in ["from blue to green", "version answers with status 200, version 2", "all new requests go to green"] {
        assert!(ended.out.contains(line), "{line}: {}", ended.out);
    }
    assert!(ended.out.contains("green has stood the time and stays"), "{}", ended.out);
    assert_eq!(get(gateway.address(), "/after").text(), "2");
    assert_eq!(gateway.access("/after")["upstream_slot"], "green");
    assert_eq!(get(gateway.address(), "/version").text(), "{\"version\": \"2\"}", "a probe asks the active slot");
    wait_for_metric(&gateway, &share("green"), 1.0);
    wait_for_metric(&gateway, &share("blue"), 0.0);
    wait_for_metric(&gateway, &ends("done"), 1.0);
    let again = switch(admin, &["green"]);
    assert_eq!((again.code, &*again.err), (Some(0), "it was so already\n"));
    assert_eq!(state(admin)["active"], "green");
    assert_eq!(state(admin)["switch"]["outcome"], "done");
    let status = command(admin, &["status", "--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["services"][0]["slots"][1]["percent"], 100);
    let status = command(admin, &["status"]).out;
    assert!(status.contains("blue, not in turn") && !status.contains("green, not in turn"), "{status}");
}

#[test]
fn a_release_that_does_not_pass_its_checks_gets_no_request() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let other = Release::new("3");
    let servers = [green.app.server(), other.app.server()];
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &servers, ""));
    let admin = gateway.admin();
    let mixed = switch(admin, &["green"]);
    assert!(mixed.code == Some(1) && mixed.err.contains("servers differ"), "{mixed:?}");
    let wrong = switch(admin, &["green", "--version", "2"]);
    assert!(
        wrong.code == Some(1) && wrong.out.contains(&format!("{}: it is version 3", other.app.server())),
        "{wrong:?}"
    );
    green.unready.store(true, Ordering::SeqCst);
    let unready = switch(admin, &["green"]);
    let said = format!("{}: readyz answers with status 503", green.app.server());
    assert!(unready.code == Some(1) && unready.err.contains(&said), "{unready:?}");
    assert!(unready.out.contains("nothing has moved"), "{unready:?}");
    assert_eq!(get(gateway.address(), "/").text(), "1");
    assert_eq!((green.served(), other.served()), (0, 0));
    wait_for_metric(&gateway, &ends("refused"), 3.0);
    // Somebody who knows better.
    let forced = switch(admin, &["green", "--force", "--bake", "0s"]);
    assert!(forced.out.contains("no server is asked first"), "{forced:?}");
}

#[test]
fn a_slot_that_is_not_there_and_a_command_that_makes_no_sense_are_told_apart() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    let unknown = switch(admin, &["red"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("`blue`, `green`"), "{unknown:?}");
    for (arguments, text) in [
        (&["green", "--bake", "soon"][..], "expected a duration"),
        (&["green", "--abort"], "cannot be used with"),
        (&["--version", "2"], "required"),
    ] {
        let ended = switch(admin, arguments);
        assert!(ended.code == Some(64) && ended.err.contains(text), "{ended:?}");
    }
    let shrinking = switch(admin, &["green", "--percent", "50,25"]);
    assert!(shrinking.code == Some(64) && shrinking.err.contains("has to grow"), "{shrinking:?}");
    assert_eq!(switch(admin, &["--abort"]).code, Some(1));
    let strange = exchange(admin, "PUT /services/shop/switch?to=green HTTP/1.1\r\nHost: example.com\r\n\r\n");
    assert_eq!(strange.status, 403);
    assert_eq!(state(admin)["active"], "blue");
}

#[test]
fn a_release_that_fails_goes_back_by_itself_and_no_get_fails() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    green.broken.store(true, Ordering::SeqCst);
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let (admin, address) = (gateway.admin(), gateway.address());
    let stop = AtomicBool::new(false);
    let (answered, posts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(address);
            while !stop.load(Ordering::SeqCst) {
                client.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
                let response = client.response();
                assert_eq!((response.status, &*response.text()), (200, "1"));
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            let mut client = Client::connect(address);
            while !stop.load(Ordering::SeqCst) {
                client.send("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
                if client.response().status != 200 {
                    posts.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let ended = switch(admin, &["green", "--bake", "60s"]);
        stop.store(true, Ordering::SeqCst);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.out.contains("all new requests go back to blue"), "{ended:?}");
        assert!(ended.err.contains("requests went wrong"), "{ended:?}");
    });
    assert!(answered.load(Ordering::SeqCst) > 0);
    // What must not be sent twice is answered with what the new release says.
    assert!(posts.load(Ordering::SeqCst) > 0, "no POST met the new release");
    assert_eq!(state(admin)["active"], "blue");
    wait_for_metric(&gateway, &ends("returned"), 1.0);
    let log = gateway.access_log();
    let saved = log.iter().filter(|line| line["upstream_tries"] == 2).count();
    assert!(saved > 0 && log.iter().all(|line| line["method"] != "GET" || line["status"] == 200));
}

/// Answers everything but a POST, at which it ends the connection, as a worker does that crashes.
fn crashing(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        match &*request.target() {
            "/form" => return,
            "/version" => connection.write(ok("{\"version\": \"2\"}")),
            _ => connection.write(ok("2")),
        };
    }
}

#[test]
fn a_release_that_ends_connections_that_were_kept_goes_back() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Upstream::scripted(crashing));
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[green.server()], ""));
    let (admin, address) = (gateway.admin(), gateway.address());
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    let mut client = Client::connect(address);
    eventually("it goes back", || {
        // On one connection, hence by one worker: what the first one leaves, the second one takes.
        client.send("GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
        client.send("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        if client.response().closes() {
            client = Client::connect(address);
        }
        (metric(&gateway, &ends("returned")) > 0.5).then_some(())
    });
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(3) && ended.err.contains("requests went wrong"), "{ended:?}");
}

#[test]
fn a_release_that_is_not_ready_any_more_goes_back() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    green.unready.store(true, Ordering::SeqCst);
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(3) && ended.err.contains("a server is not ready any more"), "{ended:?}");
    assert_eq!(get(gateway.address(), "/").text(), "1");
}

#[test]
fn one_at_a_time_and_an_abort_goes_back() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    let second = switch(admin, &["blue"]);
    assert!(second.code == Some(1) && second.err.contains("a switch of `shop` to `green` goes on"), "{second:?}");
    assert_eq!(get(gateway.address(), "/").text(), "2");
    let aborted = switch(admin, &["--abort"]);
    assert!(aborted.code == Some(0) && aborted.out.contains("go back to blue: somebody wanted it"), "{aborted:?}");
    assert_eq!(get(gateway.address(), "/").text(), "1");
    assert_eq!(switch(admin, &["--watch"]).code, Some(4));
    wait_for_metric(&gateway, &ends("aborted"), 1.0);
}

#[test]
fn a_share_of_the_clients_moves_and_each_of_them_stays_where_it_is_while_it_grows() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let (admin, address) = (gateway.admin(), gateway.address());
    let ask = |client: usize| {
        let field = format!("X-Real-IP: 198.51.{}.{}", client / 250, client % 250 + 1);
        let answer = exchange(address, format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 200);
        answer.text() == "2"
    };
    let moved = || (0..400).filter(|client| ask(*client)).collect::<Vec<_>>();
    assert_eq!(switch(admin, &["green", "--percent", "20", "--step", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 0.2);
    let few = moved();
    assert!((40..=125).contains(&few.len()), "{}", few.len());
    assert_eq!(moved(), few, "who has moved stays, and so does who has not");
    assert_eq!(get(address, "/version").text(), "{\"version\": \"1\"}", "a probe asks the slot that most clients have");
    assert_eq!(switch(admin, &["--abort"]).code, Some(0));
    assert!(moved().is_empty());
    assert_eq!(switch(admin, &["green", "--percent", "60", "--step", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 0.6);
    let more = moved();
    assert!(few.iter().all(|client| more.contains(client)) && more.len() > few.len(), "{} {}", few.len(), more.len());
}

#[test]
fn a_switch_goes_on_after_the_gateway_was_killed_and_over_a_reload() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let [address, admin] = [free_address(), free_address()];
    let text = listening_on(&two(&storage, &blue, &green), &[address])
        .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
    let mut gateway = Gateway::start(&text);
    wait_ready(&gateway);
    assert_eq!(switch(admin, &["green", "--percent", "50", "--step", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 0.5);
    // Requests see it a moment before it is written.
    eventually("it is written", || (state(admin)["switch"]["phase"] == "moving").then_some(()));
    gateway.signal("KILL");
    gateway.wait_exit();
    let gateway = Gateway::start(&text);
    wait_ready(&gateway);
    // From the first request on.
    wait_for_metric(&gateway, &share("green"), 0.5);
    eventually("the switch goes on", || (state(admin)["switch"]["phase"] == "moving").then_some(()));
    assert_eq!(state(admin)["switch"]["percent"], 50);
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert_eq!(state(admin)["switch"]["percent"], 50);
    wait_for_metric(&gateway, &share("green"), 0.5);
    assert_eq!(switch(admin, &["--abort"]).code, Some(0));
    assert_eq!(switch(admin, &["green", "--bake", "0s"]).code, Some(0));

    // What was switched holds over restarts, whatever the configuration says, until that says the same.
    drop(gateway);
    let gateway = Gateway::start(&text);
    wait_ready(&gateway);
    assert_eq!(get(address, "/").text(), "2");
    let last = state(admin);
    assert_eq!((&last["active"], &last["switch"]["outcome"]), (&"green".into(), &"done".into()));
    std::fs::write(gateway.config_path(), text.replace("active: blue", "active: green")).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    std::fs::write(gateway.config_path(), &text).unwrap();
    gateway.signal("HUP");
    eventually("the configuration's word is a new one", || (get(address, "/").text() == "1").then_some(()));
}

#[test]
fn servers_that_nobody_has_asked_end_a_switch() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    let other = Release::new("3");
    std::fs::write(gateway.config_path(), two(&storage, &blue, &other)).unwrap();
    gateway.signal("HUP");
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(3) && ended.err.contains("which nobody has asked"), "{ended:?}");
    assert_eq!(get(gateway.address(), "/").text(), "1");
}

#[test]
fn requests_of_any_method_go_to_the_old_slot_while_the_new_one_cannot_be_reached() {
    let (storage, blue) = (Folder::new(), Release::new("1"));
    let gone = Unreachable::refusing();
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[gone.server()], ""));
    let (admin, address) = (gateway.admin(), gateway.address());
    let refused = switch(admin, &["green"]);
    assert!(refused.code == Some(1) && refused.out.contains("healthz is not answered"), "{refused:?}");
    let posts = || {
        for _ in 0..10 {
            let post =
                exchange(address, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
            assert_eq!((post.status, &*post.text()), (200, "1"));
        }
    };
    let detached = switch(admin, &["green", "--force", "--errors", "100", "--bake", "60s", "--detach"]);
    assert_eq!(detached.code, Some(0));
    posts();
    let ended = switch(admin, &["--watch"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    posts();
}

#[test]
fn what_runs_in_the_old_slot_goes_on_to_its_end() {
    let storage = Folder::new();
    let green = Release::new("2");
    let blue = Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/slow" {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
                // Until the test says so.
                connection.request();
                return;
            }
            connection.write(ok("1"));
        }
    });
    let gateway = Gateway::start(config(&storage, &[blue.server()], &[green.app.server()], "    buffering: off\n"));
    let admin = gateway.admin();
    let mut slow = Client::connect(gateway.address());
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow.response_to_head().status, 200);
    let ended = switch(admin, &["green", "--bake", "0s"]);
    assert!(ended.code == Some(0) && ended.out.contains("blue is still at 1 requests"), "{ended:?}");
    assert_eq!(slow.exactly(4), b"half");
    assert_eq!(get(gateway.address(), "/").text(), "2");
    assert_eq!(state(admin)["slots"][0]["in_flight"], 1);
}

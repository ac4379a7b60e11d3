//! What a switch has seen, over restarts and hand-overs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::handover::begin;
use crate::harness::{
    Client, Folder, Gate, Gateway, Upstream, accepts, eventually, exchange, free_address, get, listening_on, ok,
    wait_ready,
};
use crate::slots::{Release, config, state, switch};

/// A service whose new release says once that it is ready, and then not before the gate is opened: no switch to it ends before that.
struct Stage {
    gate: Arc<Gate>,
    slow: Arc<Gate>,
    text: String,
    address: SocketAddr,
    admin: SocketAddr,
    meeting: Folder,
    others: (Folder, Release, Upstream),
}

impl Stage {
    fn new() -> Self {
        let (storage, blue, gate) = (Folder::new(), Release::new("1"), Arc::<Gate>::default());
        let slow = Arc::<Gate>::default();
        let (wait, later, asked) = (Arc::clone(&gate), Arc::clone(&slow), AtomicUsize::new(0));
        let green = Upstream::answering(move |request| {
            if request.target() == "/readyz" && asked.fetch_add(1, Ordering::SeqCst) > 0 {
                wait.wait();
            }
            if request.target() == "/slow" {
                later.wait();
            }
            ok("green")
        });
        let [address, admin] = [free_address(), free_address()];
        let text = listening_on(&config(&storage, &[blue.app.server()], &[green.server()], ""), &[address])
            .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
        Self { gate, slow, text, address, admin, meeting: Folder::new(), others: (storage, blue, green) }
    }

    fn socket(&self) -> PathBuf {
        self.meeting.path().join("private/upgrade.sock")
    }

    fn start(&self) -> Gateway {
        let gateway = Gateway::with(&self.text).arg("--upgrade-socket").arg(self.socket()).start();
        wait_ready(&gateway);
        gateway
    }

    /// A switch begins.
    fn begin(&self, more: &str) {
        let (admin, target) = (self.admin, format!("/services/shop/switch?to=green&bake=0{more}"));
        let field = "X-Probegate-Control: 1";
        let put = exchange(admin, format!("PUT {target} HTTP/1.1\r\nHost: {admin}\r\n{field}\r\n\r\n"));
        assert_eq!(put.status, 200, "{put:?}");
        self.moves();
    }

    /// It is watched, by whatever process there is.
    fn moves(&self) {
        eventually("it goes on", || (state(self.admin)["switch"]["phase"] == "moving").then_some(()));
    }

    /// Asks so often, until the switch has seen so many.
    fn ask(&self, times: usize, seen: u64) {
        for _ in 0..times {
            assert_eq!(get(self.address, "/").text(), "green");
        }
        eventually("all of them are seen", || (state(self.admin)["switch"]["requests"] == seen).then_some(()));
    }
}

fn end(mut gateway: Gateway, signal: &str) {
    gateway.signal(signal);
    gateway.wait_exit();
}

#[test]
fn requests_that_are_required_are_counted_over_a_restart_and_a_hand_over() {
    let stage = Stage::new();
    let gateway = stage.start();
    stage.begin("&require_requests=3");
    stage.ask(2, 2);
    end(gateway, "TERM");
    let mut old = stage.start();
    stage.moves();
    stage.ask(1, 3);
    let new = begin(&old, &stage.text, &stage.socket());
    assert_eq!(old.wait_exit().code(), Some(0));
    wait_ready(&new);
    stage.moves();
    stage.ask(0, 3);
    stage.gate.open();
    let ended = switch(stage.admin, &["--watch"]);
    assert!(ended.code == Some(0) && ended.err == "shop done\n", "{ended:?}");
    assert!(ended.out.contains("until then, 0 of 3 requests went wrong"), "{ended:?}");
}

#[test]
fn a_request_that_ends_while_the_process_goes_down_is_counted() {
    let stage = Stage::new();
    let mut gateway = stage.start();
    stage.begin("&require_requests=2");
    stage.ask(1, 1);
    let mut client = Client::connect(stage.address);
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    let green = &stage.others.2;
    eventually("the app has it", || green.targets().contains(&"/slow".to_owned()).then_some(()));
    gateway.signal("TERM");
    eventually("the listeners are closed", || (!accepts(stage.address)).then_some(()));
    stage.slow.open();
    assert_eq!(client.response().text(), "green");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    let _gateway = stage.start();
    stage.moves();
    stage.ask(0, 2);
}

#[test]
fn that_nobody_asked_is_known_over_a_restart_and_not_over_a_kill_behind_it() {
    for signal in ["TERM", "KILL"] {
        let stage = Stage::new();
        let gateway = stage.start();
        stage.begin("");
        end(gateway, "TERM");
        let mut gateway = stage.start();
        stage.moves();
        // From here on, a kill takes along what this one has seen.
        let written = || std::fs::read_to_string(stage.others.0.path().join("switches.json")).unwrap();
        eventually("it has gone on", || (!written().contains("whole")).then_some(()));
        gateway.signal(signal);
        gateway.wait_exit();
        let _gateway = stage.start();
        stage.moves();
        stage.gate.open();
        let ended = switch(stage.admin, &["--watch"]);
        let expected = if signal == "TERM" { "shop done: no request was seen" } else { "shop done\n" };
        assert!(ended.code == Some(0) && ended.err.starts_with(expected), "{signal}: {ended:?}");
    }
}

#[test]
fn what_a_killed_process_has_seen_is_not_said_to_be_nothing() {
    let stage = Stage::new();
    let gateway = stage.start();
    stage.begin("");
    stage.ask(1, 1);
    end(gateway, "KILL");
    let _gateway = stage.start();
    stage.moves();
    stage.ask(0, 0);
    stage.gate.open();
    let ended = switch(stage.admin, &["--watch"]);
    assert!(ended.code == Some(0) && ended.err == "shop done\n", "{ended:?}");
}

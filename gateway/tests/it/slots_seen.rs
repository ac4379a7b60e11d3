//! What a switch has seen, over restarts and hand-overs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::handover::begin;
use crate::harness::{
    Folder, Gate, Gateway, Upstream, eventually, exchange, free_address, get, listening_on, ok, wait_ready,
};
use crate::slots::{Release, config, state, switch};

/// A service whose new release says once that it is ready, and then not before the gate is opened: no switch to it ends before that.
struct Stage {
    gate: Arc<Gate>,
    text: String,
    address: SocketAddr,
    admin: SocketAddr,
    meeting: Folder,
    _others: (Folder, Release, Upstream),
}

impl Stage {
    fn new() -> Self {
        let (storage, blue, gate) = (Folder::new(), Release::new("1"), Arc::<Gate>::default());
        let (wait, asked) = (Arc::clone(&gate), AtomicUsize::new(0));
        let green = Upstream::answering(move |request| {
            if request.target() == "/readyz" && asked.fetch_add(1, Ordering::SeqCst) > 0 {
                wait.wait();
            }
            ok("green")
        });
        let [address, admin] = [free_address(), free_address()];
        let text = listening_on(&config(&storage, &[blue.app.server()], &[green.server()], ""), &[address])
            .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
        Self { gate, text, address, admin, meeting: Folder::new(), _others: (storage, blue, green) }
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

//! What a switch asks before it moves anything and while it watches: nothing ends well that nobody has heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Folder, Gate, Gateway, Request, Upstream, eventually, exchange, ok, wait_for_metric};
use crate::slots::{Release, command, config, ends, share, state, switch};

/// An app that holds what it is asked at `target` until the gate is opened, once `holds` says so.
fn holding(target: &'static str, gate: &Arc<Gate>, holds: &Arc<AtomicBool>) -> Upstream {
    let (gate, holds) = (Arc::clone(gate), Arc::clone(holds));
    Upstream::answering(move |request: &Request| {
        if request.target() == target && holds.load(Ordering::SeqCst) {
            gate.wait();
        }
        ok("{\"version\": \"2\"}")
    })
}

/// How often something was asked.
fn asked(app: &Upstream, target: &str) -> usize {
    app.targets().iter().filter(|asked| *asked == target).count()
}

#[test]
fn a_release_whose_readiness_hangs_is_not_done_however_short_it_is_watched() {
    let (storage, blue) = (Folder::new(), Release::new("1"));
    let (gate, holds) = (Arc::<Gate>::default(), Arc::new(AtomicBool::new(true)));
    let green = holding("/readyz", &gate, &holds);
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[green.server()], ""));
    let admin = gateway.admin();
    let steps = ["green", "--force", "--percent", "50", "--step", "0s", "--bake", "0s", "--detach"];
    assert_eq!(switch(admin, &steps).code, Some(0));
    gateway.wait_for_log(|line| {
        line["message"] == "switch: the time is over: it goes on when every server has said that it is ready"
    });
    let told = state(admin);
    assert_eq!((&told["switch"]["phase"], &told["switch"]["percent"]), (&"moving".into(), &50.into()), "{told}");
    gate.open();
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(0) && ended.out.contains("green has stood the time"), "{ended:?}");
    // Once in each of the two stages.
    assert!(asked(&green, "/readyz") >= 2);
}

#[test]
fn a_release_whose_readiness_does_not_answer_goes_back_though_others_do() {
    let (storage, blue, good) = (Folder::new(), Release::new("1"), Release::new("2"));
    let (gate, holds) = (Arc::<Gate>::default(), Arc::new(AtomicBool::new(false)));
    let green = holding("/readyz", &gate, &holds);
    let text = config(&storage, &[blue.app.server()], &[good.app.server(), green.server()], "");
    let gateway = Gateway::start(text.replace("readyz: {timeout: 20s}", "readyz: {timeout: 2s}"));
    let admin = gateway.admin();
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    holds.store(true, Ordering::SeqCst);
    let ended = switch(admin, &["--watch"]);
    gate.open();
    assert!(ended.code == Some(3) && ended.err.contains("a server is not ready any more"), "{ended:?}");
    assert!(ended.out.contains(&format!("{}: readyz is not answered", green.server())), "{ended:?}");
    wait_for_metric(&gateway, &ends("returned"), 1.0);
    // Whoever answers is not asked less often for the one that hangs.
    assert!(asked(&good.app, "/readyz") > asked(&green, "/readyz"), "{:?}", good.app.targets());
    eventually("everything is back", || (state(admin)["active"] == "blue").then_some(()));
}

#[test]
fn servers_that_a_reload_brings_while_others_are_asked_get_nothing_unasked() {
    let (storage, blue, other) = (Folder::new(), Release::new("1"), Release::new("3"));
    let (gate, holds) = (Arc::<Gate>::default(), Arc::new(AtomicBool::new(true)));
    let green = holding("/version", &gate, &holds);
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[green.server()], ""));
    let admin = gateway.admin();
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    eventually("it is asked", || (asked(&green, "/version") > 0).then_some(()));
    other.unready.store(true, Ordering::SeqCst);
    std::fs::write(gateway.config_path(), config(&storage, &[blue.app.server()], &[other.app.server()], "")).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    gate.open();
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(1) && ended.out.contains("they are asked again"), "{ended:?}");
    assert!(ended.err.contains(&format!("{}: readyz answers with status 503", other.app.server())), "{ended:?}");
    assert_eq!(other.served(), 0);
    wait_for_metric(&gateway, &ends("refused"), 1.0);
    wait_for_metric(&gateway, &ends("returned"), 0.0);
}

#[test]
fn a_server_that_gets_requests_again_while_others_are_asked_is_asked_too() {
    let (storage, blue, drained) = (Folder::new(), Release::new("1"), Release::new("3"));
    let (gate, holds) = (Arc::<Gate>::default(), Arc::new(AtomicBool::new(true)));
    let green = holding("/version", &gate, &holds);
    let servers = [green.server(), drained.app.server()];
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &servers, ""));
    let admin = gateway.admin();
    assert_eq!(command(admin, &["drain", "shop", &drained.app.server()]).code, Some(0));
    assert_eq!(switch(admin, &["green", "--version", "2", "--bake", "60s", "--detach"]).code, Some(0));
    eventually("it is asked", || (asked(&green, "/version") > 0).then_some(()));
    assert_eq!(command(admin, &["undrain", "shop", &drained.app.server()]).code, Some(0));
    gate.open();
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(1) && ended.err.contains("it is version 3"), "{ended:?}");
}

#[test]
fn two_slots_that_get_requests_may_run_two_versions_and_one_slot_may_not() {
    let storage = Folder::new();
    let [blue, green, odd] = [Release::new("1"), Release::new("2"), Release::new("3")];
    let more = "    hosts: [shop.example.com]\naggregates: {all: {path: /deployed, hosts: [\"*\"], timeout: 20s, \
                one_version: [shop], services: {required: [shop]}}}\n";
    let servers = [green.app.server(), odd.app.server()];
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &servers, more));
    let admin = gateway.admin();
    let deployed =
        || exchange(gateway.address(), "GET /deployed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status;
    let versions = || command(admin, &["versions", "shop"]);
    assert_eq!(command(admin, &["drain", "shop", &odd.app.server()]).code, Some(0));
    assert_eq!(deployed(), 200);
    assert!(versions().out.ends_with("shop: one version\n"), "{:?}", versions());
    assert_eq!(switch(admin, &["green", "--percent", "50", "--step", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 0.5);
    // What was found before serves for a second.
    eventually("both are looked at", || {
        let told = versions();
        assert_eq!((told.code, deployed()), (Some(0), 200), "{told:?}");
        told.out.ends_with("shop: one version in each slot\n").then_some(())
    });
    assert_eq!(command(admin, &["undrain", "shop", &odd.app.server()]).code, Some(0));
    eventually("one slot runs two", || (deployed() == 503 && versions().code == Some(1)).then_some(()));
}

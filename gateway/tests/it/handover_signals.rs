//! Processes that are told to end in the middle of a hand-over: one of the two goes on, and nobody is sent away from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::handover::{fixed, halfway};
use crate::harness::{
    Client, Folder, Gateway, Upstream, eventually, exchange, free_address, get, is_waited_on, ok, wait_for_metric,
    wait_ready,
};

/// A place for two processes.
struct Place {
    kept: SocketAddr,
    admin: SocketAddr,
    folder: Folder,
    storage: Folder,
    app: Upstream,
}

impl Place {
    fn new() -> Self {
        let [kept, admin] = [free_address(), free_address()];
        Self { kept, admin, folder: Folder::new(), storage: Folder::new(), app: Upstream::answering(|_| ok("quick")) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("private/upgrade.sock")
    }

    fn config(&self, more: &str) -> String {
        format!("storage: {}\n{more}{}", self.storage.path().display(), fixed(&self.app, 2, &[self.kept], self.admin))
    }

    /// Puts the app into maintenance, or asks for that in vain: the status.
    fn maintain(&self) -> u16 {
        let text = "PUT /services/app/maintenance HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Probegate-Control: 1\r\n\r\n";
        exchange(self.admin, text).status
    }
}

/// Tells the old process to end, which waits for the outcome.
fn terminate(old: &Gateway) {
    old.signal("TERM");
    old.wait_for_log(|line| line["message"] == "told to end during the hand-over: its outcome comes first");
}

fn said(gateway: &Gateway, message: &str) -> bool {
    gateway.log_lines().iter().any(|line| line.contains(message))
}

#[test]
fn an_old_process_that_is_told_to_end_leaves_the_sockets_to_a_new_one_that_takes_them() {
    let place = Place::new();
    let (mut old, new) = halfway(&place.config(""), &place.socket());
    // Half a question, so that it is still one when the process goes down.
    let mut balancer = Client::connect(place.kept);
    balancer.send("GET /readyz HTTP/1.1\r\nHost: a\r\n");
    wait_for_metric(&old, "probegate_connections", 1.0);
    terminate(&old);
    assert_eq!((get(place.kept, "/readyz").status, get(place.admin, "/readyz").status), (200, 200));
    assert_eq!(place.maintain(), 503, "the new one may have read the switches");
    new.signal("CONT");
    old.wait_for_log(|line| line["message"] == "draining" && line["delay"] == "0ns");
    balancer.send("\r\n");
    let answer = balancer.response();
    assert_eq!((answer.status, &*answer.text()), (200, "quick"));
    assert_eq!(old.wait_exit().code(), Some(0));
    assert!(said(&old, "a new process has taken over"));
    assert_eq!(get(place.kept, "/readyz").status, 200);
    eventually("the new one is ready", || (place.maintain() == 200).then_some(()));
}

#[test]
fn an_old_process_that_is_told_to_end_before_its_sockets_are_sent_sends_them_all_the_same() {
    let place = Place::new();
    let socket = place.socket();
    let mut old = Gateway::with(place.config("shutdown: {delay: 60s}\n")).arg("--upgrade-socket").arg(&socket).start();
    wait_ready(&old);
    let _new = Gateway::with(place.config("")).arg("--upgrade").arg("--upgrade-socket").arg(&socket).spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    // The old one does not find whoever waits, and tries again every second.
    let aside = socket.with_file_name("aside");
    std::fs::rename(&socket, &aside).unwrap();
    old.signal("QUIT");
    eventually("it is about to send", || Path::exists(&socket.with_file_name("upgrade.sock.taken")).then_some(()));
    terminate(&old);
    std::fs::rename(&aside, &socket).unwrap();
    // Without the delay of an end.
    assert_eq!(old.wait_exit().code(), Some(0));
    assert!(said(&old, "a new process has taken over") && !said(&old, "60s"));
    assert_eq!(get(place.kept, "/").status, 200);
}

#[test]
fn where_both_are_told_to_end_the_old_process_ends_as_at_any_time() {
    let place = Place::new();
    let (old, mut new) = halfway(&place.config("shutdown: {delay: 60s}\n"), &place.socket());
    terminate(&old);
    new.signal("TERM");
    new.signal("CONT");
    new.wait_exit();
    goes_down(&place, old);
}

#[test]
fn a_new_process_that_dies_after_the_old_one_was_told_to_end_takes_nobody_along() {
    let place = Place::new();
    let (old, mut new) = halfway(&place.config("shutdown: {delay: 60s}\n"), &place.socket());
    terminate(&old);
    new.signal("KILL");
    new.wait_exit();
    goes_down(&place, old);
}

/// It accepts, says that somebody else has to be asked, and is in charge of its switches until then.
fn goes_down(place: &Place, mut old: Gateway) {
    assert_eq!(get(place.kept, "/").status, 200);
    old.wait_for_log(|line| line["message"] == "the hand-over failed, this process stays in charge");
    old.wait_for_log(|line| line["message"] == "draining" && line["delay"] == "60s");
    assert_eq!((get(place.kept, "/readyz").status, get(place.admin, "/readyz").status), (503, 503));
    assert_eq!(get(place.kept, "/").status, 200);
    assert_eq!(place.maintain(), 200);
    old.signal("TERM");
    assert_eq!(old.wait_exit().code(), Some(0));
}

#[test]
fn an_old_process_that_ends_at_once_leaves_the_sockets_to_the_new_one() {
    for signals in [&["INT"][..], &["TERM", "TERM"], &["TERM", "INT"]] {
        let place = Place::new();
        let (mut old, new) = halfway(&place.config(""), &place.socket());
        let (last, before) = signals.split_last().unwrap();
        for _ in before {
            terminate(&old);
        }
        old.signal(last);
        assert_eq!(old.wait_exit().code(), Some(0), "{signals:?}");
        new.signal("CONT");
        new.wait_for_log(|line| line["message"] == "admin listener");
        assert_eq!(get(place.kept, "/").status, 200, "{signals:?}");
    }
}

#[test]
fn a_new_process_that_is_told_to_end_before_it_has_taken_over_sends_nobody_away() {
    let place = Place::new();
    let (socket, config) = (place.socket(), place.config(""));
    let mut old = Gateway::with(&config).arg("--upgrade-socket").arg(&socket).start();
    let mut new = Gateway::with(&config).arg("--upgrade").arg("--upgrade-socket").arg(&socket).spawn();
    eventually("the new process waits for the sockets", || is_waited_on(&socket).then_some(()));
    new.signal("TERM");
    old.signal("QUIT");
    new.wait_exit();
    old.wait_for_log(|line| line["message"] == "the hand-over failed, this process stays in charge");
    assert!(old.is_running());
    assert_eq!((get(place.kept, "/").status, place.maintain()), (200, 200));
}

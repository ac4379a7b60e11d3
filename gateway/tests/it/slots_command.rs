//! `probegate switch` where there is nothing to switch, where nobody knows, and what it shows on a terminal.

use std::sync::atomic::Ordering;

use crate::harness::{Connection, Folder, Gateway, Unreachable, Upstream, ok, wait_for_metric};
use crate::slots::{Release, ends, state, switch, two};

#[test]
fn a_slot_that_has_the_requests_is_asked_for_the_version_that_is_expected() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    // Only for that: it shows the rest by what it answers.
    blue.unready.store(true, Ordering::SeqCst);
    let right = switch(admin, &["blue", "--version", "1"]);
    assert!(right.code == Some(0) && right.out.contains("blue has the requests already"), "{right:?}");
    let wrong = switch(admin, &["blue", "--version", "2"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("it is version 1, which is not"), "{wrong:?}");
    let unasked = switch(admin, &["blue"]);
    assert_eq!((unasked.code, &*unasked.err), (Some(0), "it was so already\n"));
    // It is no switch.
    for outcome in ["done", "refused"] {
        wait_for_metric(&gateway, &ends(outcome), 0.0);
    }
    assert_eq!((&state(admin)["active"], green.served()), (&"blue".into(), 0));
    assert_eq!(switch(admin, &["green", "--version", "2", "--bake", "0s"]).code, Some(0));
}

/// A gateway that answers the command that it gets like this.
fn answering(answer: impl Fn(&mut Connection) + Send + Sync + 'static) -> Upstream {
    Upstream::scripted(move |connection| {
        if connection.request().is_some() {
            answer(connection);
        }
    })
}

#[test]
fn a_lost_answer_is_no_refusal() {
    let switch = |server: String, arguments: &[&str]| switch(server.parse().unwrap(), arguments);
    let gone = Unreachable::refusing();
    let refused = switch(gone.server(), &["green"]);
    assert!(refused.code == Some(1) && refused.err.contains("no answer from"), "{refused:?}");
    // It ends before it has answered, or in the middle; it hangs.
    let dies = answering(|_| {});
    let half = answering(|connection| {
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"changed\": true");
    });
    let hangs = answering(|connection| {
        connection.wait_closed();
    });
    for gateway in [dies, half, hangs] {
        for arguments in [["green", "--detach"], ["--abort", "--token-header=X-A"]] {
            let ended = switch(gateway.server(), &arguments);
            assert!(ended.code == Some(5) && ended.err.contains("nobody knows whether it was done"), "{ended:?}");
        }
    }
    let other = answering(|connection| {
        connection.write(ok("<html>"));
    });
    assert_eq!(switch(other.server(), &["green"]).code, Some(1), "that is no gateway");
}

#[test]
fn what_servers_are_called_gives_no_orders_to_a_terminal() {
    let told = "{\"changed\": true, \"service\": \"shop\", \"process\": 1, \"slots\": [{\"slot\": \"blue\", \
                \"servers\": [\"unix:/a\\u001b[2Jb\"]}], \"switch\": {\"id\": \"a1\", \"from\": \"blue\", \"to\": \"green\", \
                \"outcome\": \"returned\", \"why\": \"\\u009b2J\", \"next\": 1, \
                \"lines\": [{\"at\": 0, \"text\": \"unix:/a\\u001b]0;b\\u0007: readyz\\r\\nspoofed\"}]}}";
    let gateway = answering(move |connection| {
        connection.write(ok(told));
    });
    for (arguments, code) in [(&["green"][..], 3), (&["--watch"], 3), (&[], 0)] {
        let ended = switch(gateway.server().parse().unwrap(), arguments);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let all = ended.out + &ended.err;
        assert!(!all.chars().any(|c| c.is_control() && c != '\n') && !all.contains("\nspoofed"), "{all:?}");
    }
}

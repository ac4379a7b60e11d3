//! `probegate switch` where there is nothing to switch, where nobody knows, and what it shows on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{
    Connection, Folder, Gate, Gateway, Unreachable, Upstream, eventually, exchange, get, ok, wait_for_metric,
    wait_ready,
};
use crate::slots::{Release, config, ends, state, switch, two};

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
    let said = "it is version 1, which is not what was expected: `2`";
    assert!(wrong.code == Some(1) && wrong.err.contains(said), "{wrong:?}");
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

#[test]
fn a_release_that_nobody_has_put_to_the_proof_is_told_as_such() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    let missing = switch(admin, &["green", "--bake", "0s", "--require-requests", "3"]);
    assert_eq!(missing.code, Some(3), "{missing:?}");
    assert!(missing.err.contains("shop returned: it was sent 0 requests, and 3 were required"), "{missing:?}");
    assert_eq!(state(admin)["active"], "blue");
    let unseen = switch(admin, &["green", "--bake", "0s"]);
    assert_eq!(unseen.code, Some(0), "{unseen:?}");
    assert!(unseen.err.contains("shop done: no request was seen"), "{unseen:?}");
    assert!(unseen.out.contains("all new requests go to green, which is not watched any longer\n"), "{unseen:?}");
    assert!(!unseen.out.contains("0ns"), "{unseen:?}");
}

#[test]
fn requests_enough_are_enough() {
    let (storage, blue) = (Folder::new(), Release::new("1"));
    // The switch does not end before this server has said that it is ready once more, behind the first time.
    let (gate, asked) = (Arc::<Gate>::default(), AtomicUsize::new(0));
    let wait = Arc::clone(&gate);
    let green = Upstream::answering(move |request| {
        if request.target() == "/readyz" && asked.fetch_add(1, Ordering::SeqCst) > 0 {
            wait.wait();
        }
        ok("green")
    });
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[green.server()], ""));
    wait_ready(&gateway);
    let admin = gateway.admin();
    let target = "/services/shop/switch?to=green&bake=0&require_requests=3";
    let put = exchange(admin, format!("PUT {target} HTTP/1.1\r\nHost: {admin}\r\nX-Probegate-Control: 1\r\n\r\n"));
    assert_eq!(put.status, 200);
    eventually("green has the requests", || (get(gateway.address(), "/").text() == "green").then_some(()));
    for _ in 0..2 {
        assert_eq!(get(gateway.address(), "/").text(), "green");
    }
    gate.open();
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(0) && ended.err == "shop done\n", "{ended:?}");
}

#[test]
fn what_the_command_line_can_not_mean_is_not_sent() {
    let gone = Unreachable::refusing();
    let admin = gone.server().parse().unwrap();
    for (arguments, why) in [
        (&["--percent", "50,25"][..], "`percent` has to grow"),
        (&["--percent", "0,x"], "no share from 1 to 100"),
        (&["--version", ""], "`--version` is empty"),
        (&["--errors", "200%"], "`--errors` is `200%`"),
        (&["--bake", "25h"], "`--bake` is more than a day"),
        (&["--require-requests", "1000001"], "`--require-requests` is more than"),
    ] {
        let ended = switch(admin, &[&["green"], arguments].concat());
        assert!(ended.code == Some(64) && ended.err.contains(why), "{arguments:?}: {ended:?}");
    }
    // Nobody is there: nothing has moved, and nothing was sent of which nobody knows.
    for arguments in [&[][..], &["--watch"], &["--json"], &["--abort"], &["green"]] {
        let ended = switch(admin, arguments);
        assert!(ended.code == Some(1) && ended.err.contains("no answer from"), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_version_that_the_gateway_tells_itself_is_none_of_the_apps() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let text =
        config(&storage, &[blue.app.server()], &[green.app.server()], "    probes: {version: {serve: answer}}\n");
    let gateway = Gateway::start(text.replace(", version: {timeout: 20s}", ""));
    let admin = gateway.admin();
    for slot in ["green", "blue"] {
        let ended = switch(admin, &[slot, "--version", "7"]);
        assert!(ended.code == Some(1) && ended.err.contains("`7` was expected, and no app is asked"), "{ended:?}");
    }
    assert_eq!((state(admin)["active"].as_str(), green.served()), (Some("blue"), 0));
}

#[test]
fn a_question_hides_no_switch() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    let gateway = Gateway::start(two(&storage, &blue, &green));
    let admin = gateway.admin();
    assert_eq!(switch(admin, &["green", "--bake", "0s"]).code, Some(0));
    assert!(state(admin)["last"].is_null(), "it is the one");
    assert_eq!(switch(admin, &["green", "--version", "3"]).code, Some(1));
    let told = state(admin);
    assert_eq!((&told["switch"]["outcome"], &told["last"]["outcome"]), (&"refused".into(), &"done".into()));
    let told = switch(admin, &[]).out;
    let lines: Vec<_> = told.lines().skip(2).collect();
    assert!(lines[0].starts_with("last switch, of green, which had everything: refused: "), "{told}");
    assert!(lines[1].starts_with("before it, from blue to green: done"), "{told}");
}

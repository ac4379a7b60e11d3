//! A switch beside everything else that a gateway does meanwhile: hand-overs, draining, queues, sticky clients, latches, and apps that refuse streams.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::handover::{Ask, Load, begin};
use crate::harness::{
    Call, Client, Folder, Gate, Gateway, Http2App, Request, Upstream, eventually, exchange, free_address, get,
    listening_on, metric, ok, wait_for_metric, wait_ready,
};
use crate::slots::{Release, command, config, ends, share, state, switch, two};

/// What a client with these fields gets.
fn ask(to: SocketAddr, fields: &str) -> String {
    let answer = exchange(to, format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n"));
    assert_eq!(answer.status, 200, "{fields}");
    answer.text()
}

/// Which of the clients 1 to 60 get the new release; `field` tells them apart.
fn moved(to: SocketAddr, field: impl Fn(usize) -> String) -> BTreeSet<usize> {
    (1..=60).filter(|client| ask(to, &field(*client)) == "2").collect()
}

fn by_address(client: usize) -> String {
    format!("X-Real-IP: 198.51.100.{client}\r\n")
}

#[test]
fn a_hand_over_in_the_middle_of_a_switch_moves_nobody_and_loses_nothing() {
    let (storage, meeting) = (Folder::new(), Folder::new());
    let (blue, green) = (Release::new("1"), Release::new("2"));
    let socket = meeting.path().join("private/upgrade.sock");
    let [address, admin] = [free_address(), free_address()];
    let text = listening_on(&two(&storage, &blue, &green), &[address])
        .replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{admin}\"}}"));
    let mut old = Gateway::with(&text).arg("--upgrade-socket").arg(&socket).start();
    wait_ready(&old);
    assert_eq!(switch(admin, &["green", "--percent", "50", "--step", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&old, &share("green"), 0.5);
    eventually("it is written", || (state(admin)["switch"]["phase"] == "moving").then_some(()));
    let before = moved(address, by_address);
    assert!(!before.is_empty() && before.len() < 60, "{before:?}");
    // Each request of a client that asks all the time is answered, and by its slot.
    let clients = [*before.first().unwrap(), (1..=60).find(|client| !before.contains(client)).unwrap()];
    let load = Load::of(clients.map(|client| {
        let expected = if before.contains(&client) { "2" } else { "1" };
        let asks: Ask = Box::new(move || {
            let answer = ask(address, &by_address(client));
            if answer == expected { Ok(()) } else { Err(std::io::Error::other(answer)) }
        });
        (by_address(client), asks)
    }));
    load.wait_for(20);
    let new = begin(&old, &text, &socket);
    assert_eq!(old.wait_exit().code(), Some(0));
    // From its first request on.
    assert_eq!(moved(address, by_address), before);
    wait_ready(&new);
    eventually("the new process goes on with it", || (state(admin)["switch"]["phase"] == "moving").then_some(()));
    assert_eq!(
        (state(admin)["switch"]["percent"].as_u64(), state(admin)["process"].as_u64()),
        (Some(50), Some(new.pid().into()))
    );
    assert_eq!(moved(address, by_address), before);
    load.wait_for(20);
    assert_eq!(load.end(), [""; 0]);
    let aborted = switch(admin, &["--abort"]);
    assert!(aborted.code == Some(0) && aborted.out.contains("another process had begun it"), "{aborted:?}");
    assert!(moved(address, by_address).is_empty());
}

#[test]
fn clients_stay_by_cookie_or_header_while_a_share_moves() {
    for (sticky, field) in [("cookie: sessionid", "Cookie: a=b; sessionid="), ("header: X-Tenant", "X-Tenant: ")] {
        let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
        let more = format!("    switch: {{sticky: {{{sticky}}}}}\n");
        let text = config(&storage, &[blue.app.server()], &[green.app.server()], &more);
        let gateway = Gateway::start(text);
        let (admin, address) = (gateway.admin(), gateway.address());
        assert_eq!(switch(admin, &["green", "--percent", "30", "--step", "1h", "--detach"]).code, Some(0));
        wait_for_metric(&gateway, &share("green"), 0.3);
        let from =
            |network: usize| move |client: usize| format!("X-Real-IP: 198.51.{network}.7\r\n{field}s{client}\r\n");
        let few = moved(address, from(1));
        assert!(!few.is_empty() && few.len() < 45, "{few:?}");
        assert_eq!(moved(address, from(2)), few, "wherever they are");
        // Who has none is told by the address: all of one together.
        let none: BTreeSet<_> = (0..5).map(|_| ask(address, "X-Real-IP: 198.51.100.9\r\n")).collect();
        assert_eq!(none.len(), 1);
        assert_eq!(switch(admin, &["--abort"]).code, Some(0));
        assert_eq!(switch(admin, &["green", "--percent", "70", "--step", "1h", "--detach"]).code, Some(0));
        wait_for_metric(&gateway, &share("green"), 0.7);
        let more = moved(address, from(3));
        assert!(few.is_subset(&more) && few.len() < more.len(), "{few:?} {more:?}");
    }
}

#[test]
fn a_server_is_drained_within_its_slot() {
    let (storage, blue) = (Folder::new(), Release::new("1"));
    let [one, two] = [Release::new("2"), Release::new("2")];
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[one.app.server(), two.app.server()], ""));
    let (admin, address) = (gateway.admin(), gateway.address());
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    assert_eq!(command(admin, &["drain", "shop", &one.app.server()]).code, Some(0));
    let before = one.served();
    for _ in 0..20 {
        assert_eq!(get(address, "/").text(), "2");
    }
    assert_eq!((one.served(), two.served() >= 20), (before, true));
    // The other slot has one that could answer, and yet this one has not.
    let last = command(admin, &["drain", "shop", &two.app.server()]);
    assert!(last.code == Some(1) && last.err.contains("nobody would answer"), "{last:?}");
    assert_eq!(command(admin, &["drain", "shop", &two.app.server(), "--force"]).code, Some(0));
    // Nobody fails while it is seen, and goes back.
    eventually("it goes back", || {
        assert_eq!(get(address, "/").text(), "1");
        (metric(&gateway, &ends("returned")) > 0.5).then_some(())
    });
    assert_eq!(command(admin, &["undrain", "shop", &one.app.server()]).code, Some(0));
    assert_eq!(get(address, "/").text(), "1");
}

#[test]
fn places_and_queues_are_those_of_each_slot() {
    let storage = Folder::new();
    let (blue, gate) = (Release::new("1"), Arc::<Gate>::default());
    let theirs = Arc::clone(&gate);
    let green = Upstream::answering(move |request: &Request| {
        if request.target() == "/slow" {
            theirs.wait();
        }
        ok("2")
    });
    let more = "    upstream: {queue: {max: 1, timeout: 20s}}\n";
    let text = config(&storage, &[blue.app.server()], &[green.server()], more);
    let places = |server: String| format!("{{address: \"{server}\", max_in_flight: 1}}");
    let text = [blue.app.server(), green.server()]
        .into_iter()
        .fold(text, |text, server| text.replace(&format!("\"{server}\""), &places(server)));
    let gateway = Gateway::start(text);
    let (admin, address) = (gateway.admin(), gateway.address());
    assert_eq!(switch(admin, &["green", "--force", "--percent", "50", "--step", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 0.5);
    let news = moved(address, by_address);
    let there = *news.first().unwrap();
    let stays = (1..=60).find(|client| !news.contains(client)).unwrap();
    let send = |target: &str, client: usize| {
        let mut connection = Client::connect(address);
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", by_address(client)));
        connection
    };
    let mut holds = send("/slow", there);
    eventually("it has the only place", || green.targets().contains(&"/slow".to_owned()).then_some(()));
    let mut waits = send("/slow", there);
    wait_for_metric(&gateway, "probegate_upstream_queue{service=\"shop\"}", 1.0);
    // The other slot has a place of its own; it is where the next one goes that finds the queue full.
    assert_eq!(ask(address, &by_address(stays)), "1");
    assert_eq!(ask(address, &by_address(there)), "1");
    gate.open();
    assert_eq!((holds.response().text(), waits.response().text()), ("2".into(), "2".into()));
    assert_eq!(ask(address, &by_address(there)), "2");
}

const LATCH: &str = "    probes: {startupz: {latch: true, timeout: 20s, cache: {ok: 0s, fail: 0s}}}\n";

/// An app that says by its name that it has started, when it has.
fn starting(name: &'static str, started: &Arc<AtomicBool>) -> Upstream {
    let started = Arc::clone(started);
    Upstream::answering(move |request: &Request| match &*request.target() {
        "/startupz" if !started.load(Ordering::SeqCst) => b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        _ => ok(name),
    })
}

#[test]
fn who_has_started_in_one_slot_has_not_started_in_another() {
    let storage = Folder::new();
    let started = Arc::new(AtomicBool::new(true));
    let (blue, green) = (starting("1", &started), starting("2", &started));
    let gateway = Gateway::start(config(&storage, &[blue.server()], &[green.server()], LATCH));
    let (admin, address) = (gateway.admin(), gateway.address());
    let startup = || get(address, "/startupz").text();
    assert_eq!(startup(), "1");
    assert_eq!(switch(admin, &["green", "--force", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    assert_eq!(startup(), "2", "another slot is asked anew");
    started.store(false, Ordering::SeqCst);
    assert_eq!(startup(), "2", "it has started");
    assert_eq!(switch(admin, &["--abort"]).code, Some(0));
    assert_eq!(startup(), "no", "and so is the one before, when it is back");
}

#[test]
fn who_has_started_has_not_where_the_configuration_gives_the_requests_to_others() {
    let storage = Folder::new();
    let started = Arc::new(AtomicBool::new(true));
    let [blue, green, other] = ["1", "2", "3"].map(|name| starting(name, &started));
    let text = |green: &Upstream| config(&storage, &[blue.server()], &[green.server()], LATCH);
    let gateway = Gateway::start(text(&green));
    let address = gateway.address();
    let startup = || get(address, "/startupz").text();
    assert_eq!(startup(), "1");
    started.store(false, Ordering::SeqCst);
    assert_eq!(startup(), "1");
    std::fs::write(gateway.config_path(), text(&green).replace("active: blue", "active: green")).unwrap();
    gateway.signal("HUP");
    eventually("the configuration has moved it", || (get(address, "/").text() == "2").then_some(()));
    assert_eq!(startup(), "no");
    // And where a server is replaced.
    started.store(true, Ordering::SeqCst);
    assert_eq!(startup(), "2");
    started.store(false, Ordering::SeqCst);
    std::fs::write(gateway.config_path(), text(&other).replace("active: blue", "active: green")).unwrap();
    gateway.signal("HUP");
    eventually("it is replaced", || (get(address, "/").text() == "3").then_some(()));
    assert_eq!(startup(), "no");
}

#[test]
fn a_release_that_refuses_streams_goes_back_and_nobody_is_refused() {
    let storage = Folder::new();
    let app = |name: &'static str, refuses: bool| {
        Http2App::scripted(move |mut call: Call| async move {
            let uri = call.seen().uri;
            if refuses && uri.ends_with("/page") {
                call.reply.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                call.answer(200, &[], name).await;
            }
        })
    };
    let (blue, green) = (app("1", false), app("2", true));
    let more = "    upstream: {protocol: http2}\n";
    let gateway = Gateway::start(config(&storage, &[blue.server()], &[green.server()], more));
    let (admin, address) = (gateway.admin(), gateway.address());
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    eventually("it goes back", || {
        // Whatever the method: the app has not looked at it.
        for method in ["POST", "GET"] {
            let request =
                format!("{method} /page HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
            let answer = exchange(address, request);
            assert_eq!((answer.status, &*answer.text()), (200, "1"), "{method}");
        }
        (metric(&gateway, &ends("returned")) > 0.5).then_some(())
    });
    let ended = switch(admin, &["--watch"]);
    assert!(ended.code == Some(3) && ended.err.contains("requests went wrong"), "{ended:?}");
    assert!(green.seen().iter().any(|seen| seen.uri.ends_with("/page")));
}

#[test]
fn what_does_no_harm_twice_never_fails_and_is_answered_by_the_slot_before() {
    let (storage, blue, green) = (Folder::new(), Release::new("1"), Release::new("2"));
    green.broken.store(true, Ordering::SeqCst);
    let gateway = Gateway::start(config(&storage, &[blue.app.server()], &[green.app.server()], ""));
    let (admin, address) = (gateway.admin(), gateway.address());
    assert_eq!(switch(admin, &["green", "--errors", "100", "--bake", "1h", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    let send = |method: &str| {
        let head = format!("{method} /page HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        exchange(address, head).status
    };
    for method in ["PUT", "DELETE", "OPTIONS", "GET"] {
        assert_eq!(send(method), 200, "{method}");
    }
    for method in ["POST", "PATCH"] {
        assert_eq!(send(method), 500, "{method}");
    }
    assert_eq!((green.served(), blue.served()), (6, 4));
}

#[test]
fn a_post_that_fails_is_seen_by_its_client_and_done_by_nobody_else() {
    let storage = Folder::new();
    let blue = Upstream::answering(|_| ok("1"));
    let green = Upstream::answering(move |request: &Request| match &*request.target() {
        "/form" => b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nbad".to_vec(),
        _ => ok("{\"version\": \"2\"}"),
    });
    let gateway = Gateway::start(config(&storage, &[blue.server()], &[green.server()], ""));
    let (admin, address) = (gateway.admin(), gateway.address());
    assert_eq!(switch(admin, &["green", "--bake", "60s", "--detach"]).code, Some(0));
    wait_for_metric(&gateway, &share("green"), 1.0);
    let (mut failed, mut good) = (BTreeSet::new(), BTreeSet::new());
    let mut client = Client::connect(address);
    for number in 0.. {
        let text = format!("n{number}");
        client.send(format!("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        let answer = client.response();
        assert!([200, 500].contains(&answer.status), "{answer:?}");
        if answer.status == 500 { &mut failed } else { &mut good }.insert(text);
        if answer.closes() {
            client = Client::connect(address);
        }
        if good.len() >= 20 {
            break;
        }
    }
    let got = |app: &Upstream| {
        let posts = app.requests().into_iter().filter(|request| request.target() == "/form");
        let texts: Vec<_> = posts.map(|request| String::from_utf8(request.body).unwrap()).collect();
        let set: BTreeSet<_> = texts.iter().cloned().collect();
        assert_eq!(set.len(), texts.len(), "nobody got one twice");
        set
    };
    // Each went to one app, whose answer it is.
    assert!(failed.len() >= 3, "{failed:?}");
    assert_eq!((got(&green), got(&blue)), (failed, good));
    assert_eq!(switch(admin, &["--watch"]).code, Some(3));
}

//! Several servers for one app: who is chosen, who waits, and what clients see when one fails.

mod failures;
mod trials;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{
    Client, Config, Connection, Gate, Gateway, Unreachable, Upstream, eventually, exchange, get, metrics, ok,
    probegate, root, run, wait_for_metric,
};

const HANDSHAKE: &str = concat!(
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
);

const AGREED: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
);

/// A configuration whose list of servers is written like this.
fn config(servers: &str, workers: usize, upstream: &str) -> String {
    Config::servers(["SERVERS"]).workers(workers).upstream(upstream).to_string().replace("[\"SERVERS\"]", servers)
}

/// What a series says about one server.
fn of_server(gateway: &Gateway, name: &str, server: &str) -> f64 {
    let series = metrics(gateway);
    let label = format!("server=\"{server}\"");
    let found = series.iter().find(|(key, _)| key.starts_with(&format!("{name}{{")) && key.contains(&label));
    *found.unwrap_or_else(|| panic!("no {name} of {server}: {series:?}")).1
}

fn wait_of_server(gateway: &Gateway, name: &str, server: &str, value: f64) {
    eventually(&format!("{name} of {server} is {value}"), || {
        ((of_server(gateway, name, server) - value).abs() < 0.1).then_some(())
    });
}

/// Asks over and over on one connection; who answered.
fn asked(client: &mut Client, count: usize, fields: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..count {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let response = client.response();
        assert_eq!(response.status, 200, "{}", response.text());
        answers.push(response.text());
    }
    answers
}

fn counts(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn a_round_gives_each_server_exactly_its_weight_over_all_workers() {
    let (heavy, light) = (Upstream::answering(|_| ok("heavy")), Upstream::answering(|_| ok("light")));
    let servers = format!("[{{address: \"{}\", weight: 3}}, \"{}\"]", heavy.server(), light.server());
    let gateway = Gateway::start(config(&servers, 2, "balance: round_robin"));
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.extend(asked(&mut Client::connect(gateway.address()), 4, ""));
    }
    assert_eq!(counts(&answers), BTreeMap::from([("heavy", 30), ("light", 10)]));
    wait_of_server(&gateway, "probegate_upstream_requests_total", &heavy.server(), 30.0);
    wait_of_server(&gateway, "probegate_upstream_in_flight", &heavy.server(), 0.0);
}

#[test]
fn whoever_has_less_to_do_gets_the_request() {
    let gate = Arc::new(Gate::default());
    let wait = Arc::clone(&gate);
    let one = Upstream::answering(move |request| {
        if request.target() == "/slow" {
            wait.wait();
        }
        ok("one")
    });
    let other = Upstream::answering(|_| ok("other"));
    let gateway = Gateway::start(Config::servers([one.server(), other.server()]));
    // Until the first one has it.
    let mut slow: Vec<Client> = Vec::new();
    while one.targets().iter().all(|target| target != "/slow") {
        let mut client = Client::connect(gateway.address());
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        let before = one.requests().len() + other.requests().len();
        slow.push(client);
        eventually("somebody has it", || (one.requests().len() + other.requests().len() >= before).then_some(()));
        eventually("it is at a server", || {
            let shown = metrics(&gateway);
            let sent: f64 = shown
                .iter()
                .filter(|(key, _)| key.starts_with("probegate_upstream_requests_total{"))
                .map(|(_, n)| n)
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            (sent >= slow.len() as f64).then_some(())
        });
    }
    // More than one, where the first was on its way when the next was sent.
    eventually("the first server is at work", || {
        (of_server(&gateway, "probegate_upstream_in_flight", &one.server()) > 0.5).then_some(())
    });
    let answers = asked(&mut Client::connect(gateway.address()), 20, "");
    assert_eq!(counts(&answers), BTreeMap::from([("other", 20)]));
    gate.open();
    for client in &mut slow {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn a_session_stays_with_its_server_and_only_those_of_a_server_that_goes_move() {
    // No connection outlives its server.
    let answer = |name| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{name}");
    let mut apps: Vec<_> = ["a", "b", "c"].map(|name| Upstream::answering(move |_| answer(name))).into();
    let listed = apps.iter().map(Upstream::server);
    let gateway = Gateway::start(Config::servers(listed).workers(2).upstream("balance: {hash: {cookie: sessionid}}"));
    let sessions: Vec<_> = (0..60).map(|n| format!("Cookie: theme=dark; sessionid=s{n}\r\n")).collect();
    let home = |session: &String| {
        let answers = asked(&mut Client::connect(gateway.address()), 3, session);
        assert_eq!(counts(&answers).len(), 1, "{answers:?}");
        answers[0].clone()
    };
    let before: Vec<_> = sessions.iter().map(home).collect();
    assert_eq!(counts(&before).len(), 3, "each has some: {before:?}");
    // Without a session, everybody gets some.
    assert_eq!(counts(&asked(&mut Client::connect(gateway.address()), 60, "")).len(), 3);
    drop(apps.remove(1));
    for (session, before) in sessions.iter().zip(&before) {
        let after = home(session);
        assert!(&after == before || before == "b", "{before} → {after}");
        assert_ne!(after, "b");
    }
}

#[test]
fn a_client_or_a_header_keeps_requests_together_where_that_is_wanted() {
    let apps: Vec<_> = ["a", "b", "c", "d"].map(|name| Upstream::answering(move |_| ok(name))).into();
    let servers: Vec<_> = apps.iter().map(Upstream::server).collect();
    let gateway = Gateway::start(Config::servers(&servers).upstream("balance: {hash: client_ip}"));
    let mut homes = Vec::new();
    for last in 1..=20 {
        let answers = asked(&mut Client::connect_from([127, 0, 9, last], gateway.address()), 4, "");
        assert_eq!(counts(&answers).len(), 1, "{answers:?}");
        homes.push(answers[0].clone());
    }
    assert!(counts(&homes).len() > 1, "{homes:?}");
    let gateway = Gateway::start(Config::servers(&servers).upstream("balance: {hash: {header: X-Tenant}}"));
    let tenants = (0..20).map(|n| {
        let answers = asked(&mut Client::connect(gateway.address()), 4, &format!("x-tenant: t{n}\r\n"));
        assert_eq!(counts(&answers).len(), 1, "{answers:?}");
        answers[0].clone()
    });
    assert!(counts(&tenants.collect::<Vec<_>>()).len() > 1);
}

#[test]
fn one_place_is_enough_for_many_clients_on_several_workers() {
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (theirs, seen) = (Arc::clone(&at_once), Arc::clone(&most));
    let app = Upstream::answering(move |_| {
        seen.fetch_max(theirs.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::yield_now();
        theirs.fetch_sub(1, Ordering::SeqCst);
        ok("served")
    });
    let servers = format!("[{{address: \"{}\", max_in_flight: 1}}]", app.server());
    let gateway = Gateway::start(config(&servers, 4, "queue: {max: 1000, timeout: 60s}"));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address());
                assert_eq!(asked(&mut client, 25, "").len(), 25);
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1);
    // A wake-up that is lost costs a tenth of a second, so that 800 requests would show it.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    wait_for_metric(&gateway, "probegate_upstream_queue{service=\"app\"}", 0.0);
    wait_of_server(&gateway, "probegate_upstream_in_flight", &app.server(), 0.0);
}

#[test]
fn a_full_queue_is_503_and_so_is_waiting_for_too_long() {
    let gate = Arc::new(Gate::default());
    let wait = Arc::clone(&gate);
    let app = Upstream::answering(move |_| {
        wait.wait();
        ok("served")
    });
    let servers = format!("[{{address: \"{}\", max_in_flight: 1}}]", app.server());
    let gateway = Gateway::start(config(&servers, 2, "queue: {max: 2, timeout: 5s}"));
    let queue = "probegate_upstream_queue{service=\"app\"}";
    let ask = |target: &str| {
        let mut client = Client::connect(gateway.address());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    };
    let mut first = ask("/first");
    app.wait_for_requests(1);
    let (mut late, leaver) = (ask("/late"), ask("/leaver"));
    wait_for_metric(&gateway, queue, 2.0);
    let refused = get(gateway.address(), "/refused");
    assert_eq!((refused.status, refused.field("retry-after").as_deref()), (503, Some("5")));
    assert_eq!(gateway.access("/refused")["reason"], "upstream_queue_full");
    // Whoever leaves makes room.
    drop(leaver);
    assert_eq!(gateway.access("/leaver")["reason"], "client_closed");
    let answer = late.response();
    assert_eq!((answer.status, answer.field("retry-after").as_deref()), (503, Some("5")));
    assert_eq!(gateway.access("/late")["reason"], "upstream_queue_timeout");
    wait_for_metric(&gateway, queue, 0.0);
    gate.open();
    assert_eq!(first.response().status, 200);
    assert_eq!(get(gateway.address(), "/after").status, 200);
    assert_eq!(app.targets(), ["/first", "/after"]);
}

#[test]
fn a_websocket_takes_its_place_until_it_ends() {
    let app = Upstream::scripted(|connection: &mut Connection| {
        while let Some(request) = connection.request() {
            if request.field("upgrade").is_none() {
                connection.write(ok("plain"));
                continue;
            }
            connection.write(AGREED);
            connection.wait_closed();
            return;
        }
    });
    let servers = format!("[{{address: \"{}\", max_in_flight: 1}}]", app.server());
    let gateway = Gateway::start(config(&servers, 2, "queue: {timeout: 60s}"));
    let mut socket = Client::connect(gateway.address());
    socket.send(HANDSHAKE);
    assert_eq!(socket.response().status, 101);
    let mut waiting = Client::connect(gateway.address());
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for_metric(&gateway, "probegate_upstream_queue{service=\"app\"}", 1.0);
    wait_of_server(&gateway, "probegate_upstream_in_flight", &app.server(), 1.0);
    drop(socket);
    assert_eq!(waiting.response().text(), "plain");
}

#[test]
fn a_request_that_is_cut_gives_its_place_back() {
    let app = Upstream::scripted(|connection: &mut Connection| {
        while let Some(request) = connection.request() {
            if request.target() == "/hangs" {
                connection.wait_closed();
                return;
            }
            connection.write(ok("served"));
        }
    });
    let servers = format!("[{{address: \"{}\", max_in_flight: 1}}]", app.server());
    let gateway = Gateway::start(config(&servers, 1, "queue: off"));
    let mut client = Client::connect(gateway.address());
    client.send("GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n");
    app.wait_for_requests(1);
    assert_eq!(get(gateway.address(), "/refused").status, 503);
    drop(client);
    gateway.access("/hangs");
    assert_eq!(get(gateway.address(), "/after").status, 200);
    // The client went, and the server did nothing wrong.
    assert!(of_server(&gateway, "probegate_upstream_failures_total", &app.server()) < 0.1);
}

#[test]
fn a_server_that_fails_is_left_out_and_comes_back() {
    let down = Unreachable::refusing();
    let spare = Upstream::answering(|_| ok("spare"));
    let servers = format!("[\"{}\", {{address: \"{}\", backup: true}}]", down.server(), spare.server());
    let gateway = Gateway::start(config(&servers, 1, "fail_timeout: 5s"));
    let address: SocketAddr = down.server().parse().unwrap();
    assert_eq!(get(gateway.address(), "/").text(), "spare");
    gateway.wait_for_log(|line| line["message"] == "server fails and is left out" && line["server"] == down.server());
    wait_of_server(&gateway, "probegate_upstream_ejected", &down.server(), 1.0);
    drop(down);
    let back = Upstream::answering_at(address, |_| ok("back"));
    eventually("it is tried again", || (get(gateway.address(), "/").text() == "back").then_some(()));
    gateway.wait_for_log(|line| line["message"] == "server is back");
    wait_of_server(&gateway, "probegate_upstream_ejected", &back.server(), 0.0);
    assert_eq!(counts(&asked(&mut Client::connect(gateway.address()), 5, "")), BTreeMap::from([("back", 5)]));
}

#[test]
fn statuses_are_failures_where_the_configuration_says_so() {
    let broken = Upstream::answering(|_| "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let spare = Upstream::answering(|_| ok("spare"));
    let servers = format!("[\"{}\", {{address: \"{}\", backup: true}}]", broken.server(), spare.server());
    let gateway = Gateway::start(config(&servers, 1, "max_fails: 2\nfail_on: [502, 503]"));
    let seen: Vec<_> = (0..4).map(|_| get(gateway.address(), "/").status).collect();
    assert_eq!(seen, [503, 503, 200, 200]);
}

#[test]
fn a_budget_bounds_what_is_sent_again() {
    let broken = Upstream::scripted(|connection| drop(connection.request()));
    let spare = Upstream::answering(|_| ok("spare"));
    let servers = format!("[\"{}\", {{address: \"{}\", backup: true}}]", broken.server(), spare.server());
    let upstream = "max_fails: 0\nretries: {budget: 0%, min_per_second: 1}";
    let gateway = Gateway::start(config(&servers, 1, upstream));
    let begun = Instant::now();
    let seen: Vec<_> = (0..30).map(|_| get(gateway.address(), "/").status).collect();
    // Ten for each window of ten seconds.
    let windows = usize::try_from(begun.elapsed().as_secs() / 10 + 2).unwrap();
    let again = seen.iter().filter(|status| **status == 200).count();
    assert!((10..=10 * windows).contains(&again) && (again < 30 || windows > 2), "{again} in {windows}: {seen:?}");
}

#[test]
fn a_client_that_stalls_or_leaves_is_not_blamed_on_a_server() {
    // As gunicorn's sync workers, which are ended when they have waited for a client for too long.
    let impatient = Upstream::scripted(|connection: &mut Connection| drop(connection.head()));
    let spare = Upstream::answering(|_| ok("spare"));
    let servers = format!("[\"{}\", {{address: \"{}\", backup: true}}]", impatient.server(), spare.server());
    let gateway = Gateway::start(config(&servers, 1, "") + "    buffering: off\n");
    for n in 1..=3 {
        let mut client = Client::connect(gateway.address());
        client.send(format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"));
        assert_eq!(client.response().status, 502);
        assert_eq!(gateway.access(&format!("/{n}"))["upstream"], impatient.server());
    }
    assert!(of_server(&gateway, "probegate_upstream_failures_total", &impatient.server()) < 0.1);
}

#[test]
fn explain_tells_the_servers() {
    let config = root().join("examples/load-balancing/probegate.yaml");
    let ended = run(probegate(["explain", "-c"]).arg(config).args(["GET", "/"]));
    let expected = "servers   the one of two with less in flight: `127.0.0.1:8001` (weight 3, 24 at a time), \
                    `127.0.0.1:8002` (8 at a time), `127.0.0.1:8003` (backup)\n\
                    left out  after 3 failures within 30s, for 30s and longer each time; statuses 502, 503 are failures; \
                    its whole share again after 10s\n\
                    queue     200 requests wait, for 3s\n\
                    retries   1 times where that does no harm, 10 % of all requests and 10 a second; at a timeout, too; \
                    at statuses 503, too\n";
    assert!(ended.out.contains(expected), "{}", ended.out);
}

#[test]
fn the_log_says_how_often_a_request_was_sent() {
    let broken = Upstream::scripted(|connection| drop(connection.request()));
    let spare = Upstream::answering(|_| ok("spare"));
    let servers = format!("[\"{}\", {{address: \"{}\", backup: true}}]", broken.server(), spare.server());
    let gateway = Gateway::start(config(&servers, 1, "max_fails: 2"));
    assert_eq!(get(gateway.address(), "/twice").text(), "spare");
    let line = gateway.access("/twice");
    assert_eq!((&line["upstream"], &line["upstream_tries"]), (&spare.server().into(), &2.into()));
    wait_for_metric(&gateway, "probegate_upstream_retries_total{service=\"app\"}", 1.0);
    assert_eq!(exchange(gateway.address(), "POST /once HTTP/1.1\r\nHost: a\r\n\r\n").status, 502);
    assert!(gateway.access("/once")["upstream_tries"].is_null());
}

//! What counts against a client, one thing after the other, and how its bans grow.

use crate::bans::{ask, ban, config};
use crate::harness::{Client, Folder, Gateway, Upstream, eventually, gated, ok, wait_for_metric};

#[test]
fn denials_and_hosts_that_nobody_knows_count_where_they_are_asked_for() {
    let (app, storage) = (Upstream::answering(|_| ok("answered")), Folder::new());
    let bans = concat!(
        "networks: {office: [198.51.100.64/26]}\n",
        "bans:\n  outside: {offences: {denied: true}, max_offences: 2, mode: enforce}\n",
        "  scanners: {offences: {unknown_host: true}, max_offences: 2, mode: enforce}\n",
    );
    let service = "hosts: [a]\nroutes: [{path: /office, allow: {network: office}}]";
    let gateway = Gateway::start(config(&app, &storage, bans).service(service));
    let to = gateway.address();
    let status = |client: &str, request: &str| ask(to, client, request, "").status;
    // Whom the rule lets in is no offender, however often he comes.
    for _ in 0..3 {
        assert_eq!(status("198.51.100.70", "GET /office"), 200);
    }
    for _ in 0..2 {
        assert_eq!([status("203.0.113.1", "GET /"), status("203.0.113.1", "GET /office")], [200, 403]);
    }
    assert_eq!([status("203.0.113.1", "GET /"), status("198.51.100.70", "GET /")], [403, 200]);
    wait_for_metric(&gateway, "probegate_ban_offences_total{policy=\"outside\",mode=\"enforce\"}", 2.0);

    let elsewhere = |client: &str| {
        let mut connection = Client::connect_from([127, 0, 0, 2], to);
        connection.send(format!("GET / HTTP/1.1\r\nHost: nobody.example\r\nX-Forwarded-For: {client}\r\n\r\n"));
        connection.response().status
    };
    assert_eq!([elsewhere("203.0.113.2"), status("203.0.113.2", "GET /"), elsewhere("203.0.113.2")], [421, 200, 421]);
    assert_eq!(status("203.0.113.2", "GET /"), 403);
    wait_for_metric(&gateway, "probegate_ban_offences_total{policy=\"scanners\",mode=\"enforce\"}", 2.0);
    let why = ban(gateway.admin(), &["why", "203.0.113.2"]);
    assert!(why.out.contains("(scanners)") && why.out.contains("unknown_host"), "{}", why.out);
}

#[test]
fn too_many_requests_at_once_count_as_too_many_in_a_time_do() {
    let (gate, app) = gated("/held", "answered");
    let storage = Folder::new();
    let bans = concat!(
        "limits: {few: {max_in_flight: 1}}\n",
        "bans: {hammering: {offences: {limited: true}, max_offences: 2, mode: enforce}}",
    );
    let gateway = Gateway::start(config(&app, &storage, bans).service("limits: [few]"));
    let to = gateway.address();
    let mut held = Client::connect_from([127, 0, 0, 2], to);
    held.send("GET /held HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n");
    app.wait_for_requests(1);
    let status = |client: &str| ask(to, client, "GET /", "").status;
    assert_eq!([(); 3].map(|()| status("203.0.113.1")), [429, 429, 403]);
    assert_eq!(status("203.0.113.2"), 200, "another client has a place of its own");
    gate.open();
    // What is under way is not cut off.
    assert_eq!(held.response().status, 200);
}

#[test]
fn whoever_comes_back_and_goes_on_stays_out_for_longer() {
    let (app, storage) = (Upstream::answering(|_| ok("answered")), Folder::new());
    let bans =
        "bans: {scans: {offences: {invalid: true}, max_offences: 1, time: 1s, multipliers: [1, 3600], mode: enforce}}";
    let gateway = Gateway::start(config(&app, &storage, bans));
    let to = gateway.address();
    let status = |request: &str| ask(to, "203.0.113.9", request, "").status;
    assert_eq!(status("GET /%zz"), 400);
    let seconds = |seconds: u64| {
        gateway.wait_for_log(|line| line["message"] == "client is banned" && line["seconds"] == seconds);
    };
    seconds(1);
    eventually("the first ban is over", || (status("GET /") == 200).then_some(()));
    assert_eq!([status("GET /%zz"), status("GET /")], [400, 403]);
    seconds(3600);
}

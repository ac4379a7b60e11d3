//! What clients see when a server fails: the table of the documentation, compared with what happens.

use std::fmt::Write as _;
use std::thread;

use super::{config, of_server};
use crate::harness::{Client, Connection, End, Gateway, Unreachable, Upstream, get, ok, root};

/// What a server does that fails: as the documentation says, and as a script or an address.
enum Failing {
    Script(fn(&mut Connection)),
    Refuses,
    Hangs,
}

/// The table in `gateway/docs/upstreams.md`: what clients see of each failure.
#[test]
fn the_documentation_says_what_clients_see_when_a_server_fails() {
    let cases: [(&str, &str, Failing); 9] = [
        ("cannot be connected to", "", Failing::Refuses),
        ("does not accept a connection in time", "connect_timeout: 2s", Failing::Hangs),
        (
            "closes a kept connection without an answer",
            "",
            Failing::Script(|connection| {
                let Some(first) = connection.request() else { return };
                if first.target() == "/warm" {
                    connection.write(ok(""));
                    connection.request();
                } else {
                    connection.write(ok("its answer, on a new connection"));
                    connection.wait_closed();
                }
            }),
        ),
        ("closes a new connection without an answer", "", Failing::Script(|connection| drop(connection.request()))),
        (
            "closes within the head of its answer",
            "",
            Failing::Script(|connection| {
                connection.request();
                connection.write("HTTP/1.1 200 OK\r\nContent-");
            }),
        ),
        (
            "sends what is no answer",
            "",
            Failing::Script(|connection| {
                connection.request();
                connection.write("220 mail.example.com ESMTP\r\n\r\n");
                connection.wait_closed();
            }),
        ),
        (
            "does not answer in time",
            "response_timeout: 2s",
            Failing::Script(|connection| {
                connection.request();
                connection.wait_closed();
            }),
        ),
        (
            "does not answer in time, with `retries: {on: [timeout]}`",
            "response_timeout: 2s\nretries: {on: [timeout]}",
            Failing::Script(|connection| {
                connection.request();
                connection.wait_closed();
            }),
        ),
        (
            "breaks its answer off",
            "",
            Failing::Script(|connection| {
                connection.request();
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            }),
        ),
    ];
    let mut table = String::new();
    for (does, upstream, failing) in &cases {
        row(&mut table, does, upstream, failing);
    }
    let answers = |connection: &mut Connection| {
        while connection.request().is_some() {
            connection.write("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\nits answer");
        }
    };
    row(&mut table, "answers 503", "", &Failing::Script(answers));
    row(&mut table, "answers 503, with `retries: {on: [503]}`", "retries: {on: [503]}", &Failing::Script(answers));
    row(&mut table, "answers 503, with `fail_on: [503]`", "fail_on: [503]", &Failing::Script(answers));
    let page = std::fs::read_to_string(root().join("gateway/docs/upstreams.md")).unwrap();
    assert!(page.contains(&table), "the page should say:\n{table}");
}

fn row(table: &mut String, does: &str, upstream: &str, failing: &Failing) {
    let scripted;
    let unreachable;
    let server = match failing {
        Failing::Script(script) => {
            scripted = Upstream::scripted(*script);
            scripted.server()
        }
        Failing::Refuses => {
            unreachable = Unreachable::refusing();
            unreachable.server()
        }
        Failing::Hangs => {
            unreachable = Unreachable::full();
            unreachable.server()
        }
    };
    let spare = Upstream::answering(|_| ok("the other's answer"));
    let servers = format!("[\"{server}\", {{address: \"{}\", backup: true}}]", spare.server());
    let ask = |request: &str| {
        let gateway = Gateway::start(config(&servers, 1, upstream));
        if does.contains("kept") {
            assert_eq!(get(gateway.address(), "/warm").status, 200);
        }
        let mut client = Client::connect(gateway.address());
        client.send(request);
        let (response, end) = client.response_and_end();
        let seen = match (response.status, end) {
            (200, End::Whole) => response.text(),
            (200, _) => "an answer that breaks off".to_owned(),
            (status, _) if response.text() == "its answer" => format!("{status}, {}", response.text()),
            (status, _) => format!("{status} `{}`", gateway.access("/")["reason"].as_str().unwrap()),
        };
        // Behind the line in the log, everything is counted.
        gateway.access("/");
        (seen, of_server(&gateway, "probegate_upstream_failures_total", &server) > 0.5)
    };
    // Each through a gateway of its own, and at the same time: some wait for deadlines.
    let [get, put, post] = thread::scope(|scope| {
        let asked = [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        ]
        .map(|request| scope.spawn(|| ask(request)));
        asked.map(|asked| asked.join().unwrap())
    });
    assert_eq!(get, put, "{does}: what is idempotent is treated alike");
    let blamed = if post.1 { "yes" } else { "no" };
    writeln!(table, "| {does} | {} | {} | {blamed} |", get.0, post.0).unwrap();
}

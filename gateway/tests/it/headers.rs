//! `Strict-Transport-Security` (RFC 6797) and `Server`: on every answer of a service, the app's and the gateway's own.

use crate::harness::{Client, Config, Gateway, Response, Upstream, exchange};

/// An app that says too much.
fn talkative() -> Upstream {
    Upstream::scripted(|connection| {
        while let Some(request) = connection.request() {
            match &*request.target() {
                "/early" => {
                    connection.write("HTTP/1.1 103 Early Hints\r\nServer: gunicorn\r\nLink: </a>\r\n\r\n");
                }
                "/broken" => {
                    connection.write("nonsense\r\n\r\n");
                    return;
                }
                _ => {}
            }
            connection.write(
                "HTTP/1.1 200 OK\r\nserver: gunicorn\r\nX-A: 1\r\nStrict-Transport-Security: max-age=1\r\n\
                 SERVER: twice\r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok",
            );
        }
    })
}

fn ask(gateway: &Gateway, target: &str, fields: &str) -> Response {
    exchange(gateway.address(), format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

fn all(response: &Response, name: &str) -> Vec<String> {
    let fields = response.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    fields.map(|(_, value)| value.clone()).collect()
}

const NONE: [&str; 0] = [];
const HTTPS: &str = "X-Forwarded-Proto: https\r\n";

#[test]
fn no_answer_says_which_server_it_came_from() {
    let app = talkative();
    let gateway = Gateway::start(Config::before(&app));
    let mut client = Client::connect(gateway.address());
    for target in ["/", "/early", "/broken", "/a%00b"] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let mut response = Response::of(&client.head());
        if response.status == 103 {
            assert_eq!(all(&response, "server"), NONE);
            assert_eq!(all(&response, "link"), ["</a>"]);
            response = Response::of(&client.head());
        }
        assert_eq!(all(&response, "server"), NONE, "{target}: {response:?}");
        if response.status == 200 {
            client.exactly(2);
            assert_eq!((all(&response, "x-a"), all(&response, "x-b")), (vec!["1".into()], vec!["2".into()]));
        } else {
            client = Client::connect(gateway.address());
        }
    }
    let broken = exchange(gateway.address(), "nonsense\r\n\r\n");
    assert_eq!(all(&broken, "server"), NONE);
}

#[test]
fn the_apps_server_field_passes_where_that_is_wanted_and_a_text_replaces_it() {
    let app = talkative();
    let passing = Gateway::start(Config::before(&app).service("server_header: pass"));
    assert_eq!(all(&ask(&passing, "/", ""), "server"), ["gunicorn", "twice"]);
    assert_eq!(all(&ask(&passing, "/broken", ""), "server"), NONE);
    let named = Gateway::start(Config::before(&app).service("server_header: our front"));
    for target in ["/", "/broken"] {
        let response = ask(&named, target, "");
        assert_eq!(all(&response, "server"), ["our front"], "{target}: {response:?}");
    }
}

#[test]
fn rfc_6797_7_the_promise_is_on_every_answer_over_https_and_on_none_over_http() {
    let app = talkative();
    let config = Config::before(&app)
        .top("networks: {inside: [192.0.2.0/24]}\nclient_ip: {trusted_proxies: [127.0.0.1/32]}")
        .service("hsts: {max_age: 8760h, include_subdomains: true}")
        .service("probes: {healthz: {serve: answer}}")
        .service("routes:\n  - {path: /inner, allow: {network: inside}}");
    let gateway = Gateway::start(config);
    for target in ["/", "/inner", "/healthz", "/a%00b", "/broken"] {
        let secure = ask(&gateway, target, HTTPS);
        let promise = all(&secure, "strict-transport-security");
        // A path without a meaning belongs to no service.
        let none = target == "/a%00b";
        assert_eq!(promise.len(), usize::from(!none), "{target}: {secure:?}");
        if !none {
            assert_eq!(promise, ["max-age=31536000; includeSubDomains"], "{target}");
        }
        for plain in ["", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Proto: https, http\r\n"] {
            let plain = ask(&gateway, target, plain);
            assert_eq!(all(&plain, "strict-transport-security"), NONE, "{target}: {plain:?}");
        }
    }
    // Nobody who is not trusted can bring the promise about.
    let mut stranger = Client::connect_from([127, 0, 0, 9], gateway.address());
    stranger.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{HTTPS}\r\n"));
    assert_eq!(all(&stranger.response(), "strict-transport-security"), NONE);
}

#[test]
fn a_promise_on_a_ramp_begins_small_and_the_apps_own_passes_where_the_gateway_makes_none() {
    let app = talkative();
    let trusting = Config::before(&app).top("client_ip: {trusted_proxies: [127.0.0.1/32]}");
    let ramp = Gateway::start(trusting.clone().service("hsts: {max_age: 8760h, since: 2999-01-01}"));
    assert_eq!(all(&ask(&ramp, "/", HTTPS), "strict-transport-security"), ["max-age=300"]);
    let none = Gateway::start(trusting);
    assert_eq!(all(&ask(&none, "/", HTTPS), "strict-transport-security"), ["max-age=1"]);
}

#[test]
fn switching_protocols_carries_the_stamp_as_well() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(
            "HTTP/1.1 101 Switching Protocols\r\nServer: daphne\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        );
    });
    let gateway = Gateway::start(Config::before(&app).service("upgrades: [websocket]"));
    let mut client = Client::connect(gateway.address());
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let response = Response::of(&client.head());
    assert_eq!((response.status, all(&response, "server")), (101, vec![]));
}

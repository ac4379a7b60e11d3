//! Switching protocols (RFC 9110 §7.8): only where the client asked, the configuration allows it and the app agreed.

use crate::harness::{Client, Config, Connection, End, Gateway, Upstream, eventually, get, ok};

const HANDSHAKE: &str = concat!(
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
);

const AGREED: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
);

/// Agrees to switch and says back what it hears; anything else is answered as usual.
fn echo(connection: &mut Connection) {
    while let Some(request) = connection.request() {
        if request.field("upgrade").is_none() {
            connection.write(ok("plain"));
            continue;
        }
        connection.write([AGREED.as_bytes(), b"welcome"].concat());
        while let Some(bytes) = connection.some() {
            connection.write(bytes);
        }
        connection.write("bye");
        return;
    }
}

fn websocket(app: &Upstream) -> Config {
    Config::before(app).service("upgrades: [websocket]")
}

#[test]
fn rfc_6455_4_a_websocket_passes_in_both_directions() {
    let app = Upstream::scripted(echo);
    let gateway = Gateway::start(websocket(&app));
    let mut client = Client::connect(gateway.address());
    // The first frame comes right behind the handshake, as the app's does.
    client.send(format!("{HANDSHAKE}frame"));
    let response = client.response();
    assert_eq!(response.status, 101);
    assert_eq!(response.field("connection").as_deref(), Some("Upgrade"));
    assert_eq!(response.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(response.field("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((response.field("content-length"), response.field("transfer-encoding")), (None, None));
    assert_eq!(client.exactly(12), b"welcomeframe");
    let bytes: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    client.send(&bytes);
    assert!(client.exactly(bytes.len()) == bytes, "the bytes were changed");
    let request = app.request();
    assert_eq!(request.field("connection").as_deref(), Some("Upgrade"));
    assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
    assert_eq!(request.field("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    // The end of one direction arrives, and the other one goes on to its own end.
    client.half_close();
    assert_eq!(client.rest(), (b"bye".to_vec(), End::Closed));
    assert_eq!(gateway.access("/ws")["status"], 101);
    eventually("the app's connection is closed", || (app.open() == 0).then_some(()));
}

#[test]
fn the_apps_end_of_a_tunnel_reaches_the_client_and_ends_it() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(AGREED);
        connection.write("last");
    });
    let gateway = Gateway::start(websocket(&app));
    let mut client = Client::connect(gateway.address());
    client.send(HANDSHAKE);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.rest().0, b"last");
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let app = Upstream::scripted(echo);
    let gateway = Gateway::start(websocket(&app));
    let mut client = Client::connect(gateway.address());
    client.send(HANDSHAKE);
    client.response();
    client.reset();
    eventually("the app's connection is closed", || (app.open() == 0).then_some(()));
}

#[test]
fn a_silent_tunnel_ends_and_a_busy_direction_keeps_the_other_alive() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(AGREED);
        // Only the app speaks, for longer than the deadline.
        for _ in 0..12 {
            std::thread::sleep(std::time::Duration::from_millis(300));
            connection.write(".");
        }
        connection.wait_closed();
    });
    let gateway = Gateway::start(websocket(&app).top("timeouts: {tunnel: 3s}"));
    let mut client = Client::connect(gateway.address());
    client.send(HANDSHAKE);
    assert_eq!(client.response().status, 101);
    assert_eq!(client.rest().0, b"............");
    eventually("the app's connection is closed", || (app.open() == 0).then_some(()));
}

#[test]
fn rfc_9110_7_8_what_is_not_allowed_is_served_as_if_nobody_had_asked() {
    let app = Upstream::scripted(echo);
    let gateway = Gateway::start(websocket(&app));
    let closed = Gateway::start(Config::before(&app).service("upgrades: []"));
    for (gateway, request) in [
        (&closed, HANDSHAKE.to_owned()),
        (&gateway, HANDSHAKE.replace("websocket", "h2c")),
        (&gateway, HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c, websocket")),
        (&gateway, HANDSHAKE.replace("Upgrade: websocket", "Upgrade: websocket, h2c")),
        (&gateway, HANDSHAKE.replace("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c")),
        (&gateway, HANDSHAKE.replace("Upgrade: websocket", "Upgrade: TLS/1.2")),
        (&gateway, HANDSHAKE.replace("Upgrade: websocket", "X: y")),
        (&gateway, HANDSHAKE.replace("keep-alive, Upgrade", "keep-alive")),
        (&gateway, HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0")),
        (&gateway, HANDSHAKE.replace("GET", "POST")),
        (&gateway, HANDSHAKE.replace("Sec-WebSocket-Version: 13\r\n", "Content-Length: 2\r\n") + "ok"),
    ] {
        let mut client = Client::connect(gateway.address());
        client.send(&request);
        let response = client.response();
        assert_eq!((response.status, &*response.text()), (200, "plain"), "{request}");
        assert_eq!(response.field("upgrade"), None);
    }
    for request in app.requests() {
        assert_eq!((request.field("upgrade"), request.field("connection")), (None, None), "{request:?}");
    }
}

#[test]
fn rfc_9110_7_8_h2c_can_not_be_allowed() {
    let config = Config::servers(["127.0.0.1:1"]).service("upgrades: [h2c]");
    let mut gateway = Gateway::with(config).spawn();
    assert_eq!(gateway.wait_exit().code(), Some(64));
    assert!(gateway.log_lines().concat().contains("h2c"), "{:?}", gateway.log_lines());
}

#[test]
fn rfc_9110_15_2_2_a_101_that_nobody_asked_for_is_an_invalid_answer() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write(AGREED);
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        connection.wait_closed();
    });
    let gateway = Gateway::start(websocket(&app));
    let mut client = Client::connect(gateway.address());
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &HANDSHAKE.replace("websocket", "h2c"),
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        client.send(request);
        assert_eq!(client.response().status, 502, "{request}");
    }
}

#[test]
fn rfc_9110_7_8_an_app_that_agrees_to_something_else_is_not_believed() {
    for answer in [
        AGREED.replace("Upgrade: websocket", "Upgrade: h2c"),
        AGREED.replace("Upgrade: websocket", "Upgrade: websocket, h2c"),
        AGREED.replace("Upgrade: websocket\r\n", ""),
        AGREED.replace("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: websocket"),
    ] {
        let shown = answer.clone();
        let app = Upstream::scripted(move |connection| {
            connection.request();
            connection.write(&answer);
            connection.wait_closed();
        });
        let gateway = Gateway::start(websocket(&app));
        let mut client = Client::connect(gateway.address());
        client.send(HANDSHAKE);
        assert_eq!(client.response().status, 502, "{shown}");
    }
}

#[test]
fn an_app_that_does_not_switch_answers_as_usual_and_the_connection_goes_on() {
    let app = Upstream::answering(|_| ok("no"));
    let gateway = Gateway::start(websocket(&app));
    let mut client = Client::connect(gateway.address());
    client.send(HANDSHAKE);
    assert_eq!(client.response().text(), "no");
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().text(), "no");
    // CVE-2026-2833: bytes behind a handshake that was not agreed to are the next request, judged like any other.
    client.send(format!("{HANDSHAKE}GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().text(), "no");
    assert_eq!(client.response().status, 200);
    assert_eq!(gateway.access("/readyz")["policy"], "probe:readyz");
}

#[test]
fn a_denied_path_is_denied_before_anybody_switches() {
    let app = Upstream::scripted(echo);
    let gateway = Gateway::start(
        websocket(&app)
            .service("routes:\n  - {path: /ws, allow: {network: nobody}}")
            .top("networks: {nobody: [\"192.0.2.1/32\"]}"),
    );
    let mut client = Client::connect(gateway.address());
    client.send(format!("{HANDSHAKE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().status, 403);
    assert_eq!(client.response().text(), "plain");
    assert_eq!(app.targets(), ["/next"]);
}

#[test]
fn a_probe_never_switches() {
    let app = Upstream::scripted(echo);
    let gateway = Gateway::start(websocket(&app));
    let mut client = Client::connect(gateway.address());
    client.send(HANDSHAKE.replace("/ws", "/healthz"));
    assert_eq!(client.response().text(), "plain");
    assert_eq!(get(gateway.address(), "/healthz").status, 200);
    assert_eq!(app.requests()[0].field("upgrade"), None);
}

//! Apps that speak TLS: who is believed, what is shown, and what is never done silently.

use rustls::HandshakeKind;
use serde_json::Value;

use crate::harness::{
    Authority, Client, Config, Folder, Gateway, Issued, Program, Response, Upstream, Wish, app_config, eventually,
    exchange, free_address, get, ok, probegate, run,
};

/// An app that shows `issued`, and asks for a certificate of `clients`.
fn app(issued: &Issued, clients: Option<&Authority>) -> Upstream {
    Upstream::answering_over_tls(app_config(issued, clients, &[b"http/1.1"]), |_| ok("safe"))
}

/// In front of `app` as `https://HOST:PORT`.
fn before(app: &Upstream, host: &str) -> Config {
    let port = app.server().rsplit_once(':').unwrap().1.to_owned();
    Config::servers([format!("https://{host}:{port}")])
}

/// The status of a refusal, and its reason in the log.
fn refusal(gateway: &Gateway, response: &Response) -> (u16, String) {
    let line = gateway.wait_for_log(|line| line["request_id"] == response.json()["request_id"]);
    (response.status, line["reason"].as_str().unwrap_or_default().to_owned())
}

/// Why handshakes failed, from the diagnostics log.
fn causes(gateway: &Gateway) -> Vec<String> {
    let lines = gateway.log_lines();
    let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "TLS handshake failed")
        .map(|line| line["error"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn an_app_is_believed_whose_authority_and_name_are_right_and_nobody_else() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for (what, issued, host, tls, cause) in [
        ("by address", ours.issue(&["127.0.0.1"]), "127.0.0.1", "{ca: ca.pem}", None),
        ("by name", ours.issue(&["localhost"]), "localhost", "{ca: ca.pem}", None),
        (
            "by another name",
            ours.issue(&["app.internal"]),
            "127.0.0.1",
            "{ca: ca.pem, server_name: app.internal}",
            None,
        ),
        (
            "by a wildcard",
            ours.issue(&["*.app.internal"]),
            "127.0.0.1",
            "{ca: ca.pem, server_name: a.app.internal}",
            None,
        ),
        ("RSA", ours.sign(&Wish::hosts(&["localhost"]).rsa()), "localhost", "{ca: ca.pem}", None),
        ("another's name", ours.issue(&["other.internal"]), "localhost", "{ca: ca.pem}", Some("not valid for name")),
        ("another's address", ours.issue(&["127.0.0.2"]), "127.0.0.1", "{ca: ca.pem}", Some("not valid for name")),
        ("a name for an address", ours.issue(&["localhost"]), "127.0.0.1", "{ca: ca.pem}", Some("not valid for name")),
        ("unknown authority", theirs.issue(&["localhost"]), "localhost", "{ca: ca.pem}", Some("UnknownIssuer")),
        ("the system's only", ours.issue(&["localhost"]), "localhost", "{}", Some("UnknownIssuer")),
        ("expired", ours.sign(&Wish::hosts(&["localhost"]).days(-9, -2)), "localhost", "{ca: ca.pem}", Some("expired")),
        (
            "not yet",
            ours.sign(&Wish::hosts(&["localhost"]).days(2, 9)),
            "localhost",
            "{ca: ca.pem}",
            Some("not valid yet"),
        ),
        ("for clients", ours.sign(&Wish::client("app")), "localhost", "{ca: ca.pem}", Some("")),
        ("verify: false", theirs.issue(&["other"]), "localhost", "{verify: false}", None),
    ] {
        let app = app(&issued, None);
        let config = before(&app, host).upstream(&format!("tls: {tls}")).top("log: {level: debug}");
        let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
        let response = get(gateway.address(), "/");
        match cause {
            None => assert_eq!((response.status, &*response.text()), (200, "safe"), "{what}"),
            Some(cause) => {
                assert_eq!(refusal(&gateway, &response), (502, "upstream_tls_failed".into()), "{what}");
                let causes =
                    eventually("the cause is told", || Some(causes(&gateway)).filter(|causes| !causes.is_empty()));
                assert!(causes.iter().any(|line| line.contains(cause)), "{what}: {causes:?}");
                assert_eq!(app.requests().len(), 0, "{what}");
            }
        }
    }
}

#[test]
fn an_app_that_asks_for_a_certificate_is_shown_one() {
    let ours = Authority::new("ours");
    let app = app(&ours.issue(&["localhost"]), Some(&ours));
    let own = ours.sign(&Wish::client("gateway"));
    let config = before(&app, "localhost").upstream("tls: {ca: ca.pem, cert: own.pem, key: own.key}");
    let gateway =
        Gateway::with(config).file("ca.pem", &ours.pem).file("own.pem", &own.cert).file("own.key", &own.key).start();
    assert_eq!(get(gateway.address(), "/").text(), "safe");
    let gateway =
        Gateway::with(before(&app, "localhost").upstream("tls: {ca: ca.pem}")).file("ca.pem", &ours.pem).start();
    // With TLS 1.3 the app refuses after the gateway's side of the handshake is complete.
    assert_eq!(get(gateway.address(), "/").status, 502);
}

#[test]
fn connections_are_kept_and_sessions_are_resumed_across_reloads() {
    let ours = Authority::new("ours");
    let app = app(&ours.issue(&["localhost"]), None);
    let config = before(&app, "localhost").upstream("tls: {ca: ca.pem}\nidle_timeout: 3s");
    let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
    let mut client = Client::connect(gateway.address());
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "safe");
    }
    assert_eq!(app.handshakes(), [HandshakeKind::Full], "one connection for both");
    eventually("it is closed", || (app.open() == 0).then_some(()));
    assert_eq!(get(gateway.address(), "/").text(), "safe");
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    eventually("it is closed", || (app.open() == 0).then_some(()));
    assert_eq!(get(gateway.address(), "/").text(), "safe");
    assert_eq!(app.handshakes(), [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
}

#[test]
fn a_reload_that_believes_somebody_else_takes_effect_at_once() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let app = app(&ours.issue(&["localhost"]), None);
    let config = before(&app, "localhost").upstream("tls: {ca: ca.pem}\nidle_timeout: 60s");
    let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
    assert_eq!(get(gateway.address(), "/").status, 200);
    assert_eq!(app.open(), 1);
    // The same file with other content: neither the connection nor the session may be used again.
    std::fs::write(gateway.config_path().with_file_name("ca.pem"), &theirs.pem).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_log(|line| line["message"] == "configuration reloaded");
    assert_eq!(refusal(&gateway, &get(gateway.address(), "/")), (502, "upstream_tls_failed".into()));
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn a_server_that_fails_its_handshake_is_passed_over() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (good, bad) = (app(&ours.issue(&["127.0.0.1"]), None), app(&theirs.issue(&["127.0.0.1"]), None));
    let plain = Upstream::answering(|_| ok("plain"));
    let servers = [bad.server(), plain.server(), good.server()].map(|server| format!("https://{server}"));
    let gateway =
        Gateway::with(Config::servers(servers).upstream("tls: {ca: ca.pem}")).file("ca.pem", &ours.pem).start();
    for _ in 0..6 {
        assert_eq!(get(gateway.address(), "/").text(), "safe");
    }
    assert_eq!((bad.requests().len(), plain.requests().len()), (0, 0));
}

#[test]
fn a_handshake_without_end_is_504() {
    let silent = Upstream::scripted(|connection| drop(connection.wait_closed()));
    let config = before(&silent, "127.0.0.1").upstream("tls: {verify: false}\nconnect_timeout: 300ms");
    let gateway = Gateway::start(config);
    assert_eq!(refusal(&gateway, &get(gateway.address(), "/")), (504, "upstream_connect_timeout".into()));
}

#[test]
fn large_bodies_pass_both_ways() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["localhost"]);
    let app = Upstream::answering_over_tls(app_config(&issued, None, &[]), |request| {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).as_bytes(), &request.body]
            .concat()
    });
    let config = before(&app, "localhost").upstream("tls: {ca: ca.pem}").service("max_body: 64MiB");
    let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    assert!(exchange(gateway.address(), [head.as_bytes(), &body].concat()).body == body);
}

#[test]
fn http_2_is_agreed_on_or_not_spoken() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["localhost"]);
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let app = Upstream::answering_over_tls(app_config(&issued, None, alpn), |_| ok("old"));
        let config = before(&app, "localhost").upstream("tls: {ca: ca.pem}\nprotocol: http2");
        let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
        assert_eq!(refusal(&gateway, &get(gateway.address(), "/")), (502, "upstream_tls_failed".into()));
        assert_eq!(app.requests().len(), 0);
    }
}

/// The real part: `nghttpd`, which speaks HTTP/2 and nothing else, with and without TLS.
#[test]
fn nghttpd_is_asked_in_http_2_with_and_without_tls() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["localhost"]);
    let folder = Folder::new();
    folder.write("page.txt", "x".repeat(300_000));
    let (cert, key) = (folder.write("app.pem", &issued.cert), folder.write("app.key", &issued.key));
    for tls in [false, true] {
        let address = free_address();
        let mut command = std::process::Command::new("nghttpd");
        command.arg("--address").arg(address.ip().to_string()).arg("--htdocs").arg(folder.path()).arg("--echo-upload");
        if tls {
            command.arg(address.port().to_string()).arg(&key).arg(&cert);
        } else {
            command.arg("--no-tls").arg(address.port().to_string());
        }
        let _nghttpd = Program::start(&mut command);
        eventually("it listens", || crate::harness::accepts(address).then_some(()));
        let (scheme, more) = if tls { ("https", "tls: {ca: ca.pem, server_name: localhost}") } else { ("http", "") };
        let config = Config::servers([format!("{scheme}://{address}")]).upstream("protocol: http2").upstream(more);
        let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
        for _ in 0..3 {
            let page = get(gateway.address(), "/page.txt");
            assert_eq!((page.status, page.body.len()), (200, 300_000));
            assert!(page.field("server").is_none());
        }
        assert_eq!(get(gateway.address(), "/missing").status, 404);
        let echo = exchange(gateway.address(), "POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(echo.text(), "hello");
    }
}

/// The real part: `openssl s_server`, which tells what was agreed on.
#[test]
fn openssl_sees_tls_1_3_and_1_2_with_the_name() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["app.internal"]);
    let folder = Folder::new();
    let (cert, key) = (folder.write("app.pem", &issued.cert), folder.write("app.key", &issued.key));
    for (option, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let address = free_address();
        let mut command = std::process::Command::new("openssl");
        command.args(["s_server", "-www", option, "-accept", &address.to_string()]);
        let _server = Program::start(command.arg("-cert").arg(&cert).arg("-key").arg(&key));
        eventually("it listens", || crate::harness::accepts(address).then_some(()));
        let config =
            Config::servers([format!("https://{address}")]).upstream("tls: {ca: ca.pem, server_name: app.internal}");
        let gateway = Gateway::with(config).file("ca.pem", &ours.pem).start();
        let mut client = Client::connect(gateway.address());
        client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
        let text = String::from_utf8_lossy(&client.response_until_closed().body).into_owned();
        assert!(text.contains(version), "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_at_its_line_and_a_reload_changes_nothing() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (own, other) = (ours.sign(&Wish::client("gateway")), theirs.sign(&Wish::client("gateway")));
    for (tls, message) in [
        ("{ca: missing.pem}", "file `missing.pem` cannot be read"),
        ("{ca: own.key}", "file `own.key` cannot be used: there is no certificate in it"),
        ("{ca: ca.pem, cert: own.pem}", "key `key` is missing"),
        ("{ca: ca.pem, cert: own.pem, key: other.key}", "the key does not belong to the certificate"),
        ("{ca: ca.pem, cert: own.pem, key: ca.pem}", "there is no private key in it"),
        ("{ca: ca.pem, verify: false}", "`ca` has no meaning with `verify: false`"),
    ] {
        let folder = Folder::new();
        folder.write("ca.pem", &ours.pem);
        folder.write("own.pem", &own.cert);
        folder.write("own.key", &own.key);
        folder.write("other.key", &other.key);
        let config = Config::servers(["https://localhost:8443"]).upstream(&format!("tls: {tls}"));
        let path = folder.write("probegate.yaml", config.to_string());
        let ended = run(probegate(["check"]).arg(path));
        assert_eq!(ended.code, Some(64), "{tls}: {ended:?}");
        assert!(ended.err.contains(message) || ended.out.contains(message), "{tls}: {ended:?}");
    }
}

#[test]
fn a_system_without_authorities_and_an_app_without_verification_are_told() {
    let folder = Folder::new();
    let path = folder.write("probegate.yaml", Config::servers(["https://localhost:8443"]).to_string());
    let mut check = probegate(["check"]);
    let ended =
        run(check.arg(&path).env("SSL_CERT_FILE", folder.write("none.pem", "")).env("SSL_CERT_DIR", "/nowhere"));
    assert_eq!(ended.code, Some(64), "{ended:?}");
    let said = format!("{}{}", ended.out, ended.err);
    assert!(said.contains("the system knows no authority") && said.contains("ca: internal-ca.pem"), "{said}");

    let ours = Authority::new("ours");
    let app = app(&ours.issue(&["localhost"]), None);
    let gateway = Gateway::start(before(&app, "localhost").upstream("tls: {verify: false}"));
    gateway.wait_for_log(|line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("is not verified"))
    });
    gateway.wait_for_log(|line| line["spoken"] == "HTTP/1.1 over TLS without verification");
}

#[test]
fn websockets_pass_to_an_app_over_tls() {
    let ours = Authority::new("ours");
    let issued = ours.issue(&["localhost"]);
    let app = Upstream::scripted_over_tls(app_config(&issued, None, &[]), |connection| {
        let Some(_) = connection.request() else { return };
        connection.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi");
        while let Some(bytes) = connection.some() {
            connection.write(bytes);
        }
    });
    let gateway =
        Gateway::with(before(&app, "localhost").upstream("tls: {ca: ca.pem}")).file("ca.pem", &ours.pem).start();
    let mut client = Client::connect(gateway.address());
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status, 101);
    assert_eq!(client.exactly(2), b"hi");
    client.send("there");
    assert_eq!(client.exactly(5), b"there");
    client.half_close();
    client.expect_closed();
}

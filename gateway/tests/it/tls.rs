//! TLS on listeners: what is spoken, which certificate is shown, and what becomes of those who ask for something else.

use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion};

use crate::harness::{
    Authority, Client, Config, End, Folder, Gateway, Issued, Upstream, Wish, curl, eventually, exchange, free_address,
    ok, run, wait_for_metric,
};

/// A gateway with TLS on its one listener.
pub(crate) fn start(config: &Config, tls: &str, files: &[(&str, &str)]) -> Gateway {
    let text = config.to_string().replacen(
        "  - address: \"127.0.0.1:0\"\n",
        &format!("  - address: \"127.0.0.1:0\"\n    tls: {tls}\n"),
        1,
    );
    let mut builder = Gateway::with(text);
    for (name, content) in files {
        builder = builder.file(name, content);
    }
    builder.start()
}

const ONE: &str = "{certificates: [{cert: cert.pem, key: key.pem}]}";

fn shown(client: &Client) -> CertificateDer<'static> {
    client.session().peer_certificates().unwrap()[0].clone().into_owned()
}

fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()
}

/// The alert that a handshake failed with.
fn alert(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// A gateway for `app.example` in front of `app`, and a client's settings that believe its certificate.
fn simple(config: &Config) -> (Gateway, Arc<ClientConfig>) {
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let gateway = start(config, ONE, &[("cert.pem", &issued.cert), ("key.pem", &issued.key)]);
    (gateway, Arc::new(authority.client(None)))
}

#[test]
fn requests_are_served_over_tls_and_the_app_is_told() {
    let app = Upstream::answering(|_| ok("hello"));
    let (gateway, config) = simple(&Config::before(&app));
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    assert_eq!(client.session().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    // Post-quantum first; Debian's OpenSSL does not know it yet.
    assert_eq!(client.session().negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    for n in 0..3 {
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: app.example\r\n\r\n"));
        assert_eq!(client.response().text(), "hello");
    }
    // Pipelined: two requests in one record.
    client.send("GET /3 HTTP/1.1\r\nHost: app.example\r\n\r\nGET /4 HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!((client.response().status, client.response().status), (200, 200));
    assert_eq!(app.targets(), ["/0", "/1", "/2", "/3", "/4"]);
    assert_eq!(app.requests()[0].field("x-forwarded-proto").as_deref(), Some("https"));
    client.send("GET /last HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status, 200);
    // The end is announced.
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
}

#[test]
fn rfc_6797_7_2_the_promise_of_https_is_given_over_tls_and_nowhere_else() {
    let app = Upstream::answering(|_| {
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 1\r\n\r\nx".to_owned()
    });
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let plain = free_address();
    let config = Config::before(&app).service(
        "hosts: [app.example]\nhsts: {max_age: 8760h, include_subdomains: true}\n\
         routes: [{path: /office, allow: {network: nobody}}]",
    );
    let config = config.top("networks: {nobody: [192.0.2.1]}").to_string().replacen(
        "  - address: \"127.0.0.1:0\"\n",
        &format!("  - address: \"127.0.0.1:0\"\n    tls: {ONE}\n  - address: \"{plain}\"\n    redirect_https: true\n"),
        1,
    );
    let gateway = Gateway::with(config).file("cert.pem", &issued.cert).file("key.pem", &issued.key).start();
    let folder = Folder::new();
    let ca = folder.write("ca.pem", &authority.pem);
    let to = gateway.address();
    let promised = Some("max-age=31536000; includeSubDomains".to_owned());
    // The app's answer, whose own promise is replaced, and one of the gateway's, in both protocols.
    for protocol in ["--http1.1", "--http2"] {
        for (path, status) in [("/x", 200), ("/office", 403)] {
            let resolve = format!("app.example:{}:{}", to.port(), to.ip());
            let url = format!("https://app.example:{}{path}", to.port());
            let response = curl([protocol, "--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url]);
            assert_eq!(response.status, status, "{protocol} {path}");
            assert_eq!(response.field("strict-transport-security"), promised, "{protocol} {path}");
        }
    }
    // A host that nobody has is promised nothing.
    let mut client = Client::secure(to, &Arc::new(authority.client(None)), "app.example");
    client.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.field("strict-transport-security")), (421, None));
    let response = exchange(plain, "GET /x HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(response.status, 308);
    assert_eq!(response.field("strict-transport-security"), None);
}

#[test]
fn large_bodies_pass_in_both_directions() {
    let app = Upstream::answering(|request| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).into_bytes();
        answer.extend_from_slice(&request.body);
        answer
    });
    let (gateway, config) = simple(&Config::before(&app).service("max_body: 16MiB"));
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    let body: Vec<u8> = (0..10_u32 << 20).map(|n| (n % 253) as u8).collect();
    client.send(format!("POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert!(client.response().body == body);
}

#[test]
fn each_name_is_shown_its_certificate() {
    let authority = Authority::new("Test");
    let shop = authority.issue(&["shop.example", "www.shop.example"]);
    let rsa = authority.sign(&Wish::hosts(&["shop.example"]).rsa());
    let wild = authority.issue(&["*.wild.example"]);
    let app = Upstream::answering(|_| ok("x"));
    let tls = "{certificates: [{cert: a.pem, key: a.key}, {cert: b.pem, key: b.key}, {cert: c.pem, key: c.key}]}";
    let files = [("a.pem", &shop.cert), ("a.key", &shop.key), ("b.pem", &rsa.cert), ("b.key", &rsa.key)];
    let files: Vec<_> = files.into_iter().chain([("c.pem", &wild.cert), ("c.key", &wild.key)]).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let gateway = start(&Config::before(&app), tls, &files);
    let config = Arc::new(authority.client(None));
    let ask = |name: &str| Client::connect(gateway.address()).secured(&config, name);
    assert_eq!(shown(&ask("shop.example").unwrap()), der(&shop));
    assert_eq!(shown(&ask("www.shop.example").unwrap()), der(&shop));
    assert_eq!(shown(&ask("a.wild.example").unwrap()), der(&wild));
    // A client that verifies RSA only.
    let said = s_client(&gateway, &["-servername", "shop.example", "-sigalgs", "rsa_pss_rsae_sha256"]);
    assert!(said.contains("Peer signature type: rsa_pss") || said.contains("Peer signature type: RSA-PSS"), "{said}");
    // The root's dot is no part of the name.
    let said = s_client(&gateway, &["-servername", "SHOP.example."]);
    assert!(said.contains("TLSv1.3") && !said.contains("Cipher is (NONE)"), "{said}");
    for unknown in ["other.example", "a.b.wild.example", "wild.example"] {
        let error = ask(unknown).unwrap_err();
        assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName), "{unknown}: {error}");
    }
    let line = gateway.wait_for_log(|line| line["reason"] == "server_name_unknown");
    assert_eq!(line["status"], 421);
}

#[test]
fn a_named_default_serves_whoever_asks_for_something_else() {
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let app = Upstream::answering(|_| ok("x"));
    let tls = "{certificates: [{cert: cert.pem, key: key.pem}], default: app.example}";
    let gateway = start(&Config::before(&app), tls, &[("cert.pem", &issued.cert), ("key.pem", &issued.key)]);
    for arguments in [&["-servername", "other.example"][..], &["-noservername"]] {
        let said = s_client(&gateway, arguments);
        assert!(
            said.contains("CN=app.example") || said.contains("Protocol: TLSv1.3") || said.contains("TLSv1.3"),
            "{said}"
        );
    }
    let (gateway, _) = simple(&Config::before(&app));
    let said = s_client(&gateway, &["-noservername"]);
    assert!(said.contains("unrecognized name"), "{said}");
}

/// What `openssl s_client` says about a handshake.
fn s_client(gateway: &Gateway, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &gateway.address().to_string()]).args(arguments);
    let ended = run(&mut command);
    ended.out + &ended.err
}

#[test]
fn old_versions_and_weak_suites_are_refused() {
    let app = Upstream::answering(|_| ok("x"));
    let (gateway, _) = simple(&Config::before(&app));
    let name = ["-servername", "app.example"];
    for (fine, wanted) in [
        (&["-tls1_3"][..], "TLSv1.3"),
        (&["-tls1_2"], "ECDHE-ECDSA-AES"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ] {
        let said = s_client(&gateway, &[&name[..], fine].concat());
        assert!(said.contains(wanted) && !said.contains("Cipher is (NONE)"), "{fine:?}: {said}");
    }
    for weak in [
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"],
    ] {
        let said = s_client(&gateway, &[&name[..], weak].concat());
        assert!(said.contains("Cipher is (NONE)"), "{weak:?}: {said}");
    }
    gateway.wait_for_log(|line| line["reason"] == "handshake_failed");
}

#[test]
fn curl_is_served() {
    let app = Upstream::answering(|_| ok("over TLS"));
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let gateway = start(&Config::before(&app), ONE, &[("cert.pem", &issued.cert), ("key.pem", &issued.key)]);
    let folder = Folder::new();
    let ca = folder.write("ca.pem", &authority.pem);
    let to = gateway.address();
    let resolve = format!("app.example:{}:{}", to.port(), to.ip());
    let url = format!("https://app.example:{}/x", to.port());
    let response = curl(["--http1.1", "--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url]);
    assert_eq!((response.status, &*response.text()), (200, "over TLS"));
}

#[test]
fn sessions_are_resumed_by_ticket_and_by_identifier() {
    let app = Upstream::answering(|_| ok("x"));
    let (gateway, config) = simple(&Config::before(&app));
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let mut client = Client::secure(gateway.address(), &config, "app.example");
        client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
        assert_eq!(client.response().status, 200);
        assert_eq!(client.session().handshake_kind(), Some(expected));
    }
    let folder = Folder::new();
    let kept = folder.path().join("session");
    let kept = kept.to_str().unwrap();
    for with in [&["-tls1_2"][..], &["-tls1_2", "-no_ticket"]] {
        let name = ["-servername", "app.example"];
        let first = s_client(&gateway, &[&name[..], with, &["-sess_out", kept]].concat());
        assert!(first.contains("New, TLSv1.2"), "{first}");
        let second = s_client(&gateway, &[&name[..], with, &["-sess_in", kept]].concat());
        assert!(second.contains("Reused, TLSv1.2"), "{with:?}: {second}");
    }
}

#[test]
fn a_handshake_has_to_come_to_its_end_in_time() {
    let app = Upstream::answering(|_| ok("x"));
    let (gateway, config) = simple(&Config::before(&app).top("timeouts: {handshake: 3s}"));
    // Nobody says anything.
    let mut silent = Client::connect(gateway.address());
    // Half a first message.
    let mut half = Client::connect(gateway.address());
    half.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    for client in [&mut silent, &mut half] {
        let begun = Instant::now();
        client.expect_closed();
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    eventually("both are logged", || {
        (gateway.access_log().iter().filter(|line| line["reason"] == "handshake_timeout").count() == 2).then_some(())
    });
    // Somebody who only looks whether the port is open is nobody's business.
    drop(Client::connect(gateway.address()));
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert_eq!(gateway.access_log().iter().filter(|line| line["reason"].is_string()).count(), 2);
}

#[test]
fn what_is_no_tls_is_refused() {
    let app = Upstream::answering(|_| ok("x"));
    let (gateway, _) = simple(&Config::before(&app));
    let mut plain = Client::connect(gateway.address());
    plain.send("GET /secret HTTP/1.1\r\nHost: app.example\r\n\r\n");
    let response = plain.response();
    assert_eq!(response.status, 400);
    assert!(response.text().contains("https://") && response.closes());
    let line = gateway.access("/secret");
    assert_eq!((&line["reason"], &line["status"]), (&"handshake_failed".into(), &400.into()));
    let mut garbage = Client::connect(gateway.address());
    garbage.send([0xff; 64]);
    // A fatal alert, and nothing else.
    assert_eq!(garbage.rest().0.first(), Some(&21));
    assert!(app.requests().is_empty());
}

#[test]
fn a_client_that_ends_without_a_word_is_nothing_between_requests_and_gone_within_one() {
    let app = Upstream::answering(|_| ok("x"));
    let (gateway, config) = simple(&Config::before(&app));
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(client.response().status, 200);
    client.half_close();
    let (_, end) = client.rest();
    assert_eq!(end, End::Closed);
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    client.send("POST /part HTTP/1.1\r\nHost: app.example\r\nContent-Length: 10\r\n\r\n12345");
    client.half_close();
    assert_eq!(gateway.access("/part")["reason"], "client_closed");
    assert_eq!(gateway.access_log().iter().filter(|line| line["reason"].is_string()).count(), 1);
}

#[test]
fn a_body_that_breaks_off_in_the_app_is_seen_to() {
    let app = Upstream::scripted(|connection| {
        connection.request();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    });
    let (gateway, config) = simple(&Config::before(&app));
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
    let (response, end) = client.response_and_end();
    assert_eq!((response.status, &*response.text()), (200, "only this"));
    assert_ne!(end, End::Whole);
}

#[test]
fn handshakes_in_flight_are_bounded_and_those_beyond_are_closed_logged_and_counted() {
    let app = Upstream::answering(|_| ok("hello"));
    let (gateway, config) = simple(&Config::before(&app).workers(2).top("bounds: {handshakes: 2}"));
    // Clients that say hello, and nothing more until they are told to.
    let mut held: Vec<_> = (0..2)
        .map(|_| {
            let name = ServerName::try_from("app.example").unwrap();
            let mut session = ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut stream = TcpStream::connect(gateway.address()).unwrap();
            session.write_tls(&mut stream).unwrap();
            // The answer shows that the gateway has begun.
            assert!(stream.peek(&mut [0]).unwrap() > 0);
            (session, stream)
        })
        .collect();
    for _ in 0..3 {
        Client::connect(gateway.address()).secured(&config, "app.example").unwrap_err();
    }
    wait_for_metric(&gateway, "probegate_refusals_total{service=\"\",reason=\"handshakes_exceeded\"}", 3.0);
    let line = gateway.wait_for_log(|line| line["reason"] == "handshakes_exceeded");
    assert_eq!(
        (&line["peer"], &line["decision"], &line["status"]),
        (&"127.0.0.1".into(), &"refuse".into(), &503.into()),
        "{line}"
    );
    let logged = || gateway.access_log().iter().filter(|line| line["reason"] == "handshakes_exceeded").count();
    eventually("a line for each", || (logged() == 3).then_some(()));
    // What was in flight goes on, and makes room where it ends: one way or the other.
    let (mut session, mut stream) = held.remove(0);
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    for _ in 0..5 {
        let mut client =
            eventually("there is room", || Client::connect(gateway.address()).secured(&config, "app.example").ok());
        client.send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
    drop(held);
    assert_eq!(app.requests().len(), 5);
}

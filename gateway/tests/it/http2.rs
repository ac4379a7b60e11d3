//! HTTP/2 from clients (RFC 9113), with the real clients: curl, nghttp and h2load.

mod attacks;
mod bans;
mod handover;
mod life;
mod many;
mod raw;
mod requests;
mod websocket;

use std::process::Command;

use crate::harness::{Authority, Config, Gateway, Upstream, get, ok, run};

/// A gateway that speaks HTTP/2 with prior knowledge.
pub(crate) fn config(app: &Upstream) -> String {
    with_http2(&Config::before(app))
}

/// The same for any configuration.
pub(crate) fn with_http2(config: &impl ToString) -> String {
    let text = config.to_string();
    let changed = text.replacen("  - address: \"127.0.0.1:0\"\n", "  - {address: \"127.0.0.1:0\", http2: true}\n", 1);
    assert_ne!(text, changed, "there is no such listener");
    changed
}

#[test]
fn curl_and_a_client_of_http_1_are_served_on_the_same_listener() {
    let app = Upstream::answering(|request| ok(&request.line()));
    let gateway = Gateway::start(config(&app));
    let url = format!("http://{}/a?b=c", gateway.address());
    let ended = run(Command::new("curl").args(["-sSi", "--http2-prior-knowledge", "--noproxy", "*", &url]));
    assert!(ended.out.starts_with("HTTP/2 200 \r\n") && ended.out.ends_with("GET /a?b=c HTTP/1.1"), "{ended:?}");
    let line = gateway.access("/a?b=c");
    assert_eq!((&line["protocol"], &line["status"]), (&"HTTP/2.0".into(), &200.into()), "{line}");
    assert_eq!(get(gateway.address(), "/one").text(), "GET /one HTTP/1.1");
    assert_eq!(gateway.access("/one")["protocol"], "HTTP/1.1");
    let request = app.requests().remove(0);
    assert_eq!(request.field("host"), Some(gateway.address().to_string()));
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

#[test]
fn h2load_gets_every_answer() {
    let app = Upstream::answering(|_| ok(&"x".repeat(1000)));
    let gateway = Gateway::start(config(&app));
    let url = format!("http://{}/", gateway.address());
    let ended = run(Command::new("h2load").args(["-n", "4000", "-c", "4", "-m", "50", &url]));
    assert!(ended.out.contains("4000 succeeded, 0 failed, 0 errored"), "{ended:?}");
}

#[test]
fn nghttp_is_served() {
    let app = Upstream::answering(|_| ok("hello"));
    let gateway = Gateway::start(config(&app));
    let url = format!("http://{}/", gateway.address());
    let ended = run(Command::new("nghttp").args(["-v", "-m", "20", &url]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out.matches(":status: 200").count(), 20, "{ended:?}");
}

#[test]
fn alpn_chooses_http_2_where_the_client_knows_it() {
    let app = Upstream::answering(|request| ok(&request.field("x-forwarded-proto").unwrap_or_default()));
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let files = [("cert.pem", &*issued.cert), ("key.pem", &*issued.key)];
    let tls = "{certificates: [{cert: cert.pem, key: key.pem}]}";
    let gateway = crate::tls::start(&Config::before(&app), tls, &files);
    let (to, url) = (format!("app.example:443:{}", gateway.address()), "https://app.example/");
    for (option, line) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200 OK")] {
        let ended = run(Command::new("curl").args(["-sSik", option, "--noproxy", "*", "--connect-to", &to, url]));
        assert!(ended.out.starts_with(line) && ended.out.ends_with("https"), "{ended:?}");
    }
    let to = format!("--connect-to={}", gateway.address());
    let ended = run(Command::new("h2load").args(["-n", "500", "-c", "2", "-m", "32", &to, url]));
    assert!(ended.out.contains("500 succeeded") && ended.out.contains("h2"), "{ended:?}");
}

//! Requests over a connection whose certificate is for another service (RFC 9110 §15.5.20, RFC 9113 §9.1.2).

use std::process::Command;
use std::sync::Arc;

use crate::harness::{Authority, Client, Folder, Gateway, Upstream, ok, probegate, run};

const CERTIFICATES: [(&str, &str); 4] =
    [("shop", "shop.example"), ("www", "www.shop.example"), ("back", "back.example"), ("wild", "*.wild.example")];

/// A shop with two certificates, a back office, a service with a wildcard, and one for everybody else.
fn start(authority: &Authority, app: &Upstream, default: &str) -> Gateway {
    let pairs = CERTIFICATES.map(|(file, _)| format!("{{cert: {file}.pem, key: {file}.key}}")).join(", ");
    let upstream = format!("upstream: {{servers: [\"{}\"]}}", app.server());
    let mut gateway = Gateway::with(format!(
        "listeners:\n  - {{address: \"127.0.0.1:0\", tls: {{certificates: [{pairs}]{default}}}}}\n\
         admin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nservices:\n  \
         shop: {{hosts: [shop.example, www.shop.example], {upstream}}}\n  \
         back: {{hosts: [back.example], {upstream}}}\n  \
         wild: {{hosts: [\"*.wild.example\"], {upstream}}}\n  \
         rest: {{hosts: [\"*\"], {upstream}}}\n",
    ));
    for (file, name) in CERTIFICATES {
        let issued = authority.issue(&[name]);
        gateway = gateway.file(&format!("{file}.pem"), &issued.cert).file(&format!("{file}.key"), &issued.key);
    }
    gateway.start()
}

/// What curl is answered that asks for `name` in the handshake and for `host` in the request.
fn ask(gateway: &Gateway, version: &str, name: &str, host: &str) -> u16 {
    let to = gateway.address();
    let mut command = Command::new("curl");
    command.args([
        "-sk",
        "--max-time",
        "40",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{http_version}",
    ]);
    command.args([version, "--connect-to", &format!("::{to}"), "-H", &format!("Host: {host}")]);
    let ended = run(command.arg(format!("https://{name}:{}/", to.port())));
    let (status, spoken) = ended.out.split_once(' ').unwrap_or_else(|| panic!("{ended:?}"));
    assert_eq!(format!("--http{spoken}"), version, "{ended:?}");
    status.parse().unwrap()
}

#[test]
fn rfc9110_15_5_20_a_host_with_another_certificate_is_asked_elsewhere() {
    let app = Upstream::answering(|_| ok("in"));
    let gateway = start(&Authority::new("Test"), &app, ", default: shop.example");
    for version in ["--http1.1", "--http2"] {
        for (name, host, expected) in [
            ("shop.example", "shop.example", 200),
            ("shop.example", "Shop.Example.", 200),
            ("shop.example", "back.example", 421),
            ("shop.example", "BACK.example.", 421),
            ("back.example", "shop.example", 421),
            ("back.example", "back.example", 200),
            // The wildcard is for both.
            ("a.wild.example", "b.wild.example", 200),
            ("a.wild.example", "shop.example", 421),
            // Another certificate, and the same service.
            ("shop.example", "www.shop.example", 200),
            // No certificate here is for it: no connection would be better.
            ("shop.example", "nowhere.example", 200),
            ("shop.example", "192.0.2.1", 200),
            // Whoever is shown the default.
            ("other.example", "other.example", 200),
            ("other.example", "shop.example", 200),
            ("other.example", "www.shop.example", 200),
            ("other.example", "back.example", 421),
            // An address is no server name: the client asks for none.
            ("127.0.0.1", "127.0.0.1", 200),
            ("127.0.0.1", "127.0.0.1:8443", 200),
            ("127.0.0.1", "shop.example", 200),
            ("127.0.0.1", "back.example", 421),
        ] {
            assert_eq!(ask(&gateway, version, name, host), expected, "{version} {name} {host}");
        }
    }
    let line = gateway.wait_for_log(|line| line["reason"] == "host_misdirected");
    assert_eq!((&line["status"], &line["server_name"]), (&421.into(), &"shop.example".into()), "{line}");
}

#[test]
fn a_misdirected_request_leaves_its_connection_to_others() {
    let app = Upstream::answering(|_| ok("in"));
    let authority = Authority::new("Test");
    let gateway = start(&authority, &app, "");
    let mut client = Client::secure(gateway.address(), &Arc::new(authority.client(None)), "shop.example");
    for (host, expected) in [("shop.example", 200), ("back.example", 421), ("shop.example", 200)] {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status, expected, "{host}");
    }
    // The same over one connection of HTTP/2.
    let to = gateway.address();
    let to = format!("::{to}");
    let url = "https://shop.example/";
    let one = ["-sk", "--http2", "--noproxy", "*", "--connect-to", &to, "-o", "/dev/null", "-w"];
    let one = [&one[..], &["%{http_version} %{http_code} %{num_connects}\n"]].concat();
    let mut command = Command::new("curl");
    command.args(&one).arg(url).arg("--next").args(&one).args(["-H", "Host: back.example", url]);
    let ended = run(command.arg("--next").args(&one).arg(url));
    assert_eq!(ended.out, "2 200 1\n2 421 0\n2 200 0\n", "{ended:?}");
}

#[test]
fn explain_says_which_connection_is_the_wrong_one() {
    let authority = Authority::new("Test");
    let issued = authority.issue(&["shop.example"]);
    let folder = Folder::new();
    folder.write("cert.pem", &issued.cert);
    folder.write("key.pem", &issued.key);
    let file = folder.write(
        "probegate.yaml",
        "listeners:\n  - address: \"127.0.0.1:8443\"\n    tls:\n      certificates:\n        \
         - {cert: cert.pem, key: key.pem}\n        - {acme: {domains: [back.example]}}\n\
         services:\n  shop: {hosts: [shop.example], upstream: {servers: [\"127.0.0.1:1\"]}}\n  \
         back: {hosts: [back.example], upstream: {servers: [\"127.0.0.1:1\"]}}\n",
    );
    let file = file.to_str().unwrap();
    for (name, url, expected) in [
        ("shop.example", "https://shop.example/", "passes"),
        ("Shop.example.", "https://back.example/", "host_misdirected"),
        ("back.example", "https://shop.example/", "host_misdirected"),
        ("back.example", "https://back.example/", "passes"),
    ] {
        let said = run(&mut probegate(["explain", "-c", file, "--server-name", name, "GET", url])).out;
        assert!(said.contains(expected), "{name} {url}: {said}");
    }
}

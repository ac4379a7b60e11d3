//! Servers that want to know who asks, and servers that are several.

use super::{config, gateway_with};
use crate::harness::{Authority, Folder, Gateway, Redis, Reply, Resp, Upstream, Wish, free_address, get, metric, ok};

const LIMIT: &str = "limits: {all: {rate: 2/h, shared: true}}";

fn app() -> Upstream {
    Upstream::answering(|_| ok("answered"))
}

fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    (0..count).map(|_| get(gateway.address(), "/").status).collect()
}

/// The line of the documentation, word for word.
fn acl(password: &str) -> Vec<String> {
    let page = include_str!("../../../docs/shared-limits.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER ")).unwrap();
    line.replace("PASSWORD", password).split(' ').map(str::to_owned).collect()
}

#[test]
fn a_user_with_the_documented_rights_and_no_other_will_do() {
    let redis = Redis::with(&["--requirepass", "root"]);
    let mut root = Resp::connect(redis.address());
    assert_eq!(root.run(&["AUTH", "root"]), Reply::Text("OK".to_owned()));
    let words = acl("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(root.run(&words), Reply::Text("OK".to_owned()));
    let app = app();
    let store = "user: probegate\npassword: {env: REDIS_PASSWORD}\ntimeout: 900ms";
    let start = |password: &str| {
        gateway_with(&app, &redis.url(), LIMIT, "limits: [all]", store).env("REDIS_PASSWORD", password).start()
    };
    let gateway = start("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 2.5);
    root.run(&["SCRIPT", "FLUSH"]);
    root.run(&["FLUSHALL"]);
    let again = start("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    assert_eq!(statuses(&again, 3), [200, 200, 429]);
    assert!(metric(&again, "probegate_limit_store_decisions_total{by=\"local\"}") < 0.5);

    let wrong = start("0000000000000000000000000000000000000000");
    assert_eq!(statuses(&wrong, 2), [200, 429], "its share is one");
    let line = wrong.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
    let lines = wrong.log_lines().join("\n");
    assert!(line["error"].as_str().unwrap().contains("Password authentication failed"), "{line}");
    assert!(!lines.contains("00000000000000000000"), "the password is nowhere: {lines}");

    // One right less, and the log says which.
    root.run(&["ACL", "SETUSER", "probegate", "-set"]);
    root.run(&["FLUSHALL"]);
    let denied = start("3f9a0c5d77e24c1b8a6e5d4f3c2b1a09");
    for _ in 0..8 {
        assert!(matches!(get(denied.address(), "/").status, 200 | 429));
    }
    assert!(metric(&denied, "probegate_limit_store_failures_total{reason=\"refused\"}") > 0.5);
}

#[test]
fn a_server_that_speaks_tls_is_verified_and_may_ask_for_a_certificate() {
    let authority = Authority::new("an authority");
    let address = free_address();
    let folder = Folder::new();
    let server = authority.issue(&[&address.ip().to_string()]);
    let own = authority.sign(&Wish::client("gateway"));
    let file = |name: &str, content: &str| folder.write(name, content).display().to_string();
    let (ca, cert, key) =
        (file("ca.pem", &authority.pem), file("cert.pem", &server.cert), file("key.pem", &server.key));
    let (own_cert, own_key) = (file("own.pem", &own.cert), file("own.key", &own.key));
    let other = file("other.pem", &Authority::new("another").pem);
    let port = address.port().to_string();
    let arguments = [
        "--port",
        "0",
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ];
    let _redis = Redis::on(address, Folder::new(), &arguments);
    let app = app();
    let url = format!("rediss://{address}");
    let tls = |ca: &str| format!("timeout: 900ms\ntls: {{ca: {ca}, cert: {own_cert}, key: {own_key}}}");
    let gateway = gateway_with(&app, &url, LIMIT, "limits: [all]", &tls(&ca)).start();
    assert_eq!(statuses(&gateway, 3), [200, 200, 429]);
    assert!(metric(&gateway, "probegate_limit_store_decisions_total{by=\"store\"}") > 2.5);

    let nobody = gateway_with(&app, &url, LIMIT, "limits: [all]", &tls(&other)).start();
    assert_eq!(statuses(&nobody, 2), [200, 429], "its share is one");
    let line = nobody.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
    assert!(line["error"].as_str().unwrap().contains("certificate"), "{line}");
    let named =
        config(&app, &url, LIMIT, "limits: [all]", &tls(&ca).replace("{ca", "{server_name: redis.internal, ca"));
    let misnamed = Gateway::start(named);
    misnamed.wait_for_log(|line| line["level"] == "WARN" && line["reason"] == "unreachable");
}

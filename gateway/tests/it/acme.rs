//! Certificates by ACME, from the real Pebble.

use serde_json::Value;

use crate::harness::pebble::{Pebble, Ports};
use crate::harness::{Gateway, Upstream, ok};

fn config(ports: Ports, pebble: &Pebble, acme: &str, server: &str) -> String {
    let (directory, ca) = (pebble.directory(), pebble.ca());
    format!(
        "listeners:\n  - address: \"{}\"\n  - address: \"{}\"\n    tls:\n      certificates:\n        - acme: {{directory: \"{directory}\", \
         ca: {}, {acme}}}\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: 1\nstorage: storage\nservices:\n  app:\n    upstream:\n      \
         servers: [\"{server}\"]\n",
        ports.http,
        ports.tls,
        ca.display(),
    )
}

#[test]
fn a_certificate_is_ordered_by_http_01() {
    let app = Upstream::answering(|_| ok("app"));
    let ports = Ports::new();
    let pebble = Pebble::start(ports);
    let acme = "domains: [shop.example.com], challenges: [http-01]";
    let gateway = Gateway::start(config(ports, &pebble, acme, &app.server()));
    gateway.wait_for_log(|line: &Value| line["message"] == "certificate in force");
    assert_eq!(pebble.orders(), 1);
}

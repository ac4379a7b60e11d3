//! The recorded vectors in `tests/vectors/`, shared with the other implementations of these rules.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failed test, in the helpers too")]

use probegate_policies::client::{ForwardingField, Hops, Identity, Missing, TrustedProxies};
use probegate_policies::ip::parse_net;
use serde_json::Value;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

#[test]
fn client_ip() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/client_ip.json")).unwrap();
    let mut failures = Vec::new();
    for case in list(&vectors["cases"]) {
        let trusted = list(&case["trusted"]).map(|net| parse_net(text(net)).unwrap()).collect();
        let field = match text(&case["header"]) {
            "X-Forwarded-For" => ForwardingField::XForwardedFor,
            "Forwarded" => ForwardingField::Forwarded,
            other => ForwardingField::Single(other.parse().unwrap()),
        };
        let fields: Vec<(String, String)> =
            list(&case["headers"]).map(|line| (text(&line[0]).to_owned(), text(&line[1]).to_owned())).collect();
        let proxies = TrustedProxies::new(trusted, field, Missing::Unknown);
        let peer = text(&case["peer"]).parse().unwrap();
        let identity = proxies.resolve(peer, &fields, &mut Hops::new(), &mut ());
        let (kind, found) = match identity {
            Identity::Known(known) => ("known", known.ip.to_string()),
            Identity::Unknown(unknown) => ("unknown", unknown.reason.label().to_owned()),
        };
        let forged = list(&case["never"]).any(|never| text(never) == found);
        if forged || case["expect"][kind].as_str() != Some(&found) {
            failures.push(format!("{}: {kind} {found}, not {}", text(&case["id"]), case["expect"]));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(list(&vectors["cases"]).count(), 49);
}

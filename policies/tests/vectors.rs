//! The recorded vectors in `tests/vectors/`, shared with the other implementations of these rules.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failed test, in the helpers too")]

use std::collections::BTreeMap;

use probegate_policies::Now;
use probegate_policies::client::{ForwardingField, Hops, Identity, Missing, TrustedProxies};
use probegate_policies::ip::parse_net;
use probegate_policies::limit::{Key, KeyPart, Quota, Seed, Table};
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

/// One `limit_req` of nginx, applied by us.
struct Limit {
    table: Table,
    quota: Quota,
}

impl Limit {
    /// `10r/s burst=5 nodelay`; `None` for what delays, which we do not do.
    fn parse(directive: &str) -> Option<Self> {
        let mut words = directive.split(' ');
        let rate = words.next()?.replace("r/", "/").parse().ok()?;
        let mut burst = 0;
        let mut delays = false;
        for word in words {
            match word.split_once('=') {
                Some(("burst", count)) => (burst, delays) = (count.parse().ok()?, true),
                None if word == "nodelay" => delays = false,
                _ => return None,
            }
        }
        (!delays).then(|| Self { table: Table::new(100, Seed([1, 2, 3, 4])), quota: Quota::new(rate, burst) })
    }

    fn key(&self) -> Key {
        self.table.key(&[KeyPart::Bytes(b"client")])
    }

    fn admit(&self, now: Now) -> bool {
        self.table.admit(self.key(), &self.quota, now).admitted
    }

    fn refund(&self) {
        self.table.refund(self.key(), &self.quota);
    }
}

/// All limits or none, as the gateway does it.
fn admit_all(limits: &[Limit], now: Now) -> bool {
    let passed = limits.iter().take_while(|limit| limit.admit(now)).count();
    if passed < limits.len() {
        limits.iter().take(passed).for_each(Limit::refund);
    }
    passed == limits.len()
}

#[test]
fn limit_req() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/limit_req.json")).unwrap();
    let mut replayed = Vec::new();
    for (name, scenario) in vectors["scenarios"].as_object().unwrap() {
        let directives: Option<Vec<Limit>> = text(&scenario["limit"]).split(" AND ").map(Limit::parse).collect();
        let Some(limits) = directives else { continue };
        // Requests of one moment were served in any order and within a few milliseconds: only counts can be compared.
        let mut admitted: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for request in list(&scenario["sent"]) {
            let millis = milliseconds(&request["t"], 1000.0);
            let now = Now { nanos: (1000 + millis) * 1_000_000, unix: 0 };
            admitted.entry(millis).or_default().0 += u64::from(admit_all(&limits, now));
        }
        for answer in list(&scenario["answers"]) {
            let at = milliseconds(&answer["at_ms"], 1.0);
            let (_, counts) = admitted.range_mut(..=at).next_back().unwrap();
            counts.1 += u64::from(answer["status"] == 200);
        }
        for (at, (ours, nginx)) in admitted {
            assert_eq!(ours, nginx, "{name} at {at} ms");
        }
        replayed.push(name.as_str());
    }
    assert_eq!(replayed, ["S01-norm-burst5", "S07-nodelay", "S12-two-limits", "S14-3rps", "S18-100rps"]);
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "moments of a few positive seconds")]
fn milliseconds(value: &Value, factor: f64) -> u64 {
    (value.as_f64().unwrap() * factor).round() as u64
}

//! Certificates: for which names, by whom, until when, and where from.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::route::{Access, Answer, Call, Resource, Route};
use crate::plan::Certificate;
use crate::state::unix_time;
use crate::tls::pem::Certified;
use crate::tls::store::Id;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/certificates.json"),
    routes: &[Route {
        method: "GET",
        path: "/certificates",
        access: Access::Read,
        summary: "The certificates of the gateway",
        parameters: &[],
        schema: "Certificates",
        answer: Answer::Json(|call| Ok(answer(call))),
    }],
};

/// All certificates that the configuration names, and what became of orders for some.
pub(super) fn answer(call: &Call<'_>) -> Value {
    let acme = &call.state.acme;
    let [issued, failed, last] =
        [&acme.issued, &acme.failed, &acme.last_failure].map(|counter| counter.load(Ordering::Relaxed));
    json!({
        "certificates": list(call),
        "acme": {"issued": issued, "failed": failed, "last_failure": (last > 0).then_some(last)},
        "reload_failures": call.state.tls.reload_failures.load(Ordering::Relaxed),
    })
}

/// All certificates that the configuration names, once each.
fn list(call: &Call<'_>) -> Value {
    let mut seen: Vec<(Id, Value)> = Vec::new();
    for listener in &call.active.plan.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            let id = Id::of(certificate);
            if !seen.iter().any(|(known, _)| *known == id) {
                let value = describe(certificate, call.state.tls.store.find(&id).as_deref());
                seen.push((id, value));
            }
        }
    }
    seen.into_iter().map(|(_, value)| value).collect()
}

fn describe(certificate: &Certificate, found: Option<&Certified>) -> Value {
    let now = unix_time();
    let (source, of) = match certificate {
        Certificate::Files { cert, .. } => ("file", cert.display().to_string()),
        Certificate::Acme(acme) => ("acme", acme.directory.to_string()),
    };
    let wanted = match certificate {
        Certificate::Files { .. } => Vec::new(),
        Certificate::Acme(acme) => acme.domains.iter().map(|name| &**name).collect(),
    };
    let state = match found {
        None => "missing",
        Some(found) if now >= found.not_after => "expired",
        Some(found) if now < found.not_before => "not yet valid",
        Some(_) => "valid",
    };
    json!({
        "names": found.map_or(wanted, |found| found.names.iter().map(|name| &**name).collect()),
        "state": state,
        "source": source,
        "from": of,
        "issuer": found.and_then(Certified::issuer),
        "serial": found.and_then(Certified::serial),
        "algorithm": found.map(|found| if found.is_light() { "ecdsa" } else { "rsa" }),
        "not_before": found.map(|found| found.not_before),
        "not_after": found.map(|found| found.not_after),
        "left": found.map(|found| found.not_after.saturating_sub(now)),
    })
}

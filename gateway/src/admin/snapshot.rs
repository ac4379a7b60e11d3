//! Everything at a glance: what a person who looks at the gateway wants to see first.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::route::{Access, Answer, Call, Resource, Route};
use super::{aggregates, bans, certificates, configuration, denials, limits, own, services};
use crate::readiness;
use crate::state::unix_time;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/snapshot.json"),
    routes: &[Route {
        method: "GET",
        path: "/status",
        access: Access::Read,
        summary: "Everything at a glance",
        parameters: &[],
        schema: "Status",
        answer: Answer::Json(|call| Ok(answer(call))),
    }],
};

/// Everything at a glance.
pub(super) fn answer(call: &Call<'_>) -> Value {
    json!({
        "time": unix_time(),
        "gateway": gateway(call),
        "configuration": configuration::answer(call),
        "services": services::list(call),
        "aggregates": aggregates::list(call),
        "unserved": call.pulse.traffic("", call.state.metrics.unserved(), false),
        "limits": limits::list(call, limits::FEW),
        "bans": bans::list(call.state, call.active, Some(bans::FEW)),
        "certificates": certificates::answer(call),
        "denials": denials::list(call, denials::FEW),
    })
}

fn gateway(call: &Call<'_>) -> Value {
    let (state, metrics) = (call.state, &call.state.metrics);
    let known = readiness::of(state);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "state": known.reasons.first().map_or("ready", |wrong| wrong.reason),
        "reasons": own::told(&known.reasons, true),
        "warnings": own::told(&known.warnings, true),
        "uptime": state.origin().elapsed().as_secs(),
        "workers": metrics.workers(),
        "connections": metrics.connections.load(Ordering::Relaxed),
        "accepted": metrics.accepted.load(Ordering::Relaxed),
    })
}

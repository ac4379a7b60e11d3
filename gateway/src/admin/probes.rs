//! Probes: who answers them, and what apps have said lately.

use probegate_policies::reason::Reason;
use serde_json::{Value, json};

use super::route::{Access, Answer, Answered, Call, Parameter, Resource, Route, invalid};
use super::services::{names, unknown_service};
use crate::plan::{Probe, Serve};
use crate::shields::Source;
use crate::state::unix_time;
use crate::telemetry::history::{Heard, LENGTH};

/// How much of a history stands where there is much else.
pub(super) const FEW: usize = 30;

/// How long a bad answer stands when nobody asks again, in seconds.
const STANDS: u64 = 300;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/probes.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/probes",
            access: Access::Read,
            summary: "The probes of all services, with what apps have said to them lately",
            parameters: &[HISTORY],
            schema: "Probes",
            answer: Answer::Json(all),
        },
        Route {
            method: "GET",
            path: "/probes/{service}",
            access: Access::Read,
            summary: "The probes of one service",
            parameters: &[HISTORY],
            schema: "ServiceProbes",
            answer: Answer::Json(one),
        },
    ],
};

const HISTORY: Parameter = Parameter {
    name: "history",
    text: "How many of the last answers of each app are told, 120 at the most.",
    schema: r#"{"type": "integer", "minimum": 0, "maximum": 120, "default": 30}"#,
};

fn all(call: &Call<'_>) -> Answered {
    let most = most(call)?;
    let services = call.active.plan.services.iter().enumerate();
    let services = services.map(|(index, service)| json!({"service": &*service.name, "probes": of(call, index, most)}));
    Ok(json!({"services": services.collect::<Vec<_>>()}))
}

fn one(call: &Call<'_>) -> Answered {
    let (most, name) = (most(call)?, call.name(0));
    let index = call.active.plan.services.iter().position(|service| &*service.name == name);
    let index = index.ok_or_else(|| (unknown_service(call.active, name), names(call.active)))?;
    Ok(json!({"service": name, "probes": of(call, index, most)}))
}

fn most(call: &Call<'_>) -> Result<usize, super::route::Failed> {
    let Some(text) = call.query.get("history") else { return Ok(FEW) };
    let number = text.parse().ok().filter(|&number: &usize| number <= LENGTH);
    number.ok_or_else(|| invalid(format!("`history` is `{text}`, expected a number up to {LENGTH}")))
}

/// The probes of the service with this index, each with the last `most` answers of the app.
pub(super) fn of(call: &Call<'_>, service: usize, most: usize) -> Value {
    let Some(known) = call.active.plan.services.get(service) else { return Value::Null };
    known.probes.iter().enumerate().map(|(index, probe)| describe(call, (service, index), probe, most)).collect()
}

fn describe(call: &Call<'_>, (service, index): (usize, usize), probe: &Probe, most: usize) -> Value {
    let history = call.active.histories.get(service).and_then(|of| of.get(index)?.as_ref());
    let heard = history.map(|history| history.last(most.max(1))).unwrap_or_default();
    let (settled, since) = history.and_then(|history| history.settled()).unzip();
    let shield = call.active.shields.of(service, index).map(|shield| {
        let counts = shield.counts();
        let answers = Source::ALL.into_iter().map(|source| (source.label().to_owned(), counts.of(source).into()));
        json!({"asks": counts.asks(), "answers": answers.collect::<serde_json::Map<_, _>>()})
    });
    // What strangers who make up questions hear is shown, but says nothing of how the app is unless it is good.
    let last = settled.as_ref().or_else(|| heard.last());
    let state = match (&probe.serve, last) {
        (Serve::Answer(_), _) => "answered",
        (Serve::Forward(_), Some(last)) if last.is_good() => "good",
        (Serve::Forward(_), Some(last)) if settled.is_some() && is_recent(last) => "bad",
        (Serve::Forward(_), _) => "unknown",
    };
    let skip = heard.len().saturating_sub(most);
    json!({
        "probe": probe.kind.name(),
        "path": &*probe.path,
        "origin": if matches!(probe.serve, Serve::Answer(_)) { "gateway" } else { "app" },
        "state": state,
        "since": since,
        "last": last.map(told),
        "open": probe.allow.is_for_anyone(),
        "line": probe.origin.line,
        "shield": shield,
        "history": heard.iter().skip(skip).map(told).collect::<Vec<_>>(),
    })
}

/// Whether a bad answer still stands: who has not been asked since may be well by now.
fn is_recent(heard: &Heard) -> bool {
    unix_time().saturating_sub(heard.at / 1000) < STANDS
}

fn told(heard: &Heard) -> Value {
    json!({
        "time": heard.at,
        "good": heard.is_good(),
        "status": heard.status,
        "reason": heard.reason.map(Reason::label),
        "ms": super::millis(heard.took),
        "source": heard.source.label(),
        "server": heard.server.as_deref(),
    })
}

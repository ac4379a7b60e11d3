//! Limits, as the admin listener tells them: how many requests each has judged, whom it kept out, and who is over it or near it. With `show_keys`, that tells
//! addresses of people.

use std::sync::atomic::Ordering;

use probegate_policies::limit::Seed;
use probegate_policies::limit::hot::Entry;
use serde_json::{Value, json};

use super::query::Query;
use super::route::{Access, Answer, Answered, Call, Failed, Parameter, Resource, Route, invalid};
use crate::limiter::watch::{KEYS, Label};
use crate::plan::Limit;

/// Keys that are told of each limit where nothing is said.
const DEFAULT: usize = 10;

/// Keys of each where there is much else.
pub(super) const FEW: usize = 3;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/limits.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/limits",
            access: Access::Read,
            summary: "All limits: how many requests each has judged, and who is over it or near it",
            parameters: &[HOTTEST],
            schema: "Limits",
            answer: Answer::Json(|call| Ok(json!({"limits": list(call, keys(&call.query)?)}))),
        },
        Route {
            method: "GET",
            path: "/limits/{limit}",
            access: Access::Read,
            summary: "One limit",
            parameters: &[HOTTEST],
            schema: "Limit",
            answer: Answer::Json(one),
        },
    ],
};

const HOTTEST: Parameter = Parameter {
    name: "keys",
    text: "How many of its keys are told of each limit, those with the most requests.",
    schema: r#"{"type": "integer", "minimum": 0, "maximum": 64, "default": 10}"#,
};

/// All limits, each with this many of its keys.
pub(super) fn list(call: &Call<'_>, keys: usize) -> Value {
    let limits = call.active.plan.limits.iter().enumerate();
    limits.filter_map(|(index, limit)| told(call, index, limit, keys)).collect()
}

fn one(call: &Call<'_>) -> Answered {
    let (keys, name) = (keys(&call.query)?, call.name(0));
    let mut limits = call.active.plan.limits.iter().enumerate();
    let found = limits.find(|(_, limit)| *limit.name == *name);
    found.and_then(|(index, limit)| told(call, index, limit, keys)).ok_or_else(|| {
        let known = call.active.plan.limits.iter().map(|limit| limit.name.to_string()).collect();
        ((404, "limit_unknown", format!("there is no limit `{name}`")), known)
    })
}

fn keys(query: &Query) -> Result<usize, Failed> {
    match query.get("keys").map(str::parse::<usize>) {
        None => Ok(DEFAULT),
        Some(Ok(keys)) if keys <= KEYS => Ok(keys),
        Some(_) => Err(invalid(format!("`keys` is not a number from 0 to {KEYS}"))),
    }
}

fn told(call: &Call<'_>, index: usize, limit: &Limit, keys: usize) -> Option<Value> {
    let active = call.active;
    let now = call.state.now(std::time::Instant::now()).nanos;
    let seed = call.state.seed();
    let seen = active.limiter.watches().get(index)?.seen(now);
    let table = active.limiter.tables().get(index)?.stats();
    let stats = active.limited.get(index)?;
    let (delayed, waiting) = stats.waited();
    let room = active.limiter.rooms().get(index).and_then(Option::as_ref);
    let services = active.plan.services.iter().filter(|service| {
        service.limits.contains(&index) || service.routes.iter().any(|route| route.limits.contains(&index))
    });
    Some(json!({
        "limit": limit.name,
        "terms": terms(limit),
        "mode": mode(limit.shadow),
        "enforced": if limit.shadow { 0 } else { limit.enforced },
        "key": limit.key.to_string(),
        "shared": limit.shared,
        "services": services.map(|service| &*service.name).collect::<Vec<_>>(),
        "line": limit.origin.line,
        "since": seen.since,
        "requests": seen.counts.judged,
        "near": seen.counts.near,
        "over": seen.counts.over,
        "over_share": share(seen.counts.over, seen.counts.judged),
        "refused": stats.refused.load(Ordering::Relaxed),
        "would_refuse": stats.shadowed.load(Ordering::Relaxed),
        "delayed": delayed,
        "waiting": waiting,
        "in_flight": room.map(|room| {
            let occupancy = room.occupancy();
            json!({"requests": occupancy.requests, "keys": occupancy.keys, "uncounted": room.uncounted()})
        }),
        "evicted": table.evicted_live,
        "uncounted": table.contended,
        "max_keys": limit.max_keys,
        "hot": {
            "seconds": seen.covered / 1_000_000_000,
            "requests": seen.hot.total(),
            "keys": seen.hot.entries().iter().take(keys).map(|entry| hot(entry, &seed)).collect::<Vec<_>>(),
        },
    }))
}

/// Whether something keeps clients out, or says whom it would.
pub(super) const fn mode(shadow: bool) -> &'static str {
    if shadow { "shadow" } else { "enforce" }
}

fn hot(entry: &Entry<Label>, seed: &Seed) -> Value {
    json!({
        "key": format!("{:016x}", seed.alias(entry.key)),
        "shown": entry.label,
        "requests": entry.seen,
        "at_least": entry.seen - entry.excess,
        "over": entry.over,
    })
}

/// What the limit allows, in the words of the configuration.
fn terms(limit: &Limit) -> String {
    match (limit.rate, limit.in_flight) {
        (_, Some(in_flight)) if in_flight.queue > 0 => {
            format!("{} in flight, queue {}", in_flight.most, in_flight.queue)
        }
        (_, Some(in_flight)) => format!("{} in flight", in_flight.most),
        (Some(rate), None) => match limit.quota.algorithm() {
            probegate_policies::limit::Algorithm::Gcra => format!("{rate}, burst {}", limit.quota.limit() - 1),
            probegate_policies::limit::Algorithm::FixedWindow => format!("{rate}, fixed window"),
        },
        (None, None) => String::new(),
    }
}

/// From 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a share, for people")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

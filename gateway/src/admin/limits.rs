//! Limits, as the admin listener tells them: how many requests each has judged, and who is over it or near it. Reading takes what writing takes: with `show_keys`, it tells
//! addresses of people.

use probegate_policies::limit::Seed;
use probegate_policies::limit::hot::Entry;
use serde_json::{Value, json};

use super::control::{Failed, invalid};
use super::query::Query;
use crate::limiter::watch::{KEYS, Label, Seen};
use crate::plan::Limit;
use crate::state::{Active, State};

/// Keys that are told of each limit where nothing is said.
const DEFAULT: usize = 10;

/// What is below `/limits`: all of them, or the one with this name. `None`: nothing is there.
pub(super) fn answer(state: &State, active: &Active, below: &[&str], query: &Query) -> Option<Result<Value, Failed>> {
    let keys = match keys(query) {
        Ok(keys) => keys,
        Err(failed) => return Some(Err(failed)),
    };
    let now = state.now(std::time::Instant::now()).nanos;
    let seed = state.seed();
    let told = |(index, limit): (usize, &Limit)| {
        let seen = active.limiter.watches().get(index)?.seen(now);
        let evicted = active.limiter.tables().get(index)?.stats().evicted_live;
        Some(told(limit, &seen, evicted, &seed, keys))
    };
    let mut limits = active.plan.limits.iter().enumerate();
    match below {
        [] => Some(Ok(json!({"limits": limits.filter_map(told).collect::<Vec<_>>()}))),
        [name] => Some(match limits.find(|(_, limit)| *limit.name == **name).and_then(told) {
            Some(value) => Ok(value),
            None => {
                let known = active.plan.limits.iter().map(|limit| limit.name.to_string()).collect();
                Err(((404, "limit_unknown", format!("there is no limit `{name}`")), known))
            }
        }),
        _ => None,
    }
}

fn keys(query: &Query) -> Result<usize, Failed> {
    match query.get("keys").map(str::parse::<usize>) {
        None => Ok(DEFAULT),
        Some(Ok(keys)) if keys <= KEYS => Ok(keys),
        Some(_) => Err(invalid(format!("`keys` is not a number from 0 to {KEYS}"))),
    }
}

fn told(limit: &Limit, seen: &Seen, evicted: u64, seed: &Seed, keys: usize) -> Value {
    let hot = seen.hot.entries().iter().take(keys).map(|entry| hot(entry, seed));
    json!({
        "limit": limit.name,
        "terms": terms(limit),
        "mode": if limit.shadow { "shadow" } else { "enforce" },
        "key": limit.key.to_string(),
        "shared": limit.shared,
        "since": seen.since,
        "requests": seen.counts.judged,
        "near": seen.counts.near,
        "over": seen.counts.over,
        "over_share": share(seen.counts.over, seen.counts.judged),
        "evicted": evicted,
        "hot": {
            "seconds": seen.covered / 1_000_000_000,
            "requests": seen.hot.total(),
            "keys": hot.collect::<Vec<_>>(),
        },
    })
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

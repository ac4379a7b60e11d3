//! What would be kept out if all that is in shadow mode were in force.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::route::{Access, Answer, Call, Resource, Route};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/shadow.json"),
    routes: &[Route {
        method: "GET",
        path: "/shadow",
        access: Access::Read,
        summary: "What is in shadow mode, and how often it would have kept somebody out",
        parameters: &[],
        schema: "Shadow",
        answer: Answer::Json(|call| Ok(answer(call))),
    }],
};

fn answer(call: &Call<'_>) -> Value {
    let active = call.active;
    let limits =
        active.plan.limits.iter().zip(&active.limited).filter(|(limit, _)| limit.shadow || limit.enforced < 100);
    let limits = limits.map(|(limit, stats)| {
        json!({
            "limit": &*limit.name,
            "would_refuse": stats.shadowed.load(Ordering::Relaxed),
            "line": limit.origin.line,
        })
    });
    let bans = active.plan.bans.iter().zip(active.bans.jails()).filter(|(policy, _)| policy.shadow);
    let bans = bans.map(|(policy, jail)| {
        json!({
            "policy": &*policy.name,
            "would_be_banned": jail.doors().len(),
            "would_refuse": jail.stats().refused.load(Ordering::Relaxed),
            "line": policy.origin.line,
        })
    });
    json!({"limits": limits.collect::<Vec<Value>>(), "bans": bans.collect::<Vec<Value>>()})
}

//! The configuration in force: which one, since when, and of what. Nothing that stands in it.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::route::{Access, Answer, Call, Resource, Route};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/configuration.json"),
    routes: &[Route {
        method: "GET",
        path: "/configuration",
        access: Access::Read,
        summary: "Which configuration is in force",
        parameters: &[],
        schema: "Configuration",
        answer: Answer::Json(|call| Ok(answer(call))),
    }],
};

/// Which configuration is in force.
pub(super) fn answer(call: &Call<'_>) -> Value {
    let (metrics, plan) = (&call.state.metrics, &call.active.plan);
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "generation": call.state.generation(),
        "file": call.state.file(),
        "sha256": Some(call.state.digest()).filter(|digest| !digest.is_empty()).map(|digest| digest.to_string()),
        "since": load(&metrics.loaded_at),
        "reloads": load(&metrics.reloads),
        "reload_failures": load(&metrics.reload_failures),
        "last_reload_failed": metrics.reload_failing.load(Ordering::Relaxed),
        "listeners": plan.listeners.iter().map(|listener| listener.address.to_string()).collect::<Vec<_>>(),
        "services": plan.services.len(),
        "limits": plan.limits.len(),
        "ban_policies": plan.bans.len(),
        "workers": plan.workers,
    })
}

//! What the gateway tells about itself to whoever asks: metrics, and its own probes.

use serde_json::{Map, Value, json};

use super::route::{Access, Answer, Resource, Route};
use crate::local::Page;
use crate::readiness::{self, Readiness, Wrong};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/own.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/healthz",
            access: Access::Open,
            summary: "Whether the gateway is alive",
            parameters: &[],
            schema: "Alive",
            // Alive: this thread answers. Nothing else may make a supervisor kill the process.
            answer: Answer::Page(|_| json(200, "{\"status\": \"ok\"}".to_owned())),
        },
        Route {
            method: "GET",
            path: "/readyz",
            access: Access::Open,
            summary: "Whether the gateway takes traffic (200), or why not (503)",
            parameters: &[],
            schema: "Ready",
            answer: Answer::Page(|call| ready(&readiness::of(call.state), call.may_look)),
        },
        Route {
            method: "GET",
            path: "/metrics",
            access: Access::Metrics,
            summary: "Metrics, in Prometheus's text format",
            parameters: &[],
            schema: "",
            answer: Answer::Page(|call| Page {
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                ..Page::new(200, call.state.metrics.render(call.state))
            }),
        },
    ],
};

/// Everything that speaks against it, the first in one word as well. Without `names`, it is not told what that is about: names of services are not for
/// anybody.
fn ready(known: &Readiness, names: bool) -> Page {
    let Readiness { reasons, warnings } = known;
    let status = if reasons.is_empty() { "ready" } else { "not_ready" };
    let mut fields = Map::new();
    fields.insert("status".to_owned(), status.into());
    if let Some(first) = reasons.first() {
        fields.insert("reason".to_owned(), first.reason.into());
    }
    fields.insert("reasons".to_owned(), told(reasons, names));
    fields.insert("warnings".to_owned(), told(warnings, names));
    json(if reasons.is_empty() { 200 } else { 503 }, Value::Object(fields).to_string())
}

/// Each of them once, with what it is about if `names` may be told.
pub(super) fn told(wrongs: &[Wrong], names: bool) -> Value {
    let about = |wrong: &Wrong| wrong.about.clone().filter(|_| names);
    let mut all: Vec<_> = wrongs.iter().map(|wrong| Wrong { about: about(wrong), ..wrong.clone() }).collect();
    all.dedup();
    let told = |wrong: &Wrong| json!({"reason": wrong.reason, "about": wrong.about.as_deref(), "text": wrong.text});
    all.iter().map(told).collect()
}

fn json(status: u16, text: String) -> Page {
    Page { content_type: "application/json", ..Page::new(status, text) }
}

//! What the gateway tells about itself to whoever asks: metrics, and its own probes.

use serde_json::json;

use super::route::{Access, Answer, Resource, Route};
use crate::local::Page;

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
            answer: Answer::Page(|call| match super::readiness(call.state) {
                None => json(200, "{\"status\": \"ready\"}".to_owned()),
                Some(reason) => json(503, json!({"status": "not_ready", "reason": reason}).to_string()),
            }),
        },
        Route {
            method: "GET",
            path: "/metrics",
            access: Access::Open,
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

fn json(status: u16, text: String) -> Page {
    Page { content_type: "application/json", ..Page::new(status, text) }
}

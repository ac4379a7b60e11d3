//! Loads the configuration again, and says what was found in it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::query::Query;
use super::refused;
use super::route::{self, Access, Answer, Resource, Route};
use crate::local::Page;
use crate::reload::{Finding, Outcome};
use crate::state::State;

/// How long a reload may take until whoever asked for it is told to look for its end in the log. A disk may hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/reload.json"),
    routes: &[Route {
        method: "POST",
        path: "/reload",
        access: Access::Write,
        summary: "The configuration is loaded again: put in force, or refused with what is wrong in it (422)",
        parameters: &[],
        schema: "Reloaded",
        answer: Answer::Slow(answer),
    }],
};

fn answer(state: &Arc<State>, _names: &[String], _query: &Query) -> Page {
    if state.is_draining() {
        return refused(503, "draining", "the gateway is going down");
    }
    match state.reloads.ask(PATIENCE) {
        None => refused(504, "reload_slow", "the reload has not ended yet: the log says how it ends"),
        Some(Outcome { file, digest, generation: Some(generation), findings }) => {
            let value = json!({"generation": generation, "file": file, "sha256": digest, "problems": told(&findings)});
            route::page(200, "application/json", &value)
        }
        Some(Outcome { file, digest, generation: None, findings }) => {
            let text = "the configuration cannot be used, and the one before stays in force".to_owned();
            let more = [("file", json!(file)), ("sha256", json!(digest)), ("problems", told(&findings))];
            route::problem(&(422, "configuration_invalid", text), more)
        }
    }
}

fn told(findings: &[Finding]) -> Value {
    let each = findings.iter().map(|finding| {
        json!({
            "severity": if finding.is_error { "error" } else { "lint" },
            "path": Some(&finding.path).filter(|path| !path.is_empty()),
            "line": finding.place.map(|(line, ..)| line),
            "column": finding.place.map(|(_, column, _)| column),
            "length": finding.place.map(|(.., length)| length),
            "message": finding.message,
            "hint": finding.hint,
        })
    });
    each.collect()
}

//! The last requests that were refused, and what to ask `probegate explain` about each.

use serde_json::{Value, json};

use super::route::{Access, Answer, Answered, Call, Parameter, Resource, Route, invalid};
use crate::telemetry::denials::{Denial, LENGTH};

/// How many are told where nothing is said.
const MANY: usize = 100;

/// How many stand where there is much else.
pub(super) const FEW: usize = 20;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/denials.json"),
    routes: &[Route {
        method: "GET",
        path: "/denials",
        access: Access::Read,
        summary: "The last requests that were refused, the latest first",
        parameters: &[Parameter {
            name: "most",
            text: "How many.",
            schema: r#"{"type": "integer", "minimum": 1, "maximum": 10000, "default": 100}"#,
        }],
        schema: "Denials",
        answer: Answer::Json(answer),
    }],
};

fn answer(call: &Call<'_>) -> Answered {
    let most = match call.query.get("most") {
        None => MANY,
        Some(text) => {
            let number = text.parse().ok().filter(|number| (1..=10_000).contains(number));
            number.ok_or_else(|| invalid(format!("`most` is `{text}`, expected a number from 1 to 10000")))?
        }
    };
    Ok(json!({"denials": list(call, most), "kept_by_worker": LENGTH}))
}

/// The last ones.
pub(super) fn list(call: &Call<'_>, most: usize) -> Value {
    call.state.metrics.denials.last(most).iter().map(told).collect()
}

fn told(denial: &Denial) -> Value {
    let (kind, name, line) = &denial.policy;
    json!({
        "time": denial.at,
        "reason": denial.reason.label(),
        "text": denial.reason.text(),
        "decision": denial.decision.label(),
        "status": denial.status,
        "client": denial.client.to_string(),
        "client_known": denial.is_known,
        "service": some(&denial.service),
        "policy": (!kind.is_empty()).then(|| format!("{kind}:{name}")),
        "line": (*line > 0).then_some(line),
        "method": some(&denial.method),
        "scheme": denial.entrance.0.as_str(),
        "port": (denial.entrance.1 > 0).then_some(denial.entrance.1),
        "host": some(&denial.host),
        "host_cut": denial.host_is_cut,
        "path": some(&denial.path),
        "path_cut": denial.is_cut,
        "request_id": denial.id,
    })
}

/// `null` where there is none.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

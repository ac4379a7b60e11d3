//! Aggregates: what is known about their services. Nobody is asked.

use probegate_policies::aggregate::{Need, Verdict};
use serde_json::{Value, json};

use super::route::{Access, Answer, Call, Resource, Route};
use crate::aggregates::{Board, GATEWAY, Standing, Why, conclude, gateway, is_pending, standings};
use crate::plan::{Aggregate, AggregateSource};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/aggregates.json"),
    routes: &[Route {
        method: "GET",
        path: "/aggregates",
        access: Access::Read,
        summary: "What is known about the services of each aggregate, without asking them",
        parameters: &[],
        schema: "Aggregates",
        answer: Answer::Json(|call| Ok(all(call))),
    }],
};

fn all(call: &Call<'_>) -> Value {
    json!({"aggregates": list(call)})
}

/// Each of them.
pub(super) fn list(call: &Call<'_>) -> Value {
    let aggregates = call.active.plan.aggregates.iter().enumerate();
    aggregates.map(|(index, aggregate)| describe(call, index, aggregate)).collect()
}

fn describe(call: &Call<'_>, index: usize, aggregate: &Aggregate) -> Value {
    let standings = standings(call.active, index);
    let versions = call.active.aggregates.get(index).map(Board::versions).unwrap_or_default();
    let own = gateway(aggregate, call.active, call.state);
    let verdict = conclude(aggregate, &standings, &versions, own);
    let status = match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    let pending = is_pending(verdict, standings.iter().chain(&versions).chain(&own));
    let name = |index: usize| call.active.plan.services.get(index).map_or("", |service| &*service.name);
    let members = aggregate.members.iter().zip(&standings);
    let members = members.map(|(member, standing)| part(name(member.service), member.need == Need::Required, standing));
    let versions = aggregate.one_version.iter().zip(&versions);
    let versions = versions.map(|(&service, standing)| part(&format!("{}.version", name(service)), true, standing));
    let own = own.map(|own| part(GATEWAY, true, &own));
    json!({
        "aggregate": &*aggregate.name,
        "path": &*aggregate.path,
        "probe": aggregate.kind.name(),
        "from": match aggregate.source {
            AggregateSource::Probes { .. } => "probes",
            AggregateSource::Checks { .. } => "checks",
        },
        "status": status,
        "pending": pending,
        "asked": call.active.aggregates.get(index).and_then(Board::asked),
        "checks": members.chain(versions).chain(own).collect::<Vec<_>>(),
        "line": aggregate.origin.line,
    })
}

fn part(name: &str, required: bool, standing: &Standing) -> Value {
    json!({"name": name, "required": required, "passes": standing.passes, "reason": standing.why.map(Why::label)})
}

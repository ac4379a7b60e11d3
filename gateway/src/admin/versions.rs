//! The versions of the servers of services, side by side.
//!
//! An answer does not wait for apps: it is what was found last, and says whether that is all there is to know. Where it is not, the question has begun, and
//! whoever asks again a moment later is told more.

use serde_json::{Map, Value, json};

use super::route::{Access, Answer, Answered, Call, Resource, Route};
use super::services::{names, unknown_service};
use crate::state::unix_time;
use crate::versions::{self, Fleet, Seen};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/versions.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/versions",
            access: Access::Read,
            summary: "Which versions the servers of all services run; asks their apps, and tells what is known so far",
            parameters: &[],
            schema: "Versions",
            answer: Answer::Json(|call| Ok(all(call))),
        },
        Route {
            method: "GET",
            path: "/versions/{service}",
            access: Access::Read,
            summary: "Which versions the servers of one service run",
            parameters: &[],
            schema: "Versions",
            answer: Answer::Json(one),
        },
    ],
};

fn all(call: &Call<'_>) -> Value {
    let told = call.active.plan.services.iter().filter(|service| versions::is_told(service));
    json!({"versions": told.map(|service| of(call, &service.name)).collect::<Vec<_>>()})
}

fn one(call: &Call<'_>) -> Answered {
    let name = call.name(0);
    let known = call.active.plan.services.iter().find(|service| *service.name == *name);
    let service = known.ok_or_else(|| (unknown_service(call.active, name), names(call.active)))?;
    if !versions::is_told(service) {
        let text = format!("service `{name}` has no probe `version` that its app answers");
        return Err(((409, "version_not_told", text), vec![]));
    }
    Ok(json!({"versions": [of(call, name)]}))
}

fn of(call: &Call<'_>, service: &str) -> Value {
    let (fleet, fresh) = versions::look(call.state, service);
    let upstream = call.active.plan.services.iter().find(|known| *known.name == *service).map(|known| &known.upstream);
    let slot = |seen: &Seen| {
        let upstream = upstream?;
        let index = upstream.servers.iter().position(|server| server.label == seen.server)?;
        Some(&*upstream.slots.as_ref()?.of(index)?.1.name)
    };
    let servers = fleet.iter().flat_map(|fleet| &fleet.servers).map(|seen| server(seen, slot(seen)));
    json!({
        "service": service,
        "agree": fleet.as_deref().map(Fleet::agreement).map(probegate_policies::version::Agreement::label),
        "age": fleet.as_deref().map(|fleet| unix_time().saturating_sub(fleet.asked)),
        "pending": !fresh,
        "servers": servers.collect::<Vec<_>>(),
    })
}

/// `slot`: the one that it stands in.
fn server(seen: &Seen, slot: Option<&str>) -> Value {
    let version = |told: &probegate_policies::version::Told| {
        told.entries().map(|(key, value)| (key.to_owned(), value.into())).collect::<Map<_, _>>()
    };
    json!({
        "server": &*seen.server,
        "slot": slot,
        "serves": seen.serves,
        "version": seen.told.as_ref().ok().map(version),
        "why": seen.told.as_ref().err(),
    })
}

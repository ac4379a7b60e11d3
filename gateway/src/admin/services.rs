//! Services and their servers: how they are, and what people may turn about them.

use serde_json::{Value, json};

use super::control;
use super::probes;
use super::route::{Access, Answer, Answered, Call, Parameter, Refused, Resource, Route};
use super::slots;
use crate::plan::{Server, Service};
use crate::readiness;
use crate::servers::{Health, Servers, Site};
use crate::state::{Active, State};
use crate::switches::InMaintenance;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/services.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/services",
            access: Access::Read,
            summary: "All services with their servers, probes and traffic",
            parameters: &[],
            schema: "Services",
            answer: Answer::Json(|call| Ok(json!({"services": list(call)}))),
        },
        Route {
            method: "GET",
            path: "/services/{service}",
            access: Access::Read,
            summary: "One service, with the last five minutes of its traffic and what its app said to its probes lately",
            parameters: &[],
            schema: "Service",
            answer: Answer::Json(one),
        },
        Route {
            method: "PUT",
            path: "/services/{service}/maintenance",
            access: Access::Write,
            summary: "Maintenance begins",
            parameters: &[Parameter {
                name: "retry_after",
                text: "Seconds after which clients are told to come back.",
                schema: r#"{"type": "integer", "minimum": 1, "maximum": 31622400}"#,
            }],
            schema: "MaintenanceTurned",
            answer: Answer::Json(control::maintenance_begins),
        },
        Route {
            method: "DELETE",
            path: "/services/{service}/maintenance",
            access: Access::Write,
            summary: "Maintenance ends",
            parameters: &[],
            schema: "MaintenanceTurned",
            answer: Answer::Json(control::maintenance_ends),
        },
        Route {
            method: "PUT",
            path: "/services/{service}/servers/{server}/drain",
            access: Access::Write,
            summary: "A server gets no new requests",
            parameters: &[Parameter {
                name: "force",
                text: "Even if nobody else would answer.",
                schema: r#"{"type": "boolean", "default": false}"#,
            }],
            schema: "DrainTurned",
            answer: Answer::Json(control::drain),
        },
        Route {
            method: "DELETE",
            path: "/services/{service}/servers/{server}/drain",
            access: Access::Write,
            summary: "A drained server gets requests again",
            parameters: &[],
            schema: "DrainTurned",
            answer: Answer::Json(control::undrain),
        },
    ],
};

/// All services, each in short.
pub(super) fn list(call: &Call<'_>) -> Value {
    (0..call.active.plan.services.len()).filter_map(|index| describe(call, index, false)).collect()
}

fn one(call: &Call<'_>) -> Answered {
    let name = call.name(0);
    let index = call.active.plan.services.iter().position(|service| &*service.name == name);
    let found = index.and_then(|index| describe(call, index, true));
    found.ok_or_else(|| (unknown_service(call.active, name), names(call.active)))
}

/// The service with this index. `full`: with everything that is remembered of it.
fn describe(call: &Call<'_>, index: usize, full: bool) -> Option<Value> {
    let (state, active) = (call.state, call.active);
    let (service, servers) = (active.plan.services.get(index)?, active.servers.get(index)?);
    let each = service.upstream.servers.iter().zip(servers.sites());
    let slot = |site: &Site| service.upstream.slots.as_ref()?.get(site.slot?).map(|slot| &*slot.name);
    let each = each.map(|(server, site)| about(state, server, site, servers, slot(site)));
    Some(json!({
        "service": &*service.name,
        "maintenance": maintenance(state.switches.in_maintenance(&service.name)),
        "slots": slots::brief(service, servers),
        "switching_to": slots::under_way(state, &service.name),
        "waiting": servers.waiting(),
        "servers": each.collect::<Vec<_>>(),
        "probes": probes::of(call, index, if full { usize::MAX } else { probes::FEW }),
        "traffic": active.stats.get(index).map(|stats| call.pulse.traffic(&service.name, stats, full)),
        "limits": service.limits.iter().filter_map(|&limit| Some(&*active.plan.limits.get(limit)?.name)).collect::<Vec<_>>(),
        "routes": service.routes.len(),
        "protocol": service.upstream.to_string(),
        "line": service.origin.line,
    }))
}

fn about(gateway: &State, server: &Server, site: &Site, servers: &Servers, slot: Option<&str>) -> Value {
    let state = &site.state;
    let checks = gateway.health.of(servers.service(), &server.label);
    let failing = checks.as_ref().and_then(|report| report.why.clone());
    let (word, why) = if state.is_drained() {
        ("drained", "switched by hand".to_owned())
    } else if state.health() == Health::Down {
        ("down", failing.map_or_else(String::new, |why| format!("check: {why}")))
    } else if state.is_left_out(servers.now()) {
        ("left out", "requests failed".to_owned())
    } else if state.is_ejected() {
        ("on trial", "requests failed before".to_owned())
    } else {
        ("up", failing.map_or_else(String::new, |why| format!("last check: {why}")))
    };
    let health = match state.health() {
        Health::Unknown => "unknown",
        Health::Up => "up",
        Health::Down => "down",
    };
    json!({
        "server": &*server.label,
        "state": word,
        "why": why,
        "slot": slot,
        "in_turn": readiness::is_in_turn(servers, site),
        "drained": state.is_drained(),
        "health": health,
        "checks": checks.map(|report| json!({"passed": report.passed, "failed": report.failed})),
        "backup": server.backup,
        "weight": server.weight,
        "max_in_flight": server.max_in_flight,
        "in_flight": state.in_flight(),
        "requests": state.sent(),
        "failures": state.failures(),
        "times_left_out": state.ejections(),
    })
}

/// `null` where it is off.
pub(super) fn maintenance(on: Option<InMaintenance>) -> Value {
    on.map_or(Value::Null, |on| json!({"retry_after": on.retry_after.map(|time| time.as_secs())}))
}

/// A service that is not there.
pub(super) fn unknown_service(active: &Active, service: &str) -> Refused {
    let count = active.plan.services.len();
    (
        404,
        "unknown_service",
        format!("no service is called `{service}` (there {} {count})", if count == 1 { "is" } else { "are" }),
    )
}

/// The names of all services.
pub(super) fn names(active: &Active) -> Vec<String> {
    active.plan.services.iter().map(|service: &Service| service.name.to_string()).collect()
}

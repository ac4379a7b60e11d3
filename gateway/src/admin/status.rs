//! How services and their servers are, as JSON.

use serde_json::{Value, json};

use crate::plan::{Server, Service};
use crate::servers::{Health, Servers, Site};
use crate::state::{Active, State};
use crate::switches::InMaintenance;

/// All services.
pub(super) fn all(state: &State, active: &Active) -> Value {
    let services = active.plan.services.iter().zip(&active.servers);
    let services = services.map(|(service, servers)| describe(state, service, servers));
    json!({"services": services.collect::<Vec<_>>()})
}

/// One service; `None`: there is none with this name.
pub(super) fn one(state: &State, active: &Active, name: &str) -> Option<Value> {
    let mut services = active.plan.services.iter().zip(&active.servers);
    services.find(|(service, _)| &*service.name == name).map(|(service, servers)| describe(state, service, servers))
}

fn describe(state: &State, service: &Service, servers: &Servers) -> Value {
    let each = service.upstream.servers.iter().zip(servers.sites());
    let each = each.map(|(server, site)| about(state, server, site, servers));
    json!({
        "service": &*service.name,
        "maintenance": maintenance(state.switches.in_maintenance(&service.name)),
        "waiting": servers.waiting(),
        "servers": each.collect::<Vec<_>>(),
    })
}

fn about(gateway: &State, server: &Server, site: &Site, servers: &Servers) -> Value {
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
        "drained": state.is_drained(),
        "health": health,
        "checks": checks.map(|report| json!({"passed": report.passed, "failed": report.failed})),
        "backup": server.backup,
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

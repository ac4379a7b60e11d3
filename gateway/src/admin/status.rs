//! How services and their servers are, as JSON.

use serde_json::{Value, json};

use crate::plan::Service;
use crate::state::{Active, State};
use crate::switches::InMaintenance;

/// All services.
pub(super) fn all(state: &State, active: &Active) -> Value {
    let services = active.plan.services.iter().map(|service| describe(state, service));
    json!({"services": services.collect::<Vec<_>>()})
}

/// One service; `None`: there is none with this name.
pub(super) fn one(state: &State, active: &Active, name: &str) -> Option<Value> {
    active.plan.services.iter().find(|service| &*service.name == name).map(|service| describe(state, service))
}

fn describe(state: &State, service: &Service) -> Value {
    let servers = service.upstream.servers.iter().map(|server| {
        let drained = state.switches.is_drained(&service.name, &server.label);
        let (status, why) = if drained { ("drained", "by hand") } else { ("up", "") };
        json!({"server": &*server.label, "state": status, "why": why})
    });
    json!({
        "service": &*service.name,
        "maintenance": maintenance(state.switches.in_maintenance(&service.name)),
        "servers": servers.collect::<Vec<_>>(),
    })
}

/// `null` where it is off.
pub(super) fn maintenance(on: Option<InMaintenance>) -> Value {
    on.map_or(Value::Null, |on| json!({"retry_after": on.retry_after.map(|time| time.as_secs())}))
}

//! The switches of services: maintenance, and drained servers.

use std::time::Duration;

use serde_json::{Value, json};

use super::query::Query;
use super::route::{Answered, Call, Failed, invalid};
use super::services::{self, names, unknown_service};
use crate::state::{Active, State};
use crate::switches::{InMaintenance, Turned};

/// The longest time that clients can be told to stay away: a year, in seconds.
const LONGEST: u64 = 366 * 86_400;

/// Maintenance of a service begins.
pub(super) fn maintenance_begins(call: &Call<'_>) -> Answered {
    maintenance(call.state, call.active, call.name(0), Some(&call.query))
}

/// Maintenance of a service ends.
pub(super) fn maintenance_ends(call: &Call<'_>) -> Answered {
    maintenance(call.state, call.active, call.name(0), None)
}

/// A server gets no new requests.
pub(super) fn drain(call: &Call<'_>) -> Answered {
    turn(call.state, call.active, call.name(0), call.name(1), true, &call.query)
}

/// A drained server gets requests again.
pub(super) fn undrain(call: &Call<'_>) -> Answered {
    turn(call.state, call.active, call.name(0), call.name(1), false, &call.query)
}

/// `to`: the query of the request that asks for it; `None`: it ends.
fn maintenance(state: &State, active: &Active, service: &str, to: Option<&Query>) -> Result<Value, Failed> {
    let switches = &state.switches;
    let known = active.plan.services.iter().any(|known| &*known.name == service);
    // One of a service that is not there any more can be turned off.
    if !known && (to.is_some() || switches.in_maintenance(service).is_none()) {
        return Err((unknown_service(active, service), names(active)));
    }
    let to = match to {
        None => None,
        Some(query) => {
            let retry_after = match query.get("retry_after") {
                None => None,
                Some(text) => match text.parse::<u64>() {
                    Ok(seconds @ 1..=LONGEST) => Some(Duration::from_secs(seconds)),
                    _ => {
                        let text = format!("`retry_after` is `{text}`, expected seconds from 1 to {LONGEST}");
                        return Err(((400, "retry_after_invalid", text), vec![]));
                    }
                },
            };
            Some(InMaintenance { retry_after })
        }
    };
    let turned = switches.maintain(service, to);
    let now = switches.in_maintenance(service);
    if turned.changed {
        match to {
            Some(_) => {
                let retry_after = now.and_then(|on| on.retry_after).map(|time| time.as_secs());
                tracing::warn!(service, retry_after, "maintenance begins");
            }
            None => tracing::warn!(service, "maintenance ends"),
        }
    }
    Ok(told(&turned, json!({"service": service, "maintenance": services::maintenance(now)})))
}

fn turn(state: &State, active: &Active, service: &str, server: &str, to: bool, query: &Query) -> Result<Value, Failed> {
    let switches = &state.switches;
    let found = active.plan.services.iter().find(|known| &*known.name == service);
    let known = found.is_some_and(|service| service.upstream.servers.iter().any(|known| &*known.label == server));
    if !known && (to || !switches.is_drained(service, server)) {
        let Some(found) = found else { return Err((unknown_service(active, service), names(active))) };
        let text = format!("service `{service}` has no server `{server}`");
        let labels = found.upstream.servers.iter().map(|server| server.label.to_string());
        return Err(((404, "unknown_server", text), labels.collect()));
    }
    let force = query.says("force").map_err(invalid)?;
    if to
        && !force
        && let Some(servers) = active.servers.iter().find(|servers| servers.service() == service)
        && servers.is_last(server)
    {
        let text = format!(
            "no other server of `{service}` than `{server}` may be asked, as they are drained or down: nobody would answer"
        );
        return Err(((409, "last_server", text), vec![]));
    }
    let turned = switches.drain(service, server, to);
    state.apply_drains();
    if turned.changed {
        tracing::warn!(service, server, "{}", if to { "server is drained" } else { "server is not drained any more" });
    }
    Ok(told(&turned, json!({"service": service, "server": server, "drained": to})))
}

/// Adds what became of turning it.
fn told(turned: &Turned, mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("changed".to_owned(), turned.changed.into());
        fields.insert("saved".to_owned(), turned.unsaved.is_none().into());
        if let Some(why) = &turned.unsaved {
            tracing::warn!(why, "the switch will not survive this process");
            fields.insert("warning".to_owned(), format!("it will not survive this process: {why}").into());
        }
    }
    value
}

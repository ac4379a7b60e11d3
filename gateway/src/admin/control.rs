//! Services and their switches, as the admin listener tells and turns them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::guard::{self, Refused};
use super::query::{Query, decode};
use super::{bans, limits, status};
use crate::local::{Page, Request};
use crate::state::{Active, State, unix_time};
use crate::switches::{InMaintenance, Turned};

/// The longest time that clients can be told to stay away: a year, in seconds.
const LONGEST: u64 = 366 * 86_400;

/// The page below `/services`; `None`: it is not there.
pub(super) fn page(state: &Arc<State>, address: SocketAddr, request: &Request<'_>) -> Option<Page> {
    let path = std::str::from_utf8(request.path).ok()?;
    let parts: Vec<String> = path.strip_prefix('/')?.split('/').map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let ["bans", below @ ..] = parts.as_slice() {
        return banned(state, address, request, below);
    }
    if let ["limits", below @ ..] = parts.as_slice() {
        return limited(state, address, request, below);
    }
    let ["services", below @ ..] = parts.as_slice() else { return None };
    let active = state.active();
    let to = request.method == b"PUT";
    Some(match (request.method, below) {
        (b"GET" | b"HEAD", []) => answer(200, &status::all(state, &active)),
        (b"GET" | b"HEAD", [service]) => match status::one(state, &active, service) {
            Some(found) => answer(200, &found),
            None => refusal(&unknown_service(&active, service), &names(&active)),
        },
        (b"PUT" | b"DELETE", [service, "maintenance"]) => {
            let known: &[_] = if to { &["retry_after"] } else { &[] };
            allowed(state, address, request, known, |query| maintenance(state, &active, service, to.then_some(query)))
        }
        (b"PUT" | b"DELETE", [service, "servers", server, "drain"]) => {
            let known: &[_] = if to { &["force"] } else { &[] };
            allowed(state, address, request, known, |query| drain(state, &active, service, server, to, query))
        }
        (_, [] | [_] | [_, "maintenance"] | [_, "servers", _, "drain"]) => {
            refusal(&(405, "method_not_allowed", "the method is not allowed here".to_owned()), &[])
        }
        _ => return None,
    })
}

/// The page below `/bans`.
fn banned(state: &Arc<State>, address: SocketAddr, request: &Request<'_>, below: &[&str]) -> Option<Page> {
    if !matches!((request.method, below), (b"GET" | b"HEAD" | b"DELETE", [] | [_]) | (b"PUT", [_])) {
        let text = "the method is not allowed here".to_owned();
        return (below.len() < 2).then(|| refusal(&(405, "method_not_allowed", text), &[]));
    }
    let known: &[_] = if request.method == b"PUT" { &["for", "reason", "force"] } else { &[] };
    Some(allowed(state, address, request, known, |query| {
        let answer = bans::answer(state, &state.active(), request.method, below, query);
        answer.unwrap_or_else(|| Err(((404, "not_found", "there is nothing here".to_owned()), vec![])))
    }))
}

/// The page below `/limits`.
fn limited(state: &Arc<State>, address: SocketAddr, request: &Request<'_>, below: &[&str]) -> Option<Page> {
    if !matches!((request.method, below), (b"GET" | b"HEAD", [] | [_])) {
        let text = "the method is not allowed here".to_owned();
        return (below.len() < 2).then(|| refusal(&(405, "method_not_allowed", text), &[]));
    }
    Some(allowed(state, address, request, &["keys"], |query| {
        let answer = limits::answer(state, &state.active(), below, query);
        answer.unwrap_or_else(|| Err(((404, "not_found", "there is nothing here".to_owned()), vec![])))
    }))
}

/// What went wrong, and the names that would have been right.
pub(super) type Failed = (Refused, Vec<String>);

fn allowed(
    state: &State,
    address: SocketAddr,
    request: &Request<'_>,
    parameters: &[&str],
    turn: impl FnOnce(&Query) -> Result<Value, Failed>,
) -> Page {
    // Held until the switch is turned and written, so that a hand-over begins behind it.
    let held = state.switches.hold();
    if !state.is_open() || state.is_handed_over() || held.is_none() {
        // The other process may write its own switches at this moment.
        let text = "processes change at this moment: ask again".to_owned();
        return refusal(&(503, "handing_over", text), &[]);
    }
    let active = state.active();
    if let Err(refused) = guard::judge(request, address, active.plan.admin_token.as_deref(), unix_time()) {
        tracing::warn!(reason = refused.1, "a switch was not turned");
        return refusal(&refused, &[]);
    }
    let turned = match Query::of(request.query, parameters) {
        Ok(query) => turn(&query),
        Err(text) => Err(invalid(text)),
    };
    match turned {
        Ok(value) => answer(200, &value),
        Err((refused, known)) => refusal(&refused, &known),
    }
}

/// A parameter is not what it should be.
pub(super) fn invalid(text: String) -> Failed {
    ((400, "parameter_invalid", text), vec![])
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
    Ok(told(&turned, json!({"service": service, "maintenance": status::maintenance(now)})))
}

fn drain(
    state: &State,
    active: &Active,
    service: &str,
    server: &str,
    to: bool,
    query: &Query,
) -> Result<Value, Failed> {
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
        // Not one that is down either.
        && servers.sites().iter().all(|site| &*site.label == server || !site.state.may_be_asked())
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

fn unknown_service(active: &Active, service: &str) -> Refused {
    let count = active.plan.services.len();
    (
        404,
        "unknown_service",
        format!("no service is called `{service}` (there {} {count})", if count == 1 { "is" } else { "are" }),
    )
}

fn names(active: &Active) -> Vec<String> {
    active.plan.services.iter().map(|service| service.name.to_string()).collect()
}

fn refusal((status, error, text): &Refused, known: &[String]) -> Page {
    let mut value = json!({"error": error, "message": text});
    if !known.is_empty()
        && let Some(fields) = value.as_object_mut()
    {
        fields.insert("known".to_owned(), known.into());
    }
    answer(*status, &value)
}

fn answer(status: u16, value: &Value) -> Page {
    Page { status, content_type: "application/json", body: format!("{value:#}\n").into_bytes() }
}

//! Slots of a service and switches between them, as the admin listener tells and turns them.

use std::time::Duration;

use probegate_policies::switch::{Counts, Tolerance};
use serde_json::{Value, json};

use super::query::Query;
use super::route::{Access, Answer, Answered, Call, Failed, Parameter, Resource, Route, invalid};
use super::services::{names, unknown_service};
use crate::plan::{Service, Slots};
use crate::servers::Servers;
use crate::slots::Share;
use crate::state::{Active, State};
use crate::switches::Ended;
use crate::switching::{Phase, Run, Unwilling, Wanted, stages};

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/slots.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/services/{service}/switch",
            access: Access::Read,
            summary: "The slots of a service, and the last switch between them",
            parameters: &[Parameter {
                name: "since",
                text: "How many lines are known already.",
                schema: r#"{"type": "integer", "minimum": 0, "default": 0}"#,
            }],
            schema: "SwitchState",
            answer: Answer::Json(show),
        },
        Route {
            method: "PUT",
            path: "/services/{service}/switch",
            access: Access::Write,
            summary: "A switch to another slot begins",
            parameters: &PARAMETERS,
            schema: "SwitchState",
            answer: Answer::Json(begin),
        },
        Route {
            method: "DELETE",
            path: "/services/{service}/switch",
            access: Access::Write,
            summary: "The switch that goes on is taken back",
            parameters: &[],
            schema: "SwitchState",
            answer: Answer::Json(abort),
        },
    ],
};

/// Parameters of a switch that begins.
const PARAMETERS: [Parameter; 10] = [
    Parameter { name: "to", text: "The slot; required.", schema: r#"{"type": "string"}"# },
    Parameter {
        name: "version",
        text: "The version, or the commit, that every server of it has to be.",
        schema: r#"{"type": "string", "minLength": 1, "maxLength": 200}"#,
    },
    Parameter {
        name: "percent",
        text: "Shares of the clients that it gets one after the other, such as `5,25`.",
        schema: r#"{"type": "string", "default": "100"}"#,
    },
    Parameter {
        name: "step",
        text: "How many seconds each of them lasts.",
        schema: r#"{"type": "number", "minimum": 0, "maximum": 86400, "default": 30}"#,
    },
    Parameter {
        name: "bake",
        text: "How many seconds it is watched when it has everything. Default: as the service says.",
        schema: r#"{"type": "number", "minimum": 0, "maximum": 86400}"#,
    },
    Parameter {
        name: "errors",
        text: "Errors in percent beyond which everything goes back. Default: as the service says.",
        schema: r#"{"type": "integer", "minimum": 0, "maximum": 100}"#,
    },
    Parameter {
        name: "min_requests",
        text: "Requests over which they are counted at least. Default: as the service says.",
        schema: r#"{"type": "integer", "minimum": 0, "maximum": 1000000}"#,
    },
    Parameter {
        name: "require_requests",
        text: "Requests that it has to be sent until the end; with fewer, everything goes back.",
        schema: r#"{"type": "integer", "minimum": 0, "maximum": 1000000, "default": 0}"#,
    },
    Parameter {
        name: "retry",
        text: "Whether requests with idempotent methods that it fails are sent to the old slot. Default: as the service says.",
        schema: r#"{"type": "boolean"}"#,
    },
    Parameter {
        name: "force",
        text: "Its servers are not asked first.",
        schema: r#"{"type": "boolean", "default": false}"#,
    },
];

/// How long a share lasts where nobody says it.
const STEP: Duration = Duration::from_secs(30);

/// The longest that a stage may last, in seconds: a day.
const LONGEST: u32 = 86_400;

/// Bytes of a version that may be expected: no more are read of one that a server tells.
const VERSION: usize = 200;

/// The slots of a service in a word or two; `null` where it has none.
pub(super) fn brief(service: &Service, servers: &Servers) -> Value {
    let (Some(slots), Some(split)) = (&service.upstream.slots, servers.split()) else { return Value::Null };
    let share = split.get();
    let each = slots.each.iter().enumerate().map(|(index, slot)| {
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        let percent = match index {
            _ if index == share.to => share.percent,
            _ if index == share.from => 100 - share.percent,
            _ => 0,
        };
        let own = servers.sites().iter().filter(|site| site.slot == Some(index));
        let Counts { requests, errors } = split.counts(index);
        json!({
            "slot": &*slot.name,
            "percent": percent,
            "servers": own.clone().map(|site| &*site.label).collect::<Vec<_>>(),
            "in_flight": own.map(|site| site.state.in_flight()).sum::<u64>(),
            "requests": requests,
            "errors": errors,
        })
    });
    each.collect()
}

/// The slots of a service, and its last switch with the lines behind the first `since`.
fn show(call: &Call<'_>) -> Answered {
    let since = match call.query.get("since") {
        None => 0,
        Some(text) => text.parse().map_err(|_| invalid(format!("`since` is `{text}`, expected a number")))?,
    };
    let (service, slots, servers) = slotted(call.active, call.name(0))?;
    Ok(tell(call.state, service, slots, servers, since))
}

fn tell(state: &State, service: &Service, slots: &Slots, servers: &Servers, since: usize) -> Value {
    let share = servers.split().map(|split| split.get());
    let name = |index: Option<u8>| index.and_then(|index| slots.get(index)).map(|slot| &*slot.name);
    let kept = state.switches.slots(&service.name);
    let run = state.runs.of(&service.name);
    let others = |last: &Ended| run.as_ref().is_some_and(|run| run.id != last.id);
    let last = kept.last.as_ref().filter(|last| others(last)).map_or(Value::Null, ended);
    let switch = match (&run, &kept.last) {
        (Some(run), last) if !run.is_over() || last.as_ref().is_none_or(|last| last.id == run.id) || is_newer(run) => {
            about(run, since)
        }
        (_, Some(last)) => ended(last),
        (_, None) => Value::Null,
    };
    json!({
        "service": &*service.name,
        "active": name(share.map(Share::main)),
        "slots": brief(service, servers),
        "switch": switch,
        "last": last,
        "process": std::process::id(),
    })
}

/// One that ended without having moved anything is not what is kept, and came after it.
fn is_newer(run: &Run) -> bool {
    matches!(run.phase(), Phase::Ended(..))
}

fn about(run: &Run, since: usize) -> Value {
    let (lines, next) = run.lines(since);
    let lines: Vec<_> = lines.iter().map(|line| json!({"at": line.at, "text": line.text})).collect();
    let (phase, share, left, seen, outcome, why) = match run.phase() {
        Phase::Checking => ("checking", None, None, None, None, String::new()),
        Phase::Moving { share, left, seen } => {
            ("moving", Some(share), Some(left.as_secs_f64()), Some(seen), None, String::new())
        }
        Phase::Ended(outcome, why) => ("ended", None, None, None, Some(outcome.word()), why),
    };
    json!({
        "id": &*run.id, "from": &*run.from, "to": &*run.to,
        "phase": phase, "percent": share, "seconds_left": left,
        "requests": seen.map(|seen| seen.requests), "errors": seen.map(|seen| seen.errors),
        "outcome": outcome, "why": why, "lines": lines, "next": next,
    })
}

/// One that ended in a process before this one: what was seen is gone with it.
fn ended(last: &Ended) -> Value {
    json!({
        "id": &*last.id, "from": &*last.from, "to": &*last.to,
        "phase": "ended", "percent": null, "seconds_left": null, "requests": null, "errors": null,
        "outcome": &*last.outcome, "why": last.why, "lines": [], "next": 0,
    })
}

/// The slot to which a switch of this service goes on; `None`: none does.
pub(super) fn under_way(state: &State, service: &str) -> Option<String> {
    let run = state.runs.of(service).filter(|run| !run.is_over())?;
    Some(run.to.to_string())
}

/// Begins a switch.
fn begin(call: &Call<'_>) -> Answered {
    let (state, query) = (call.state, &call.query);
    let (service, slots, servers) = slotted(call.active, call.name(0))?;
    let known = || slots.each.iter().map(|slot| slot.name.to_string()).collect::<Vec<_>>();
    let Some(to) = query.get("to") else {
        return Err(((400, "parameter_invalid", "`to` is missing: the slot to switch to".to_owned()), known()));
    };
    if slots.index(to).is_none() {
        let text = format!("service `{}` has no slot `{to}`", service.name);
        return Err(((404, "unknown_slot", text), known()));
    }
    let wanted = wanted(slots, query)?;
    let changed = match state.runs.begin(state, (&service.name, slots), to, wanted) {
        Ok(run) => run.moves(),
        Err(Unwilling::There) => false,
        Err(Unwilling::Busy(other)) => {
            let text = format!("a switch of `{}` to `{other}` goes on: wait for it, or abort it", service.name);
            return Err(((409, "switch_in_progress", text), vec![]));
        }
    };
    let mut told = tell(state, service, slots, servers, 0);
    if let Some(fields) = told.as_object_mut() {
        fields.insert("changed".to_owned(), changed.into());
    }
    Ok(told)
}

/// Ends a switch that goes on: everything goes back.
fn abort(call: &Call<'_>) -> Answered {
    let state = call.state;
    let (service, slots, servers) = slotted(call.active, call.name(0))?;
    let run = state.runs.of(&service.name).filter(|run| !run.is_over());
    if let Some(run) = &run {
        tracing::warn!(service = &*service.name, slot = &*run.to, "switch: aborted by hand");
        run.abort();
    }
    let mut told = tell(state, service, slots, servers, 0);
    if let Some(fields) = told.as_object_mut() {
        fields.insert("changed".to_owned(), run.is_some().into());
    }
    Ok(told)
}

fn wanted(slots: &Slots, query: &Query) -> Result<Wanted, Failed> {
    let number = |name: &str, most: u64| match query.get(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(invalid(format!("`{name}` is `{text}`, expected a number up to {most}"))),
        },
    };
    let seconds = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => match text.parse::<f64>() {
            Ok(time) if (0.0..=f64::from(LONGEST)).contains(&time) => Ok(Some(Duration::from_secs_f64(time))),
            _ => Err(invalid(format!("`{name}` is `{text}`, expected seconds up to {LONGEST}"))),
        },
    };
    let switch = &slots.switch;
    let bake = seconds("bake")?.unwrap_or(switch.bake);
    let shares = query.get("percent").unwrap_or("100");
    let stages = stages(shares, seconds("step")?.unwrap_or(STEP), bake).map_err(invalid)?;
    let version = query.get("version");
    if version.is_some_and(|text| text.is_empty() || text.len() > VERSION || text.chars().any(char::is_control)) {
        return Err(invalid(format!("`version` is not text of up to {VERSION} bytes")));
    }
    let percent = number("errors", 100)?.and_then(|percent| u32::try_from(percent).ok());
    let retry = if query.get("retry").is_some() { query.says("retry").map_err(invalid)? } else { switch.retry };
    Ok(Wanted {
        stages,
        tolerance: Tolerance {
            percent: percent.unwrap_or(switch.tolerance.percent),
            min_requests: number("min_requests", 1_000_000)?.unwrap_or(switch.tolerance.min_requests),
        },
        retry,
        required: number("require_requests", 1_000_000)?.unwrap_or_default(),
        version: version.map(Into::into),
        force: query.says("force").map_err(invalid)?,
    })
}

/// The service, with its slots and what is known about its servers.
fn slotted<'a>(active: &'a Active, name: &str) -> Result<(&'a Service, &'a Slots, &'a Servers), Failed> {
    let mut services = active.plan.services.iter().zip(&active.servers);
    let Some((service, servers)) = services.find(|(service, _)| &*service.name == name) else {
        return Err((unknown_service(active, name), names(active)));
    };
    let Some(slots) = &service.upstream.slots else {
        let text = format!("service `{name}` has no slots: there is nothing to switch to");
        return Err(((409, "no_slots", text), vec![]));
    };
    Ok((service, slots, servers))
}

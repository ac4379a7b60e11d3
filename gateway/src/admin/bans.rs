//! Bans, as the admin listener tells, pronounces and lifts them. Whom a gateway has seen is nobody's business: reading takes what writing takes.

use std::sync::Arc;

use probegate_policies::ban::{Ban, Cause, Client};
use serde_json::{Value, json};

use super::query::Query;
use super::route::{Access, Answer, Call, Failed, Parameter, Resource, Route, invalid};
use crate::bans::{self, Exempt, LONGEST, file};
use crate::plan::BY_HAND;
use crate::state::{Active, State, unix_time};

/// How long a ban by hand lasts where nothing is said: a day, in seconds.
const DEFAULT: u64 = 86_400;

/// The longest reason that is kept, in characters.
const REASON: usize = 200;

/// How many stand where there is much else.
pub(super) const FEW: usize = 50;

/// This resource.
pub(super) const RESOURCE: Resource = Resource {
    schemas: include_str!("schemas/bans.json"),
    routes: &[
        Route {
            method: "GET",
            path: "/bans",
            access: Access::Read,
            summary: "Who is banned",
            parameters: &[],
            schema: "Bans",
            answer: Answer::Json(|call| Ok(list(call.state, call.active, None))),
        },
        Route {
            method: "DELETE",
            path: "/bans",
            access: Access::Write,
            summary: "All bans are lifted",
            parameters: &[],
            schema: "AllLifted",
            answer: Answer::Json(|call| Ok(lift_all(call))),
        },
        Route {
            method: "GET",
            path: "/bans/{client}",
            access: Access::Read,
            summary: "Whether a client is banned, why, and how far it is from it",
            parameters: &[],
            schema: "BanOf",
            answer: Answer::Json(|call| Ok(why(call.state, call.active, client(call.name(0))?))),
        },
        Route {
            method: "PUT",
            path: "/bans/{client}",
            access: Access::Write,
            summary: "A client is kept out",
            parameters: &[
                Parameter {
                    name: "for",
                    text: "For how many seconds.",
                    schema: r#"{"type": "integer", "minimum": 1, "default": 86400}"#,
                },
                Parameter { name: "reason", text: "Why, for whoever asks.", schema: r#"{"type": "string"}"# },
                Parameter {
                    name: "force",
                    text: "Even if it is in network `internal`.",
                    schema: r#"{"type": "boolean", "default": false}"#,
                },
            ],
            schema: "Banned",
            answer: Answer::Json(|call| add(call.state, call.active, client(call.name(0))?, &call.query)),
        },
        Route {
            method: "DELETE",
            path: "/bans/{client}",
            access: Access::Write,
            summary: "A client is let in again, and what it did is forgotten",
            parameters: &[],
            schema: "Lifted",
            answer: Answer::Json(|call| Ok(lift(call.state, client(call.name(0))?))),
        },
    ],
};

fn lift_all(call: &Call<'_>) -> Value {
    let lifted = call.state.bans.lift(None, unix_time());
    tracing::warn!(lifted, "all bans are lifted by hand");
    saved(call.state, json!({"lifted": lifted, "changed": lifted > 0}))
}

fn client(text: &str) -> Result<Client, Failed> {
    file::client(text).ok_or_else(|| {
        let text = format!("`{text}` is not an address that can be banned, such as `203.0.113.9` or `2001:db8::1`");
        ((400, "address_invalid", text), vec![])
    })
}

/// Who is banned, and how many. `most`: those whose bans began last, and no more of them.
pub(super) fn list(state: &State, active: &Active, most: Option<usize>) -> Value {
    let now = unix_time();
    let mut all = Vec::new();
    for (name, shadow, jail) in policies(state, active) {
        all.extend(jail.list(now).into_iter().map(|(client, ban)| (name, shadow, client, ban)));
    }
    let count = all.len();
    if let Some(most) = most {
        all.sort_by_key(|(_, _, _, ban)| std::cmp::Reverse(ban.since));
        all.truncate(most);
    }
    let all = all.iter().map(|(name, shadow, client, ban)| told(name, *shadow, *client, ban, now));
    json!({"bans": all.collect::<Vec<_>>(), "count": count})
}

/// The policies with their bans, and those by hand.
fn policies<'a>(state: &'a State, active: &'a Active) -> impl Iterator<Item = (&'a str, bool, &'a bans::Jail)> {
    let jails = active.plan.bans.iter().zip(active.bans.jails());
    let jails = jails.map(|(policy, jail)| (&*policy.name, policy.shadow, &**jail));
    jails.chain([(BY_HAND, false, state.bans.by_hand())])
}

fn told(policy: &str, shadow: bool, client: Client, ban: &Ban, now: u64) -> Value {
    json!({
        "client": client.to_string(),
        "policy": policy,
        "mode": if shadow { "shadow" } else { "enforce" },
        "since": ban.since,
        "until": ban.until,
        "left": ban.until.saturating_sub(now),
        "count": ban.count,
        "offence": ban.cause.offence.map(|offence| offence.to_string()),
        "text": ban.cause.text,
    })
}

/// What is known about a client, and what would have to happen.
fn why(state: &State, active: &Active, client: Client) -> Value {
    let now = state.now(std::time::Instant::now());
    let policies = policies(state, active).zip(active.plan.bans.iter().map(Some).chain([None]));
    let policies = policies.map(|((name, shadow, jail), policy)| {
        let ban = jail.get(client).map(|ban| told(name, shadow, client, &ban, now.unix));
        json!({
            "policy": name,
            "mode": if shadow { "shadow" } else { "enforce" },
            "banned": ban.as_ref().is_some_and(|ban| ban.get("left") != Some(&0.into())),
            "last": ban,
            "never": active.bans.exempt(&active.plan, policy, client).map(|exempt| exempt.to_string()),
            "offences": policy.map(|_| jail.offences(client, now)),
            "max_offences": policy.map(|policy| policy.max_offences),
            "window": policy.map(|policy| policy.window.as_secs()),
        })
    });
    json!({"client": client.to_string(), "policies": policies.collect::<Vec<_>>()})
}

fn add(state: &Arc<State>, active: &Active, client: Client, query: &Query) -> Result<Value, Failed> {
    let seconds = match query.get("for") {
        None => DEFAULT,
        Some(text) => match text.parse::<u64>() {
            Ok(seconds @ 1..=LONGEST) => seconds,
            _ => {
                let text = format!("`for` is `{text}`, expected seconds from 1 to {LONGEST}");
                return Err(((400, "for_invalid", text), vec![]));
            }
        },
    };
    match active.bans.exempt(&active.plan, None, client) {
        Some(exempt @ (Exempt::Proxy | Exempt::Own)) => {
            return Err(((409, "never_banned", format!("{client} is never banned: it is {exempt}")), vec![]));
        }
        Some(exempt) if !query.says("force").map_err(invalid)? => {
            let text = format!("{client} is not banned by mistake: it is {exempt} (`--force` bans it all the same)");
            return Err(((409, "inside", text), vec![]));
        }
        _ => {}
    }
    let reason = query.get("reason").unwrap_or_default();
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON).collect();
    let now = unix_time();
    tracing::warn!(client = client.to_string(), seconds, reason, "client is banned by hand");
    state.bans.ban(client, Cause { offence: None, text: reason.into() }, seconds, now);
    let until = now.saturating_add(seconds);
    Ok(saved(state, json!({"client": client.to_string(), "until": until, "left": seconds, "changed": true})))
}

fn lift(state: &Arc<State>, client: Client) -> Value {
    let lifted = state.bans.lift(Some(client), unix_time());
    if lifted > 0 {
        tracing::warn!(client = client.to_string(), "ban is lifted by hand");
    }
    saved(state, json!({"client": client.to_string(), "lifted": lifted, "changed": lifted > 0}))
}

/// Adds whether it will survive this process.
fn saved(state: &Arc<State>, mut value: Value) -> Value {
    let writes = Arc::clone(state);
    let unsaved = bans::save(move || writes.bans.write());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("saved".to_owned(), unsaved.is_none().into());
        if let Some(why) = unsaved {
            tracing::warn!(why, "the ban will not survive this process");
            fields.insert("warning".to_owned(), format!("it will not survive this process: {why}").into());
        }
    }
    value
}

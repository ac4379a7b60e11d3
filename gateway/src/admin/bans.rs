//! Bans, as the admin listener tells, pronounces and lifts them. Whom a gateway has seen is nobody's business: reading takes what writing takes.

use std::sync::Arc;

use probegate_policies::ban::{Ban, Cause, Client};
use serde_json::{Value, json};

use super::control::{Failed, invalid};
use super::query::Query;
use crate::bans::{self, Exempt, LONGEST, file};
use crate::plan::BY_HAND;
use crate::state::{Active, State, unix_time};

/// How long a ban by hand lasts where nothing is said: a day, in seconds.
const DEFAULT: u64 = 86_400;

/// The longest reason that is kept, in characters.
const REASON: usize = 200;

/// What is below `/bans`: a list, or a client. `None`: nothing is there for this method.
pub(super) fn answer(
    state: &Arc<State>,
    active: &Active,
    method: &[u8],
    below: &[&str],
    query: &Query,
) -> Option<Result<Value, Failed>> {
    Some(match (method, below) {
        (b"GET" | b"HEAD", []) => Ok(list(state, active)),
        (b"DELETE", []) => {
            let lifted = state.bans.lift_all(unix_time());
            tracing::warn!(lifted, "all bans are lifted by hand");
            Ok(saved(state, json!({"lifted": lifted, "changed": lifted > 0})))
        }
        (b"GET" | b"HEAD", [text]) => client(text).map(|client| why(state, active, client)),
        (b"PUT", [text]) => client(text).and_then(|client| add(state, active, client, query)),
        (b"DELETE", [text]) => client(text).map(|client| lift(state, client)),
        _ => return None,
    })
}

fn client(text: &str) -> Result<Client, Failed> {
    file::client(text).ok_or_else(|| {
        let text = format!("`{text}` is not an address that can be banned, such as `203.0.113.9` or `2001:db8::1`");
        ((400, "address_invalid", text), vec![])
    })
}

fn list(state: &State, active: &Active) -> Value {
    let now = unix_time();
    let mut all = Vec::new();
    for (name, shadow, jail) in policies(state, active) {
        all.extend(jail.list(now).iter().map(|(client, ban)| told(name, shadow, *client, ban, now)));
    }
    json!({"bans": all})
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
    state.bans.by_hand().ban(client, Cause { offence: None, text: reason.into() }, seconds, now);
    state.bans.changed();
    let until = now.saturating_add(seconds);
    Ok(saved(state, json!({"client": client.to_string(), "until": until, "left": seconds, "changed": true})))
}

fn lift(state: &Arc<State>, client: Client) -> Value {
    let lifted = state.bans.lift(client, unix_time());
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

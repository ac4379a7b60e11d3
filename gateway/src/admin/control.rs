//! Services and their switches, as the admin listener tells and turns them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::guard::{self, Refused};
use super::status;
use crate::local::{Page, Request};
use crate::state::{Active, State, unix_time};
use crate::switches::{InMaintenance, Turned};

/// The longest time that clients can be told to stay away: a year, in seconds.
const LONGEST: u64 = 366 * 86_400;

/// The page below `/services`; `None`: it is not there.
pub(super) fn page(state: &State, address: SocketAddr, request: &Request<'_>) -> Option<Page> {
    let path = std::str::from_utf8(request.path).ok()?;
    let parts: Vec<String> = path.strip_prefix('/')?.split('/').map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
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
            allowed(state, address, request, || maintenance(state, &active, service, to.then_some(request.query)))
        }
        (b"PUT" | b"DELETE", [service, "servers", server, "drain"]) => {
            allowed(state, address, request, || drain(state, &active, service, server, to, request.query))
        }
        (_, [] | [_] | [_, "maintenance"] | [_, "servers", _, "drain"]) => {
            refusal(&(405, "method_not_allowed", "the method is not allowed here".to_owned()), &[])
        }
        _ => return None,
    })
}

/// What went wrong, and the names that would have been right.
type Failed = (Refused, Vec<String>);

fn allowed(
    state: &State,
    address: SocketAddr,
    request: &Request<'_>,
    turn: impl FnOnce() -> Result<Value, Failed>,
) -> Page {
    if !state.is_open() || state.is_handed_over() {
        // The other process may write its own switches at this moment.
        let text = "processes change at this moment: ask again".to_owned();
        return refusal(&(503, "handing_over", text), &[]);
    }
    let active = state.active();
    if let Err(refused) = guard::judge(request, address, active.plan.admin_token.as_deref(), unix_time()) {
        tracing::warn!(reason = refused.1, "a switch was not turned");
        return refusal(&refused, &[]);
    }
    match turn() {
        Ok(value) => answer(200, &value),
        Err((refused, known)) => refusal(&refused, &known),
    }
}

/// `to`: the query of the request that asks for it; `None`: it ends.
fn maintenance(state: &State, active: &Active, service: &str, to: Option<&[u8]>) -> Result<Value, Failed> {
    let switches = &state.switches;
    let known = active.plan.services.iter().any(|known| &*known.name == service);
    // One of a service that is not there any more can be turned off.
    if !known && (to.is_some() || switches.in_maintenance(service).is_none()) {
        return Err((unknown_service(active, service), names(active)));
    }
    let to = match to {
        None => None,
        Some(query) => {
            let retry_after = match parameter(query, "retry_after") {
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

fn drain(state: &State, active: &Active, service: &str, server: &str, to: bool, query: &[u8]) -> Result<Value, Failed> {
    let switches = &state.switches;
    let found = active.plan.services.iter().find(|known| &*known.name == service);
    let known = found.is_some_and(|service| service.upstream.servers.iter().any(|known| &*known.label == server));
    if !known && (to || !switches.is_drained(service, server)) {
        let Some(found) = found else { return Err((unknown_service(active, service), names(active))) };
        let text = format!("service `{service}` has no server `{server}`");
        let labels = found.upstream.servers.iter().map(|server| server.label.to_string());
        return Err(((404, "unknown_server", text), labels.collect()));
    }
    if to
        && parameter(query, "force").is_none()
        && let Some(found) = found
        && found
            .upstream
            .servers
            .iter()
            .all(|known| &*known.label == server || switches.is_drained(service, &known.label))
    {
        let text = format!("`{server}` is the last server of `{service}` that is not drained: nobody would answer");
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

/// The value of a parameter of the query; empty where it has none.
fn parameter(query: &[u8], name: &str) -> Option<String> {
    let query = std::str::from_utf8(query).ok()?;
    let parameters = query.split('&').map(|part| part.split_once('=').unwrap_or((part, "")));
    parameters.filter(|(key, _)| *key == name).find_map(|(_, value)| decode(value))
}

/// Text behind percent signs (RFC 3986 §2.1). `None`: it is none.
fn decode(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                bytes.push(digit(*high)? << 4 | digit(*low)?);
                tail
            }
            (b'%', _) => return None,
            (byte, tail) => {
                bytes.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_servers_come_through_a_path() {
        assert_eq!(decode("unix%3A%2Frun%2Fapp.sock").as_deref(), Some("unix:/run/app.sock"));
        assert_eq!(decode("127.0.0.1:8000").as_deref(), Some("127.0.0.1:8000"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
        assert_eq!(parameter(b"force&retry_after=60", "retry_after").as_deref(), Some("60"));
        assert_eq!(parameter(b"force&retry_after=60", "force").as_deref(), Some(""));
        assert_eq!(parameter(b"", "force"), None);
    }
}

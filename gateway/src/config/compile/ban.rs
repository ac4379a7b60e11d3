//! Bans by name.

use std::sync::Arc;
use std::time::Duration;

use probegate_policies::ban::{Escalation, Ledger};
use probegate_policies::route::PathPrefix;

use super::{Context, Definitions, names, network};
use crate::config::shape::{List, Named};
use crate::config::value::{Count, DenyWord, Flag, Leaf, Method, ModeWord, Name, OffenceStatus, Seconds};
use crate::config::{ConfigPath, lint, raw, suggest};
use crate::plan;

/// fail2ban's numbers.
const MAX_OFFENCES: usize = 5;
const WINDOW: Duration = Duration::from_secs(600);
const TIME: Duration = Duration::from_secs(600);
const MULTIPLIERS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
const REMEMBER: Duration = Duration::from_secs(86_400);

/// Each one that holds somebody is a look for each request.
const MAX_POLICIES: usize = 64;

/// Clients that a policy remembers by default: up to 20 MB in a flood.
const MAX_CLIENTS: usize = 65_536;

/// The bans, in the order of the text. `services`: their names, in the order of the text.
pub(super) fn bans(
    raw: Option<Named<raw::Ban>>,
    definitions: &Definitions,
    limits: &[plan::Limit],
    services: &[Box<str>],
    cx: &mut Context<'_>,
) -> Vec<plan::BanPolicy> {
    let mut bans = Vec::new();
    let raw = raw.unwrap_or_default();
    if raw.names().len() > MAX_POLICIES {
        let path = ConfigPath::root().key("bans");
        cx.error(&path, format!("there are more than {MAX_POLICIES} bans"), "each one costs every request a look");
    }
    for (name, ban) in raw {
        let path = ConfigPath::root().key("bans").key(&name);
        names::check(&name, &path, cx);
        if &*name == plan::BY_HAND {
            let message = format!("`{name}` is what bans are called that people pronounce");
            cx.key_error(&path, message, "choose another name");
        }
        bans.extend(ban.and_then(|ban| compile(&name, ban, &path, definitions, limits, services, cx)));
    }
    bans
}

fn compile(
    name: &str,
    raw: raw::Ban,
    path: &ConfigPath,
    definitions: &Definitions,
    limits: &[plan::Limit],
    known: &[Box<str>],
    cx: &mut Context<'_>,
) -> Option<plan::BanPolicy> {
    let raw::Ban {
        offences,
        methods,
        paths,
        services,
        max_offences,
        window,
        time,
        multipliers,
        remember,
        mode,
        deny,
        except,
        max_clients,
    } = raw;
    let methods = no_empty(methods, path, "methods", "the ban would count nothing", cx);
    let paths = no_empty(paths, path, "paths", "the ban would count nothing", cx);
    let services = no_empty(services, path, "services", "the ban would keep nobody out", cx);
    let services = services.map(|list| indices(list, &path.key("services"), known, cx));
    let max_offences = cx.number(max_offences, path, "max_offences", 1..=Ledger::MOST, MAX_OFFENCES);
    let window = seconds(window, path, "window", WINDOW, cx);
    let time = seconds(time, path, "time", TIME, cx);
    let multipliers = compile_multipliers(multipliers, path, cx);
    let remember = remember.map_or(REMEMBER, |Leaf(Seconds(time))| time);
    let shadow = mode.is_none_or(|Leaf(mode)| mode == ModeWord::Shadow);
    let deny = deny.map_or(plan::Deny::Forbidden, |Leaf(DenyWord(deny))| deny);
    let max_clients = cx.number(max_clients, path, "max_clients", 1..=1 << 24, MAX_CLIENTS);
    let except = exceptions(except, &path.key("except"), definitions, cx);
    let offences = cx.required(offences, path, "offences", "offences: {wrong_token: true}")?;
    let offences = compile_offences(offences, &path.key("offences"), cx);
    lint::offences(&offences, definitions, limits, &path.key("offences"), cx);
    if !shadow && paths.is_none() {
        lint::honest(&offences, max_offences, path, cx);
    }
    Some(plan::BanPolicy {
        name: name.into(),
        offences,
        methods: methods.into_iter().flatten().map(|(_, Leaf(Method(method)))| method).collect(),
        paths: paths.into_iter().flatten().map(|(_, Leaf(path)): (_, Leaf<PathPrefix>)| path).collect(),
        services,
        max_offences,
        window,
        escalation: Escalation::new(time, multipliers),
        remember,
        shadow,
        deny,
        max_clients,
        except,
        origin: cx.origin(path),
    })
}

fn compile_offences(raw: raw::Offences, path: &ConfigPath, cx: &mut Context<'_>) -> plan::Offences {
    let raw::Offences { denied, wrong_token, limited, invalid, unknown_host, status } = raw;
    let broken = ["denied", "wrong_token", "limited", "invalid", "unknown_host", "status"]
        .iter()
        .any(|key| cx.is_broken(&path.key(key)));
    let is = |flag: Option<Leaf<Flag>>| flag.is_some_and(|Leaf(Flag(is))| is);
    let written = status.as_ref().is_some_and(|list| !list.is_empty());
    let statuses = status.into_iter().flatten().map(|(_, Leaf(OffenceStatus(status)))| status).collect();
    let offences = plan::Offences {
        denied: is(denied),
        wrong_token: is(wrong_token),
        limited: is(limited),
        invalid: is(invalid),
        unknown_host: is(unknown_host),
        statuses,
    };
    if offences == plan::Offences::default() && !written && !broken {
        cx.error(
            path,
            "nothing counts as an offence",
            "write at least one, such as `wrong_token: true` or `status: [404]`",
        );
    }
    offences
}

/// Whole seconds, at least one.
fn seconds(
    raw: Option<Leaf<Seconds>>,
    path: &ConfigPath,
    key: &str,
    default: Duration,
    cx: &mut Context<'_>,
) -> Duration {
    let Some(Leaf(Seconds(time))) = raw else { return default };
    if time.as_secs() == 0 || time.subsec_nanos() != 0 {
        cx.error(&path.key(key), format!("`{key}` is not a number of whole seconds"), "write at least `1s`");
        return default;
    }
    time
}

fn compile_multipliers(raw: Option<List<Leaf<Count>>>, path: &ConfigPath, cx: &mut Context<'_>) -> Vec<u32> {
    let Some(raw) = raw else { return MULTIPLIERS.to_vec() };
    let path = path.key("multipliers");
    if raw.is_empty() {
        cx.error(&path, "`multipliers` is empty", "write `[1]` for bans that are all alike");
    }
    let mut multipliers = Vec::new();
    for (index, Leaf(Count(number))) in raw {
        match u32::try_from(number) {
            Ok(number @ 1..=100_000) => multipliers.push(number),
            _ => {
                let message = format!("`{number}` is no multiplier, expected a number from 1 to 100000");
                cx.error(&path.index(index), message, "the default is `[1, 2, 4, 8, 16, 32, 64]`");
            }
        }
    }
    multipliers
}

fn indices(raw: List<Leaf<Name>>, path: &ConfigPath, known: &[Box<str>], cx: &mut Context<'_>) -> Vec<usize> {
    let mut indices = Vec::new();
    // Without any, that is what has been reported.
    if known.is_empty() {
        return indices;
    }
    for (position, Leaf(Name(name))) in raw {
        match known.iter().position(|known| *known == name) {
            Some(index) => indices.push(index),
            None => {
                let names = known.iter().map(|name| &**name);
                let hint = suggest::hint(&name, names, "the services are").unwrap_or_default();
                cx.error(&path.index(position), format!("service `{name}` is not defined"), hint);
            }
        }
    }
    indices
}

/// Whoever is inside is never banned, nor who is named.
fn exceptions(
    raw: Option<List<Leaf<Name>>>,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Vec<(Box<str>, Arc<probegate_policies::ip::IpSet>)> {
    let written = raw.into_iter().flatten().map(|(index, Leaf(Name(name)))| (path.index(index), name));
    let internal = (path.clone(), network::INTERNAL.into());
    let mut except: Vec<(Box<str>, _)> = Vec::new();
    for (path, name) in std::iter::once(internal).chain(written) {
        if let Some(network) = definitions.networks.find(&name, &path, cx)
            && !except.iter().any(|(known, _)| *known == name)
        {
            except.push((name, Arc::clone(&network.set)));
        }
    }
    except
}

fn no_empty<T>(
    list: Option<List<T>>,
    path: &ConfigPath,
    key: &str,
    effect: &str,
    cx: &mut Context<'_>,
) -> Option<List<T>> {
    if list.as_ref().is_some_and(List::is_empty) {
        cx.error(&path.key(key), format!("`{key}` is empty: {effect}"), "remove the key to mean all");
    }
    list
}

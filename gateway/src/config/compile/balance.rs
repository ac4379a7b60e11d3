//! The servers of an app: who is chosen, who is left out, what waits and what is sent again.

use std::time::Duration;

use probegate_policies::ejection::Terms;
use probegate_policies::retry::Share;

use super::Context;
use crate::config::shape::{List, Toggle};
use crate::config::value::{
    BalanceWord, CookieName, Count, FailureStatus, FieldText, Flag, Leaf, Percent, RetryMethod, RetryWord, Seconds,
    ServerWord,
};
use crate::config::{ConfigPath, raw};
use crate::plan::{Balancing, Choice, HashKey, Methods, Queue, Retries, Server, Upstream};

/// The keys of an upstream about all of its servers.
pub(super) struct Written {
    pub(super) balance: Option<raw::Balance>,
    pub(super) max_fails: Option<Leaf<Count>>,
    pub(super) fail_timeout: Option<Leaf<Seconds>>,
    pub(super) slow_start: Option<Leaf<Seconds>>,
    pub(super) fail_on: Option<List<Leaf<FailureStatus>>>,
    pub(super) queue: Option<Toggle<raw::Queue>>,
    pub(super) retries: Option<Toggle<raw::Retries>>,
}

/// What is special about one server.
pub(super) struct Special {
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) max_in_flight: Option<u32>,
}

/// One server as it is written.
pub(super) fn server(raw: raw::Server, path: &ConfigPath, cx: &mut Context<'_>) -> Option<(ServerWord, Special)> {
    let raw = match raw {
        raw::Server::Word(word) => {
            return Some((word, Special { weight: 1, backup: false, max_in_flight: None }));
        }
        raw::Server::Detailed(details) => *details,
    };
    let raw::ServerDetails { address, weight, backup, max_in_flight } = raw;
    if matches!(weight, Some(Leaf(Count(0)))) {
        let hint = "leave the server out of the list, or drain it while the gateway runs";
        cx.error(&path.key("weight"), "a server with a `weight` of zero would never be asked", hint);
    }
    let weight = weight.filter(|Leaf(Count(weight))| *weight > 0);
    let weight = cx.number(weight, path, "weight", 1..=1000, 1);
    let most = max_in_flight.is_some().then(|| cx.number(max_in_flight, path, "max_in_flight", 1..=1_000_000, 1));
    let Leaf(word) = cx.required(address, path, "address", "address: \"127.0.0.1:8000\"")?;
    let special = Special {
        weight: u32::try_from(weight).unwrap_or(1),
        backup: backup.is_some_and(|Leaf(Flag(backup))| backup),
        max_in_flight: most.and_then(|most| u32::try_from(most).ok()),
    };
    Some((word, special))
}

/// What is said about all of them.
pub(super) fn balancing(raw: Written, servers: &[Server], path: &ConfigPath, cx: &mut Context<'_>) -> Balancing {
    let Written { balance, max_fails, fail_timeout, slow_start, fail_on, queue, retries } = raw;
    several(servers, path, cx);
    let alone = servers.len() == 1;
    for (key, said) in [
        ("balance", balance.is_some()),
        ("max_fails", max_fails.is_some()),
        ("fail_timeout", fail_timeout.is_some()),
        ("slow_start", slow_start.is_some()),
        ("fail_on", fail_on.is_some()),
    ] {
        if alone && said {
            let message = format!("`{key}` has no effect: there is only one server, which is always asked");
            cx.lint(&path.key(key), message, "remove it, or add servers");
        }
    }
    let choice = choice(balance, &path.key("balance"), cx);
    if matches!(choice, Choice::Hash(_)) && slow_start.is_some() {
        let message = "`slow_start` has no effect with `hash`: keys would move away and back";
        cx.lint(&path.key("slow_start"), message, "remove it");
    }
    Balancing {
        choice,
        terms: terms(max_fails, fail_timeout, path, cx),
        slow_start: slow_start.map_or(Duration::ZERO, |Leaf(Seconds(time))| time),
        fail_on: fail_on.into_iter().flatten().map(|(_, Leaf(FailureStatus(status)))| status).collect(),
        queue: self::queue(queue, servers, &path.key("queue"), cx),
        retries: self::retries(retries, alone, &path.key("retries"), cx),
    }
}

/// What holds for the list as a whole.
fn several(servers: &[Server], path: &ConfigPath, cx: &mut Context<'_>) {
    let path = path.key("servers");
    if servers.len() > Upstream::MOST {
        let message = format!("{} servers are more than the {} that are allowed", servers.len(), Upstream::MOST);
        cx.error(&path, message, "let one name stand for several addresses");
    }
    if !servers.is_empty() && servers.iter().all(|server| server.backup) {
        cx.error(&path, "every server is a backup: there is nothing that they stand in for", "remove `backup` at one");
    }
    if let [server] = servers
        && server.weight != 1
    {
        cx.lint(&path, "`weight` has no effect: there is only one server", "remove it, or add servers");
    }
}

fn choice(raw: Option<raw::Balance>, path: &ConfigPath, cx: &mut Context<'_>) -> Choice {
    let hash = match raw {
        None | Some(raw::Balance::Word(BalanceWord::LeastInFlight)) => return Choice::LeastInFlight,
        Some(raw::Balance::Word(BalanceWord::RoundRobin)) => return Choice::RoundRobin,
        Some(raw::Balance::Hash(raw::HashOn { hash })) => hash,
    };
    let Some(hash) = cx.required(hash, path, "hash", "hash: client_ip") else { return Choice::LeastInFlight };
    hash_key(hash, &path.key("hash"), cx).map_or(Choice::LeastInFlight, Choice::Hash)
}

/// What requests have in common. `None`: it is broken.
pub(super) fn hash_key(raw: raw::HashKey, path: &ConfigPath, cx: &mut Context<'_>) -> Option<HashKey> {
    let name = match raw {
        raw::HashKey::ClientIp => return Some(HashKey::ClientIp),
        raw::HashKey::Named(name) => name,
    };
    match name {
        raw::HashName { header: Some(Leaf(FieldText { text, .. })), cookie: None } => Some(HashKey::Header(text)),
        raw::HashName { header: None, cookie: Some(Leaf(CookieName(name))) } => Some(HashKey::Cookie(name)),
        raw::HashName { header, .. } => {
            let broken = cx.is_broken(&path.key("header")) || cx.is_broken(&path.key("cookie"));
            if !broken {
                let key = path.last_key().unwrap_or_default();
                let message = if header.is_some() {
                    "one of `header` and `cookie` is too many".to_owned()
                } else {
                    format!("`{key}` is empty")
                };
                cx.error(path, message, "write `{cookie: sessionid}` or `{header: X-Session}`");
            }
            None
        }
    }
}

fn terms(
    max_fails: Option<Leaf<Count>>,
    fail_timeout: Option<Leaf<Seconds>>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Terms {
    let default = Terms::default();
    let max_fails = cx.number(max_fails, path, "max_fails", 0..=1_000_000, 1);
    let fail_timeout = match fail_timeout {
        Some(Leaf(Seconds(Duration::ZERO))) => {
            let message = "`fail_timeout` of zero would leave no server out";
            cx.error(&path.key("fail_timeout"), message, "write `max_fails: 0` if that is meant");
            default.fail_timeout
        }
        Some(Leaf(Seconds(time))) => time,
        None => default.fail_timeout,
    };
    Terms { max_fails: u32::try_from(max_fails).unwrap_or(default.max_fails), fail_timeout }
}

fn queue(raw: Option<Toggle<raw::Queue>>, servers: &[Server], path: &ConfigPath, cx: &mut Context<'_>) -> Queue {
    let default = Queue::default();
    let raw::Queue { max, timeout } = match raw {
        None => return default,
        Some(Toggle::Off) => raw::Queue { max: Some(Leaf(Count(0))), timeout: None },
        Some(Toggle::On(raw)) => raw,
    };
    if !servers.is_empty() && servers.iter().all(|server| server.max_in_flight.is_none()) {
        let hint = "write `{address: …, max_in_flight: 8}` in place of a server";
        cx.error(path, "nothing ever waits in this `queue`: no server has `max_in_flight`", hint);
    }
    Queue {
        max: cx.number(max, path, "max", 0..=1_000_000, default.max),
        timeout: cx.deadline(timeout, path, "timeout", default.timeout),
    }
}

fn retries(raw: Option<Toggle<raw::Retries>>, alone: bool, path: &ConfigPath, cx: &mut Context<'_>) -> Retries {
    let default = Retries::default();
    let raw::Retries { attempts, budget, min_per_second, methods, on } = match raw {
        None => return default,
        Some(Toggle::Off) => return Retries { attempts: 0, ..default },
        Some(Toggle::On(raw)) => raw,
    };
    if alone && on.as_ref().is_some_and(|on| !on.is_empty()) {
        let message = "`on` has no effect: there is no other server";
        cx.lint(&path.key("on"), message, "remove it, or add servers");
    }
    let on: Vec<RetryWord> = on.into_iter().flatten().map(|(_, Leaf(word))| word).collect();
    if methods.as_ref().is_some_and(List::is_empty) {
        let message = "`methods` is empty: nothing that was sent would be sent again";
        cx.error(&path.key("methods"), message, "write `retries: off` if that is meant");
    }
    let methods: Option<Vec<_>> =
        methods.map(|methods| methods.into_iter().map(|(_, Leaf(RetryMethod(name)))| name).collect());
    let second = cx.number(min_per_second, path, "min_per_second", 0..=1_000_000, 10);
    Retries {
        attempts: cx.number(attempts, path, "attempts", 0..=16, default.attempts),
        share: Share {
            percent: budget.map_or(default.share.percent, |Leaf(Percent(percent))| percent),
            min_per_second: u32::try_from(second).unwrap_or(default.share.min_per_second),
        },
        methods: methods.and_then(Methods::of).unwrap_or(default.methods),
        on_timeout: on.contains(&RetryWord::Timeout),
        on_status: on
            .iter()
            .filter_map(|word| if let RetryWord::Status(status) = word { Some(*status) } else { None })
            .collect(),
    }
}

//! Limits on requests in flight.

use std::time::Duration;

use probegate_policies::limit::Quota;
use probegate_policies::limit::places::MAX_COUNT;

use super::{compile_methods, key, prefixes};
use crate::config::compile::Context;
use crate::config::value::{Count, Flag, Leaf, ModeWord, TellingWord};
use crate::config::{ConfigPath, lint, raw};
use crate::plan::{self, Delay, InFlight, Telling, Tells};

/// Keys with requests in flight that a limit remembers by default: 2 MiB.
const MAX_KEYS: usize = 65_536;

/// Whether this is one.
pub(super) fn is_meant(raw: &raw::Limit, path: &ConfigPath, cx: &Context<'_>) -> bool {
    raw.max_in_flight.is_some() || cx.is_broken(&path.key("max_in_flight"))
}

/// Keys that only a limit on requests in flight has.
pub(super) fn only_here(raw: &raw::Limit, path: &ConfigPath, cx: &mut Context<'_>) {
    if raw.rate.is_none() {
        // That is missing is all there is to say.
        return;
    }
    for (key, _) in [("queue", raw.queue.is_some()), ("queue_timeout", raw.queue_timeout.is_some())]
        .into_iter()
        .filter(|(_, written)| *written)
    {
        let message = format!("a rate has no `{key}`: nobody waits for a place");
        cx.error(&path.key(key), message, "write `delay: all` to have requests wait, or `max_in_flight` for `rate`");
    }
}

/// Makes one.
pub(super) fn compile(name: &str, raw: raw::Limit, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::Limit> {
    strange(&raw, path, cx);
    let (v4_prefix, v6_prefix) = prefixes(raw.ipv4_prefix, raw.ipv6_prefix, path, cx);
    let max_keys = cx.number(raw.max_keys, path, "max_keys", 1..=1 << 22, MAX_KEYS);
    let parts = key::parts(raw.key, &path.key("key"), cx);
    let methods = compile_methods(raw.methods, &path.key("methods"), cx);
    let Leaf(Count(number)) = raw.max_in_flight?;
    let most = u32::try_from(number).ok().filter(|most| (1..=MAX_COUNT).contains(most));
    if most.is_none() {
        let message = format!("`max_in_flight` is `{number}`, expected a number from 1 to {MAX_COUNT}");
        let hint = if number == 0 { "deny with an access rule to let nobody in" } else { "write a smaller one" };
        cx.error(&path.key("max_in_flight"), message, hint);
    }
    if raw.queue_timeout.is_some() && raw.queue.is_none() && !cx.is_broken(&path.key("queue")) {
        let message = "nobody waits for so long: there is no `queue`";
        cx.error(&path.key("queue_timeout"), message, "write `queue: 10`, say, or remove it");
    }
    let queue = cx.number(raw.queue, path, "queue", 0..=65_536, 0);
    let timeout = cx.deadline(raw.queue_timeout, path, "queue_timeout", Duration::from_secs(5));
    let Leaf(TellingWord(when)) = raw.headers.unwrap_or(Leaf(TellingWord(Telling::Refused)));
    if when == Telling::Always {
        let message = "answers that pass do not say how many requests are in flight";
        cx.error(&path.key("headers"), message, "write `refused` or `never`");
    }
    let most = most?;
    let shadow = matches!(raw.mode, Some(Leaf(ModeWord::Shadow)));
    let key = plan::LimitKey { parts: parts.into(), v4_prefix, v6_prefix };
    lint::chosen(&key, shadow, path, cx);
    Some(plan::Limit {
        name: name.into(),
        rate: None,
        quota: Quota::at_a_time(most),
        delay: Delay::None,
        in_flight: Some(InFlight { most, queue, timeout }),
        key,
        methods,
        count: None,
        shadow,
        enforced: 100,
        tells: Tells { when, legacy: false },
        max_keys,
        show_keys: raw.show_keys.is_some_and(|Leaf(Flag(show))| show),
        shared: false,
        origin: cx.origin(path),
    })
}

/// Keys that only a rate has.
fn strange(raw: &raw::Limit, path: &ConfigPath, cx: &mut Context<'_>) {
    if raw.rate.is_some() {
        let message = "a limit has a `rate` or `max_in_flight`, not both";
        cx.error(&path.key("rate"), message, "make two limits of it, and name both");
    }
    let keys = [
        ("burst", raw.burst.is_some()),
        ("delay", raw.delay.is_some()),
        ("algorithm", raw.algorithm.is_some()),
        ("count", raw.count.is_some()),
        ("legacy_headers", raw.legacy_headers.is_some()),
        ("shared", raw.shared.is_some()),
        ("enforce", raw.enforce.is_some()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, written)| *written) {
        let message = format!("`max_in_flight` has no `{key}`: that is about a rate");
        let hint = if key == "delay" { "write `queue` to have requests wait for a place" } else { "remove it" };
        cx.error(&path.key(key), message, hint);
    }
}

//! Rate limits by name.

mod in_flight;
mod key;

use probegate_policies::limit::{Algorithm, Quota, Rate, window};

use super::{Context, Names};
use crate::config::shape::{List, Named};
use crate::config::value::{
    AlgorithmWord, Count, DelayWord, Flag, Leaf, Method, MethodsWord, ModeWord, Name, Percent, Status, TellingWord,
};
use crate::config::{ConfigPath, lint, raw};
use crate::plan::{self, Counted, Delay, Telling, Tells};

/// Keys that a limit remembers by default: 8 MiB at most.
const MAX_KEYS: usize = 262_144;

/// Nanoseconds that people, and what stands between them and here, do not wait for an answer.
const LONG_DELAY: u64 = 60 * 1_000_000_000;

/// The names, each with its index, and the limits.
pub(super) fn limits(raw: Option<Named<raw::Limit>>, cx: &mut Context<'_>) -> (Names<usize>, Vec<plan::Limit>) {
    let mut names = Names::new("limit", "limits", cx);
    let mut limits = Vec::new();
    for (name, limit) in raw.unwrap_or_default() {
        let path = ConfigPath::root().key("limits").key(&name);
        let limit = limit.and_then(|limit| compile(&name, limit, &path, cx));
        let index = limits.len();
        names.define(name, limit.as_ref().map(|_| index), cx);
        limits.extend(limit);
    }
    (names, limits)
}

fn compile(name: &str, raw: raw::Limit, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::Limit> {
    if in_flight::is_meant(&raw, path, cx) {
        return in_flight::compile(name, raw, path, cx);
    }
    in_flight::only_here(&raw, path, cx);
    let raw::Limit {
        key,
        rate,
        burst,
        delay,
        algorithm,
        methods,
        count,
        mode,
        enforce,
        headers,
        legacy_headers,
        ipv4_prefix,
        ipv6_prefix,
        max_keys,
        shared,
        show_keys,
        max_in_flight: _,
        queue: _,
        queue_timeout: _,
    } = raw;
    let (v4_prefix, v6_prefix) = prefixes(ipv4_prefix, ipv6_prefix, path, cx);
    let max_keys = cx.number(max_keys, path, "max_keys", 1..=1 << 28, MAX_KEYS);
    let parts = key::parts(key, &path.key("key"), cx);
    let methods = compile_methods(methods, &path.key("methods"), cx);
    let count = count.map(|count| counted(count, &path.key("count"), cx));
    let tells = compile_tells(headers, legacy_headers, path, cx);
    let Leaf(AlgorithmWord(algorithm)) = algorithm.unwrap_or(Leaf(AlgorithmWord(Algorithm::Gcra)));
    let delays = matches!(delay, Some(Leaf(DelayWord(Delay::After(_)))));
    if count.is_some() && delays {
        let message = "`delay` and `count` do not go together: when a request would have to wait, nobody knows yet whether it counts";
        cx.error(&path.key("delay"), message, "remove one of the two");
    }
    let shared = shared.is_some_and(|Leaf(Flag(shared))| shared);
    let Leaf(rate) = cx.required(rate, path, "rate", "rate: 10/s` or `max_in_flight: 4")?;
    let (quota, delay) = match algorithm {
        Algorithm::Gcra => exact(rate, burst, delay, path, cx),
        Algorithm::FixedWindow => (fixed(rate, burst.is_some(), delays, path, cx), Delay::None),
    };
    let shadow = matches!(mode, Some(Leaf(ModeWord::Shadow)));
    let enforced = compile_enforce(enforce, shadow, path, cx);
    let key = plan::LimitKey { parts: parts.into(), v4_prefix, v6_prefix };
    lint::chosen(&key, shadow, path, cx);
    Some(plan::Limit {
        name: name.into(),
        rate: Some(rate),
        quota,
        delay,
        in_flight: None,
        key,
        methods,
        count,
        shadow,
        enforced,
        tells,
        max_keys,
        show_keys: show_keys.is_some_and(|Leaf(Flag(show))| show),
        shared,
        origin: cx.origin(path),
    })
}

/// Bits that tell clients apart.
fn prefixes(v4: Option<Leaf<Count>>, v6: Option<Leaf<Count>>, path: &ConfigPath, cx: &mut Context<'_>) -> (u8, u8) {
    let v4 = cx.number(v4, path, "ipv4_prefix", 1..=32, 32);
    let v6 = cx.number(v6, path, "ipv6_prefix", 1..=128, 64);
    (u8::try_from(v4).unwrap_or(32), u8::try_from(v6).unwrap_or(64))
}

fn exact(
    rate: Rate,
    burst: Option<Leaf<Count>>,
    delay: Option<Leaf<DelayWord>>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> (Quota, Delay) {
    let burst = compile_burst(burst, &rate, path, cx);
    let delay = compile_delay(delay, burst, path, cx);
    let mut quota = Quota::new(rate, burst);
    if let Delay::After(undelayed) = delay {
        quota = quota.delaying(undelayed);
        if quota.longest_delay() > LONG_DELAY {
            let longest = quota.longest_delay().div_ceil(1_000_000_000);
            let message = format!("a client may have to wait {longest} seconds for an answer");
            let hint = "lower `burst`: whoever would wait for longer is told when to come back";
            cx.lint(&path.key("delay"), message, hint);
        }
    }
    (quota, delay)
}

fn fixed(rate: Rate, burst: bool, delay: bool, path: &ConfigPath, cx: &mut Context<'_>) -> Quota {
    for (key, _) in [("burst", burst), ("delay", delay)].into_iter().filter(|(_, written)| *written) {
        let message = format!("a fixed window has no `{key}`: the whole count may come at once");
        cx.error(&path.key(key), message, "remove it, or `algorithm: fixed_window`");
    }
    if rate.count > window::MAX_COUNT {
        let message = format!("a fixed window counts to {} at the most", window::MAX_COUNT);
        cx.error(&path.key("rate"), message, "write a shorter period, or remove `algorithm: fixed_window`");
    }
    Quota::fixed_window(rate)
}

fn compile_enforce(raw: Option<Leaf<Percent>>, shadow: bool, path: &ConfigPath, cx: &mut Context<'_>) -> u32 {
    let Some(Leaf(Percent(share))) = raw else { return 100 };
    if shadow {
        let message = "`enforce` and `mode: shadow` do not go together: in shadow mode nobody is refused";
        cx.error(&path.key("enforce"), message, "remove one of the two");
    } else if share == 0 {
        cx.error(&path.key("enforce"), "with `0%` nobody is refused", "write `mode: shadow` instead");
    }
    share
}

fn compile_methods(raw: Option<raw::Methods>, path: &ConfigPath, cx: &mut Context<'_>) -> Vec<Box<str>> {
    match raw {
        None | Some(raw::Methods::Word(MethodsWord::All)) => Vec::new(),
        Some(raw::Methods::Word(MethodsWord::Unsafe)) => ["DELETE", "PATCH", "POST", "PUT"].map(Into::into).into(),
        Some(raw::Methods::List(list)) => {
            if list.is_empty() {
                let hint = "remove the key to count every method";
                cx.error(path, "`methods` is empty: the limit would count nothing", hint);
            }
            list.into_iter().map(|(_, Leaf(Method(method)))| method).collect()
        }
    }
}

fn counted(raw: raw::Counted, path: &ConfigPath, cx: &mut Context<'_>) -> Counted {
    let raw::Counted { status } = raw;
    let mut statuses = Vec::new();
    if let Some(list) = cx.required(status, path, "status", "status: [401, 403]") {
        if list.is_empty() {
            cx.error(&path.key("status"), "the list is empty: nothing would count", "write `[401, 403]`, say");
        }
        statuses.extend(list.into_iter().map(|(_, Leaf(Status(status)))| status));
    }
    Counted { status: statuses }
}

fn compile_tells(
    headers: Option<Leaf<TellingWord>>,
    legacy: Option<Leaf<Flag>>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Tells {
    let Leaf(TellingWord(when)) = headers.unwrap_or(Leaf(TellingWord(Telling::Refused)));
    let legacy = legacy.is_some_and(|Leaf(Flag(legacy))| legacy);
    if legacy && when == Telling::Never {
        let message = "nobody would see `legacy_headers`: `headers` is `never`";
        cx.error(&path.key("legacy_headers"), message, "remove one of the two");
    }
    Tells { when, legacy }
}

fn compile_burst(raw: Option<Leaf<Count>>, rate: &Rate, path: &ConfigPath, cx: &mut Context<'_>) -> u32 {
    // As many at once as the rate allows in its period: what "5/m" says to most people.
    let default = rate.count.saturating_sub(1);
    let bounds = 0..=1_000_000;
    let burst = cx.number(raw, path, "burst", bounds, usize::try_from(default).unwrap_or(0));
    u32::try_from(burst).unwrap_or(default)
}

fn compile_delay(raw: Option<Leaf<DelayWord>>, burst: u32, path: &ConfigPath, cx: &mut Context<'_>) -> Delay {
    let Some(Leaf(DelayWord(delay))) = raw else { return Delay::None };
    if let Delay::After(undelayed) = delay
        && undelayed >= burst
    {
        let message = format!("nobody would wait: no more than {burst} requests are let in beyond the rate (`burst`)");
        cx.error(&path.key("delay"), message, "write a larger `burst`, or `delay: none`");
    }
    delay
}

/// The limits that a service or a route names.
pub(super) fn indices(
    raw: Option<List<Leaf<Name>>>,
    path: &ConfigPath,
    names: &Names<usize>,
    cx: &mut Context<'_>,
) -> Vec<usize> {
    let mut indices = Vec::new();
    for (position, Leaf(Name(name))) in raw.into_iter().flatten() {
        let path = path.index(position);
        match names.find(&name, &path, cx) {
            Some(index) if indices.contains(index) => {
                cx.error(
                    &path,
                    format!("limit `{name}` is named twice, and would count every request twice"),
                    "remove one of the two",
                );
            }
            Some(&index) => indices.push(index),
            None => {}
        }
    }
    indices
}

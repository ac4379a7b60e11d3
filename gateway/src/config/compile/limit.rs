//! Rate limits by name.

use probegate_policies::limit::{Quota, Rate};

use super::{Context, Names};
use crate::config::shape::{List, Named};
use crate::config::value::{Count, DelayWord, Flag, Leaf, LimitKeyWord, Method, Name};
use crate::config::{ConfigPath, raw};
use crate::plan;

/// Clients that a limit remembers by default: 4 MiB.
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
    let raw::Limit { key, rate, burst, delay, methods, ipv4_prefix, ipv6_prefix, max_keys, shared } = raw;
    let Leaf(LimitKeyWord::ClientIp) = key.unwrap_or(Leaf(LimitKeyWord::ClientIp));
    let v4_prefix = cx.number(ipv4_prefix, path, "ipv4_prefix", 1..=32, 32);
    let v6_prefix = cx.number(ipv6_prefix, path, "ipv6_prefix", 1..=128, 64);
    let max_keys = cx.number(max_keys, path, "max_keys", 1..=1 << 28, MAX_KEYS);
    let methods = compile_methods(methods, &path.key("methods"), cx);
    let Leaf(rate) = cx.required(rate, path, "rate", "rate: 10/s")?;
    let burst = compile_burst(burst, &rate, path, cx);
    let mut quota = Quota::new(rate, burst);
    let delay = compile_delay(delay, burst, path, cx);
    if let plan::Delay::After(undelayed) = delay {
        quota = quota.delaying(undelayed);
        if quota.longest_delay() > LONG_DELAY {
            let longest = quota.longest_delay().div_ceil(1_000_000_000);
            let message = format!("a client may have to wait {longest} seconds for an answer");
            cx.lint(
                &path.key("delay"),
                message,
                "lower `burst`: whoever would wait for longer is told when to come back",
            );
        }
    }
    Some(plan::Limit {
        name: name.into(),
        rate,
        quota,
        delay,
        key: plan::LimitKey::ClientIp {
            v4_prefix: u8::try_from(v4_prefix).ok()?,
            v6_prefix: u8::try_from(v6_prefix).ok()?,
        },
        methods,
        max_keys,
        shared: shared.is_some_and(|Leaf(Flag(shared))| shared),
        origin: cx.origin(path),
    })
}

fn compile_methods(raw: Option<List<Leaf<Method>>>, path: &ConfigPath, cx: &mut Context<'_>) -> Vec<Box<str>> {
    let Some(raw) = raw else { return Vec::new() };
    if raw.is_empty() {
        cx.error(path, "`methods` is empty: the limit would count nothing", "remove the key to count every method");
    }
    raw.into_iter().map(|(_, Leaf(Method(method)))| method).collect()
}

fn compile_burst(raw: Option<Leaf<Count>>, rate: &Rate, path: &ConfigPath, cx: &mut Context<'_>) -> u32 {
    // As many at once as the rate allows in its period: what "5/m" says to most people.
    let default = rate.count.saturating_sub(1);
    let bounds = 0..=1_000_000;
    let burst = cx.number(raw, path, "burst", bounds, usize::try_from(default).unwrap_or(0));
    u32::try_from(burst).unwrap_or(default)
}

fn compile_delay(raw: Option<Leaf<DelayWord>>, burst: u32, path: &ConfigPath, cx: &mut Context<'_>) -> plan::Delay {
    let Some(Leaf(DelayWord(delay))) = raw else { return plan::Delay::None };
    if let plan::Delay::After(undelayed) = delay
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

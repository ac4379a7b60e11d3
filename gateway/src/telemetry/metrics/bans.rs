//! What is counted of bans.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, family, float, gauge};
use crate::bans::Jail;
use crate::plan::BY_HAND;
use crate::state::{Active, State};

/// Everything about the bans of the plan in force, and those by hand.
pub(super) fn families(state: &State, active: &Active) -> Vec<MetricFamily> {
    let policies =
        active.plan.bans.iter().map(|policy| &*policy.name).zip(active.bans.jails().iter().map(|jail| &**jail));
    let jails: Vec<(&str, &Jail)> = policies.chain([(BY_HAND, state.bans.by_hand())]).collect();
    let labels = |name: &str, jail: &Jail| {
        let mode = if jail.is_shadow() { "shadow" } else { "enforce" };
        vec![("policy", name.to_owned()), ("mode", mode.to_owned())]
    };
    let counted = |name: &str, help: &str, of: &dyn Fn(&Jail) -> u64| {
        let each = jails.iter().map(|(name, jail)| counter(labels(name, jail), of(jail)));
        family(name, help, MetricType::COUNTER, each.collect())
    };
    let in_force = jails.iter().map(|(name, jail)| gauge(labels(name, jail), float(jail.doors().len() as u64)));
    let outbox = state.bans.outbox();
    let shares = active.store.as_ref().is_some_and(|store| store.plan().bans);
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let changes = [("sent", load(&outbox.sent)), ("received", load(&outbox.received))];
    let changes = changes.map(|(word, count)| counter(vec![("direction", word.to_owned())], count));
    let connected = gauge(vec![], f64::from(u8::from(outbox.connected.load(Ordering::Relaxed))));
    let mut families = vec![
        family("probegate_bans", "Clients that are banned, or would be.", MetricType::GAUGE, in_force.collect()),
        counted("probegate_bans_total", "Bans that were pronounced.", &|jail| {
            jail.stats().pronounced.load(Ordering::Relaxed)
        }),
        counted(
            "probegate_banned_requests_total",
            "Requests of banned clients: refused, or in shadow mode not.",
            &|jail| jail.stats().refused.load(Ordering::Relaxed),
        ),
        counted("probegate_ban_offences_total", "Offences that were counted.", &|jail| {
            jail.stats().offences.load(Ordering::Relaxed)
        }),
        counted(
            "probegate_ban_evictions_total",
            "Clients forgotten although they were banned or had offended lately, because there were too many.",
            &|jail| jail.evicted(),
        ),
        counted(
            "probegate_ban_contended_total",
            "Offences not counted because their place was being changed.",
            &|jail| jail.contended(),
        ),
    ];
    if shares {
        let (name, help) = ("probegate_ban_store_connected", "Whether bans are shared with other gateways just now.");
        families.push(family(name, help, MetricType::GAUGE, vec![connected]));
        let (name, help) = ("probegate_ban_store_changes_total", "Bans and lifts that gateways told each other.");
        families.push(family(name, help, MetricType::COUNTER, changes.into()));
    }
    families
}

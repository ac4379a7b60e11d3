//! What is counted of limits.

use std::sync::atomic::{AtomicU64, Ordering};

use probegate_policies::limit::places::Occupancy;
use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, family, float, gauge};
use crate::limiter::watch::Counts;
use crate::state::Active;

/// The counters of one limit. It keeps them over reloads.
#[derive(Debug, Default)]
pub struct LimitStats {
    /// Requests that it refused.
    pub refused: AtomicU64,
    /// Requests that it would have refused, if it did more than count.
    pub shadowed: AtomicU64,
    /// Requests that it had wait.
    delayed: AtomicU64,
    /// Those that wait now.
    waiting: AtomicU64,
}

impl LimitStats {
    /// Requests that it had wait so far, and those that wait now.
    pub fn waited(&self) -> (u64, u64) {
        (self.delayed.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed))
    }
}

/// A request that waits for a limit, for as long as this lives.
#[derive(Debug)]
pub struct Waiting<'a>(&'a LimitStats);

impl<'a> Waiting<'a> {
    /// Begins to wait.
    pub fn new(stats: &'a LimitStats) -> Self {
        stats.delayed.fetch_add(1, Ordering::Relaxed);
        stats.waiting.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Everything about the limits of the plan in force.
pub(super) fn families(active: &Active) -> Vec<MetricFamily> {
    let limits = || active.plan.limits.iter().map(|limit| limit.name.to_string());
    let counted = |name: &str, help: &str, of: &dyn Fn(&LimitStats) -> &AtomicU64| {
        let each = limits().zip(&active.limited);
        let each = each.map(|(limit, stats)| counter(vec![("limit", limit)], of(stats).load(Ordering::Relaxed)));
        family(name, help, MetricType::COUNTER, each.collect())
    };
    let watched = |of: fn(&Counts) -> u64| {
        let each = limits().zip(active.limiter.watches());
        each.map(|(limit, watch)| counter(vec![("limit", limit)], of(&watch.counts()))).collect()
    };
    let tables = || limits().zip(active.limiter.tables().iter().map(|table| table.stats()));
    let waiting = limits().zip(&active.limited);
    let waiting =
        waiting.map(|(limit, stats)| gauge(vec![("limit", limit)], float(stats.waiting.load(Ordering::Relaxed))));
    let rooms = || limits().zip(active.limiter.rooms()).filter_map(|(limit, room)| Some((limit, room.as_ref()?)));
    let occupied: Vec<_> = rooms().map(|(limit, room)| (limit, room.occupancy())).collect();
    let in_flight = |of: fn(&Occupancy) -> u64| {
        let each = occupied.iter().map(|(limit, room)| gauge(vec![("limit", limit.clone())], float(of(room))));
        each.collect()
    };
    vec![
        family(
            "probegate_limit_in_flight",
            "Requests in flight that a limit on them counts.",
            MetricType::GAUGE,
            in_flight(|room| room.requests),
        ),
        family(
            "probegate_limit_in_flight_keys",
            "Keys with requests in flight.",
            MetricType::GAUGE,
            in_flight(|room| room.keys),
        ),
        family(
            "probegate_limit_uncounted_total",
            "Requests let in uncounted because the table of a limit on requests in flight was full.",
            MetricType::COUNTER,
            rooms().map(|(limit, room)| counter(vec![("limit", limit)], room.uncounted())).collect(),
        ),
        family(
            "probegate_limit_requests_total",
            "Requests that a limit was asked about.",
            MetricType::COUNTER,
            watched(|counts| counts.judged),
        ),
        family(
            "probegate_limit_near_total",
            "Requests let in with less than a tenth left of what may come at once.",
            MetricType::COUNTER,
            watched(|counts| counts.near),
        ),
        counted("probegate_limited_total", "Requests refused by a limit.", &|stats| &stats.refused),
        counted("probegate_limit_shadow_total", "Requests that a limit in shadow mode would have refused.", &|stats| {
            &stats.shadowed
        }),
        counted("probegate_limit_delayed_total", "Requests that a limit had wait.", &|stats| &stats.delayed),
        family("probegate_limit_waiting", "Requests that wait for a limit now.", MetricType::GAUGE, waiting.collect()),
        family(
            "probegate_limit_evictions_total",
            "Keys forgotten while they still owed, because the table of the limit was full.",
            MetricType::COUNTER,
            tables().map(|(limit, stats)| counter(vec![("limit", limit)], stats.evicted_live)).collect(),
        ),
        family(
            "probegate_limit_contended_total",
            "Requests admitted uncounted because their place in the table was being changed.",
            MetricType::COUNTER,
            tables().map(|(limit, stats)| counter(vec![("limit", limit)], stats.contended)).collect(),
        ),
    ]
}

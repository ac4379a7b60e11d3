//! What happened with the store.
//!
//! The counters are shared by the workers: a call takes a thousand times as long as the fight for a cache line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::client::Failure;

/// Upper bounds of the classes of durations, in microseconds.
pub const BOUNDS: [u64; 9] = [250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Counters.
#[derive(Debug, Default)]
pub struct Stats {
    answered: AtomicU64,
    micros: AtomicU64,
    classes: [AtomicU64; BOUNDS.len()],
    failed: [AtomicU64; Failure::ALL.len()],
    opened: AtomicU64,
    decided: [AtomicU64; By::ALL.len()],
}

/// Who decided about a request on shared limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The store.
    Store,
    /// The gateway's own count, with its share of the limit.
    Local,
    /// Nobody: it passed.
    Open,
    /// Nobody: it was refused.
    Closed,
}

impl By {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Store, Self::Local, Self::Open, Self::Closed];

    /// One word for it: a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Local => "local",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl Stats {
    pub(super) fn answered(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        let class = BOUNDS.iter().position(|bound| micros <= *bound);
        if let Some(class) = class.and_then(|class| self.classes.get(class)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, kind: Failure) {
        if let Some(count) = self.failed.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was decided on.
    pub fn decided(&self, by: By) {
        if let Some(count) = self.decided.get(by as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls that were answered.
    pub fn answers(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Seconds that answers took, all together.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
    pub fn seconds(&self) -> f64 {
        self.micros.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Answers that took no longer than each of [`BOUNDS`].
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut below = 0;
        BOUNDS.iter().zip(&self.classes).map(move |(bound, class)| {
            below += class.load(Ordering::Relaxed);
            (*bound, below)
        })
    }

    /// Calls and attempts to connect that failed, by kind.
    pub fn failures(&self) -> impl Iterator<Item = (Failure, u64)> + '_ {
        Failure::ALL.into_iter().zip(self.failed.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// How often the breaker opened.
    pub fn openings(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Requests by who decided about them.
    pub fn decisions(&self) -> impl Iterator<Item = (By, u64)> + '_ {
        By::ALL.into_iter().zip(self.decided.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

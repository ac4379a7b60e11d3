//! How often: quotas, the arithmetic that applies them, and a table of fixed size that remembers who used what.
//!
//! Invariant: memory is bounded by the configuration and not by the number of clients, and no request is refused
//! because there are many other clients. Where the two meet, in a table that is full of debtors, the least indebted one
//! is forgotten (fail open for the least guilty, and counted).

mod cells;
pub mod gcra;
pub mod headers;
pub mod hot;
mod key;
pub mod places;
mod rate;
mod secret;
pub mod shared;
mod table;
pub mod window;
mod word;

pub use key::{Key, KeyBuilder, KeyPart, KeyParts, Seed, cookies, is_plain, query_values};
pub use rate::{InvalidRate, Rate};
pub use secret::{KeySecret, SharedKey};
pub use table::{Table, TableStats};

use crate::Now;

/// The longest time a bucket may need to refill, in nanoseconds: 146 years, so that no sum of a clock and a debt
/// overflows.
const MAX_WINDOW: u64 = 1 << 62;

/// A rate with room for bursts, ready to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: u64,
    limit: u32,
    window: u64,
    /// Nanoseconds of debt that keep nobody waiting.
    undelayed: u64,
    algorithm: Algorithm,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Exactly, without windows: [`gcra`].
    Gcra,
    /// In windows of the rate's period: [`window`].
    FixedWindow,
}

impl Quota {
    /// `rate` in the long run, and `burst` requests more than the first one at once. `burst` means what it means to
    /// nginx with `nodelay`.
    pub fn new(rate: Rate, burst: u32) -> Self {
        // A rate that was parsed divides to at least 1 µs; truncation lets through 0.1 % more at the very most.
        let interval = (rate.period / u64::from(rate.count.max(1))).clamp(1, MAX_WINDOW);
        let limit = burst.saturating_add(1);
        let window = interval.saturating_mul(limit.into()).min(MAX_WINDOW);
        Self { interval, limit, window, undelayed: u64::MAX, algorithm: Algorithm::Gcra }
    }

    /// As many requests as the rate says in every window of its period. A count beyond [`window::MAX_COUNT`] is that.
    pub fn fixed_window(rate: Rate) -> Self {
        Self {
            interval: (rate.period / u64::from(rate.count.max(1))).max(1),
            limit: rate.count.clamp(1, window::MAX_COUNT),
            window: rate.period.clamp(1_000_000_000, MAX_WINDOW),
            undelayed: u64::MAX,
            algorithm: Algorithm::FixedWindow,
        }
    }

    /// So many requests at a time, however long each takes. Nothing that is counted in a [`Table`]: see [`places`].
    pub const fn at_a_time(limit: u32) -> Self {
        Self { interval: 1, limit, window: 0, undelayed: u64::MAX, algorithm: Algorithm::Gcra }
    }

    /// How requests are counted.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Judges `quantity` requests at once of a key whose state is `state`. Gives the new state, or `None` where it does not change.
    #[inline]
    fn decide(&self, state: u64, now: Now, stagger: u32, quantity: u64) -> (Option<u64>, Decision) {
        match self.algorithm {
            Algorithm::Gcra => gcra::decide(state, now.nanos, self, quantity),
            Algorithm::FixedWindow => window::decide(state, now.unix, stagger, self, quantity),
        }
    }

    /// What states are compared with: one that is not larger is as good as none.
    #[inline]
    const fn clock(&self, now: Now) -> u64 {
        match self.algorithm {
            Algorithm::Gcra => now.nanos,
            Algorithm::FixedWindow => window::clock(now.unix),
        }
    }

    /// The state with one request less, which was charged a moment ago.
    #[inline]
    const fn refunded(&self, state: u64) -> u64 {
        match self.algorithm {
            Algorithm::Gcra => state.saturating_sub(self.interval),
            Algorithm::FixedWindow => window::refund(state),
        }
    }

    /// The state with one request less, whose charge left `charged` behind: what of it time has earned back since then is not given back once more.
    fn refunded_late(&self, state: u64, charged: u64, now: Now) -> u64 {
        match self.algorithm {
            Algorithm::Gcra => state.saturating_sub(self.interval.min(charged.saturating_sub(now.nanos))),
            Algorithm::FixedWindow if window::is_same(state, charged) => window::refund(state),
            Algorithm::FixedWindow => state,
        }
    }

    /// Who is admitted out of the burst waits until the rate would have let it through, except for the first `undelayed` requests beyond the rate: nginx's
    /// `delay=N`, and what it does without `nodelay` for 0.
    #[must_use]
    pub fn delaying(mut self, undelayed: u32) -> Self {
        self.undelayed = self.interval.saturating_mul(u64::from(undelayed) + 1);
        self
    }

    /// Nanoseconds that a request may have to wait at the most.
    pub const fn longest_delay(&self) -> u64 {
        self.window.saturating_sub(self.undelayed)
    }

    /// Whether a request that was admitted has left less than a tenth of what may come at once. Where that is one alone, it says nothing.
    #[inline]
    pub const fn is_near(&self, remaining: u32) -> bool {
        self.limit > 1 && (remaining as u64) * 10 < self.limit as u64
    }

    /// Requests that may come at once: the burst and one.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Nanoseconds in which one request is earned back.
    pub const fn interval(&self) -> u64 {
        self.interval
    }

    /// Nanoseconds in which an empty bucket fills up.
    pub const fn window(&self) -> u64 {
        self.window
    }
}

/// What a quota says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub admitted: bool,
    /// Requests that may follow at once.
    pub remaining: u32,
    /// Nanoseconds until the bucket is full again.
    pub reset: u64,
    /// Nanoseconds until the same request would be admitted; 0 when it was, [`u64::MAX`] when it never will be.
    pub retry_after: u64,
    /// Nanoseconds that it has to wait before it goes on, where it was admitted.
    pub delay: u64,
}

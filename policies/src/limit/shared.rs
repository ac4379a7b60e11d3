//! Limits that several gateways share: what one charge does to all buckets of a request, and what is left of a quota when every gateway is on its own.
//!
//! The store keeps one state for each bucket, as the table does: the moment at which it is full again or, with fixed windows, the end of the window and what was
//! counted in it. For all limits of a request at once it computes what each bucket has used now, and charges all of them or none. It answers with what was used
//! before the charge, and [`gcra::decide`] and [`window`] do the rest here: there is one arithmetic for both.
//!
//! Where answers decide whether requests count, the store is asked twice: whether there is room for those under way, which charges nothing ([`Charge::look`]), and
//! when the answer is known ([`Charge::late`]). In between other gateways may have let in others, so that such a bucket may owe more than it bears: what was
//! let in beyond the limit is paid off before anybody else is let in, and in the long run the limit holds.
//!
//! [`charge`] is what the store's script does, in Rust. The tests run both.

use super::window::{self, MOST, SECOND};
use super::{Algorithm, Decision, Key, Quota, gcra};

/// What a request charges one bucket with: nanoseconds or, with fixed windows, requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What has to fit, or else the request is refused. 0 refuses nobody: a limit that is only watched.
    pub asks: u64,
    /// What is charged, where it fits into `keeps`. 0 only looks.
    pub costs: u64,
    /// What `asks` has to fit into, together with what was used before.
    pub bears: u64,
    /// The most that the bucket can owe.
    pub keeps: u64,
    /// Seconds of a fixed window; 0: there are none.
    pub period: u64,
    /// At which of these seconds its windows end.
    pub stagger: u64,
}

impl Charge {
    /// One request. `refuses`: where there is no room for it, it is refused.
    pub fn of(quota: &Quota, refuses: bool) -> Self {
        let (unit, bears) = quota.units();
        let period = match quota.algorithm() {
            Algorithm::Gcra => 0,
            Algorithm::FixedWindow => quota.window() / SECOND,
        };
        Self { asks: if refuses { unit } else { 0 }, costs: unit, bears, keeps: bears, period, stagger: 0 }
    }

    /// Whether there is room for as many as are `under_way` here. They are charged later, if at all, by each of `gateways`.
    pub fn look(quota: &Quota, refuses: bool, under_way: u64, gateways: u32) -> Self {
        let this = Self::late(quota, gateways);
        Self { asks: if refuses { this.costs.saturating_mul(under_way) } else { 0 }, costs: 0, ..this }
    }

    /// One request that was let in, and counts as it has turned out. It may be more than the bucket bears, by what each of `gateways` let in.
    pub fn late(quota: &Quota, gateways: u32) -> Self {
        let this = Self::of(quota, false);
        let most = if this.period == 0 { super::MAX_WINDOW } else { MOST };
        Self { keeps: this.bears.saturating_mul(gateways.max(1).into()).min(most), ..this }
    }

    /// In the windows of this key, which has to have been built for the same quota.
    #[must_use]
    pub fn in_windows_of(self, key: Key) -> Self {
        Self { stagger: u64::from(key.stagger()).checked_rem(self.period).unwrap_or(0), ..self }
    }

    /// As the script takes it.
    pub const fn words(&self) -> [u64; 6] {
        [self.asks, self.costs, self.bears, self.keeps, self.period, self.stagger]
    }
}

/// What the store said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The first bucket that refused; `None`: the request was charged.
    pub refused: Option<usize>,
    /// All buckets before the charge.
    pub before: Vec<Used>,
}

/// What was used of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Nanoseconds of debt or, with fixed windows, requests.
    pub used: u64,
    /// Nanoseconds until the window is over; 0 where there are none.
    pub left: u64,
}

impl Answer {
    /// Reads what the script returns: the number of the bucket that refused, from 1, or 0; then two numbers for each. `None`: it is not for so many buckets.
    pub fn read(words: &[i64], buckets: usize) -> Option<Self> {
        let (refused, before) = words.split_first()?;
        let refused = usize::try_from(*refused).ok()?;
        let (before, []) = before.as_chunks::<2>() else { return None };
        if before.len() != buckets || refused > buckets {
            return None;
        }
        let used =
            |[used, left]: &[i64; 2]| Some(Used { used: u64::try_from(*used).ok()?, left: u64::try_from(*left).ok()? });
        Some(Self { refused: refused.checked_sub(1), before: before.iter().map(used).collect::<Option<_>>()? })
    }

    /// Whether the script can have said this to charges with these words. Whoever believed more would refuse a client for as long as somebody likes.
    pub fn fits(&self, words: &[u64]) -> bool {
        let (charges, rest) = words.as_chunks::<6>();
        rest.is_empty()
            && charges.len() == self.before.len()
            && charges.iter().zip(&self.before).all(|([_, _, _, keeps, period, _], before)| match period {
                // The script reckons with 53 bits of 62.
                0 => before.used <= keeps.saturating_add(1 << 10) && before.left == 0,
                period => before.left <= period.saturating_mul(SECOND),
            })
    }

    /// What the bucket with this index says to so many requests at once.
    pub fn decision(&self, index: usize, quota: &Quota, quantity: u64) -> Option<Decision> {
        self.before.get(index).map(|before| before.decide(quota, quantity))
    }

    /// What it says to the next one, where this one was charged.
    pub fn after(&self, index: usize, quota: &Quota) -> Option<Decision> {
        let after = |before: &Used| Used { used: before.used.saturating_add(quota.units().0), ..*before };
        self.before.get(index).map(|before| after(before).decide(quota, 1))
    }
}

impl Used {
    fn decide(self, quota: &Quota, quantity: u64) -> Decision {
        match quota.algorithm() {
            // Any moment does: only what lies between now and the end of the debt counts.
            Algorithm::Gcra => gcra::decide(self.used.saturating_add(1), 1, quota, quantity).1,
            Algorithm::FixedWindow => window::judge(self.used, self.left, quota, quantity),
        }
    }
}

/// What the script does, at `now` nanoseconds of the store's clock since the epoch: charges all buckets or, where one refuses, none. `states` holds the moments at
/// which the buckets are full again, or their windows as a table has them; 0 where there is none.
pub fn charge(states: &mut [u64], now: u64, charges: &[Charge]) -> Answer {
    let mut answer = Answer::default();
    let unix = now / SECOND;
    let end = |charge: &Charge| window::end(unix, charge.period, u32::try_from(charge.stagger).unwrap_or(0));
    for (index, (state, charge)) in states.iter_mut().zip(charges).enumerate() {
        let before = if charge.period == 0 {
            let mut debt = state.saturating_sub(now);
            if debt > charge.keeps {
                // No bucket owes more than that: the clock was set back, or the limit was made smaller.
                debt = charge.keeps;
                *state = now.saturating_add(debt);
            }
            Used { used: debt, left: 0 }
        } else {
            let end = end(charge);
            Used { used: window::counted(*state, end), left: ((end + 1) * SECOND).saturating_sub(now) }
        };
        if charge.asks > 0 && before.used.saturating_add(charge.asks) > charge.bears && answer.refused.is_none() {
            answer.refused = Some(index);
        }
        answer.before.push(before);
    }
    if answer.refused.is_none() {
        for ((state, charge), before) in states.iter_mut().zip(charges).zip(&answer.before) {
            let after = before.used.saturating_add(charge.costs);
            if charge.costs > 0 && after <= charge.keeps {
                *state = match charge.period {
                    0 => now.saturating_add(after),
                    _ => window::state(end(charge), after),
                };
            }
        }
    }
    answer
}

impl Quota {
    /// What one request costs, and what may be used at most: nanoseconds or, with fixed windows, requests.
    fn units(&self) -> (u64, u64) {
        match self.algorithm {
            Algorithm::Gcra => (self.interval, self.window),
            Algorithm::FixedWindow => (1, self.limit.into()),
        }
    }

    /// The share of one gateway of `gateways` that can not ask each other: the rate and the burst divided, but at least one request at a time. All
    /// of them together let pass what the limit says, and where there are more gateways than requests at once, one for each gateway.
    #[must_use]
    pub fn share(&self, gateways: u32) -> Self {
        let gateways = gateways.max(1);
        let interval = self.interval.saturating_mul(gateways.into()).min(super::MAX_WINDOW);
        let limit = (self.limit / gateways).max(1);
        if self.algorithm == Algorithm::FixedWindow {
            // In the windows that the whole has.
            return Self { interval, limit, ..*self };
        }
        let window = interval.saturating_mul(limit.into()).min(super::MAX_WINDOW);
        // Whoever waits, waits from the same part of the burst on.
        let undelayed = match self.undelayed {
            u64::MAX => u64::MAX,
            undelayed => interval.saturating_mul((undelayed / self.interval / u64::from(gateways)).max(1)),
        };
        Self { interval, limit, window, undelayed, ..*self }
    }
}

#[cfg(test)]
mod tests;

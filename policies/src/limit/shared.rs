//! Limits that several gateways share: what one charge does to all buckets of a request, and what is left of a quota when every gateway is on its own.
//!
//! The store keeps one moment for each bucket, as the table does. It computes, for all limits of a request at once, the debt that each bucket has now,
//! and charges all of them or none. It answers with the debts from before the charge, and [`gcra::decide`] does the rest here: there is one arithmetic for both.
//!
//! [`charge`] is what the store's script does, in Rust. The tests run both.

use super::{Decision, Quota, gcra};

/// What a request charges one bucket with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Nanoseconds that the request costs; 0 only looks.
    pub cost: u64,
    /// Nanoseconds of debt that the bucket bears.
    pub window: u64,
    /// The bucket refuses. One that does not is charged where there is room, and keeps nobody out: a limit that is only watched.
    pub refuses: bool,
}

impl Charge {
    /// One request.
    pub fn of(quota: &Quota, refuses: bool) -> Self {
        Self { cost: quota.interval(), window: quota.window(), refuses }
    }
}

/// What the store said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The first bucket that refused; `None`: the request was charged.
    pub refused: Option<usize>,
    /// The debts of all buckets before the charge, in nanoseconds.
    pub debts: Vec<u64>,
}

impl Answer {
    /// Reads what the script returns: the number of the bucket that refused, from 1, or 0; then the debts. `None`: it is not for so many buckets.
    pub fn read(words: &[i64], buckets: usize) -> Option<Self> {
        let (refused, debts) = words.split_first()?;
        let refused = usize::try_from(*refused).ok()?;
        if debts.len() != buckets || refused > buckets {
            return None;
        }
        let debts = debts.iter().map(|debt| u64::try_from(*debt).ok()).collect::<Option<_>>()?;
        Some(Self { refused: refused.checked_sub(1), debts })
    }

    /// What the bucket with this index says to the request.
    pub fn decision(&self, index: usize, quota: &Quota) -> Option<Decision> {
        // Any moment does: only what lies between now and the end of the debt counts.
        self.debts.get(index).map(|debt| gcra::decide(debt.saturating_add(1), 1, quota, 1).1)
    }
}

/// What the script does, at `now` nanoseconds of the store's clock: charges all buckets or, where one refuses, none. `tats` holds the moments at which
/// the buckets are full again, 0 where there is none.
pub fn charge(tats: &mut [u64], now: u64, charges: &[Charge]) -> Answer {
    let mut answer = Answer::default();
    for (index, (tat, charge)) in tats.iter_mut().zip(charges).enumerate() {
        let mut debt = tat.saturating_sub(now);
        if debt > charge.window {
            // No bucket owes more than all of it: the clock was set back, or the limit was made smaller.
            debt = charge.window;
            *tat = now.saturating_add(debt);
        }
        let is_over = debt.saturating_add(charge.cost) > charge.window;
        if is_over && charge.refuses && answer.refused.is_none() {
            answer.refused = Some(index);
        }
        answer.debts.push(debt);
    }
    if answer.refused.is_none() {
        for ((tat, charge), debt) in tats.iter_mut().zip(charges).zip(&answer.debts) {
            let after = debt.saturating_add(charge.cost);
            if charge.cost > 0 && after <= charge.window {
                *tat = now.saturating_add(after);
            }
        }
    }
    answer
}

impl Quota {
    /// The share of one gateway of `gateways` that can not ask each other: the rate and the burst divided, but at least one request at a time. All
    /// of them together let pass what the limit says, and where there are more gateways than requests at once, one for each gateway.
    #[must_use]
    pub fn share(&self, gateways: u32) -> Self {
        let gateways = gateways.max(1);
        let interval = self.interval.saturating_mul(gateways.into()).min(super::MAX_WINDOW);
        let limit = (self.limit / gateways).max(1);
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

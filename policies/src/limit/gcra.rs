//! The generic cell rate algorithm, as `throttled` and `redis-cell` compute it.
//!
//! The whole state of a bucket is one number, the theoretical arrival time (TAT): the moment at which it is full again.
//! Invariant: a TAT that is not in the future is worth as much as no state at all, which is what lets the table reuse
//! an entry without forgetting anything.

use super::{Decision, Quota};

/// Judges `quantity` requests at once against a bucket that is full again at `tat`.
///
/// Times are nanoseconds of one monotonic clock. Gives the new TAT, or `None` when the state does not change: on a
/// refusal, and for a quantity of 0, which only looks.
#[inline]
pub fn decide(tat: u64, now: u64, quota: &Quota, quantity: u64) -> (Option<u64>, Decision) {
    let cost = quota.interval().saturating_mul(quantity);
    // From now on, so that a TAT which another thread computed from a slightly later clock cannot underflow.
    let debt = tat.saturating_sub(now);
    let debt_after = debt.saturating_add(cost);
    if debt_after <= quota.window() {
        let decision = Decision {
            admitted: true,
            remaining: remaining(quota, debt_after),
            reset: debt_after,
            retry_after: 0,
            delay: debt_after.saturating_sub(quota.undelayed),
        };
        return ((quantity > 0).then(|| now.saturating_add(debt_after)), decision);
    }
    let retry_after = if cost > quota.window() { u64::MAX } else { debt_after - quota.window() };
    (None, Decision { admitted: false, remaining: remaining(quota, debt), reset: debt, retry_after, delay: 0 })
}

#[inline]
fn remaining(quota: &Quota, debt: u64) -> u32 {
    let whole = quota.window().saturating_sub(debt) / quota.interval();
    u32::try_from(whole).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

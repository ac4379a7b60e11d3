//! How often requests may be sent again: a part of what is sent anyway, so that an app in trouble is not asked twice as much.
//!
//! Counted in windows. A window allows a share of the requests that came in it or, until it has lasted as long, in the one before, and a
//! few in any case, so that a quiet service may retry, too.
//!
//! Invariant: no clock, and nothing is counted but when somebody asks: requests that are not sent again cost nothing here.

use std::time::Duration;

/// How long a window lasts.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Retries for a hundred requests.
    pub percent: u32,
    /// And so many a second in any case.
    pub min_per_second: u32,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    since: Duration,
    /// Requests up to `since`.
    before: u64,
    /// Requests that came in the window before this one.
    usual: u64,
    spent: u64,
}

impl Budget {
    /// Takes leave to send one more again; `requests` is how many were sent for the first time since the program began. `false`: that would be too many.
    pub fn take(&mut self, share: &Share, requests: u64, now: Duration) -> bool {
        let came = requests.saturating_sub(self.before);
        let passed = now.saturating_sub(self.since);
        if passed >= WINDOW {
            // Nobody may have asked for long: as many as came in a window on average.
            let usual = u128::from(came) * WINDOW.as_millis() / passed.as_millis().max(1);
            let usual = u64::try_from(usual).unwrap_or(came);
            *self = Self { since: now, before: requests, usual, spent: 0 };
        }
        let came = requests.saturating_sub(self.before).max(self.usual);
        let allowed = u64::from(share.min_per_second) * WINDOW.as_secs() + came * u64::from(share.percent) / 100;
        let taken = self.spent < allowed;
        self.spent += u64::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Share = Share { percent: 20, min_per_second: 1 };

    fn spend(budget: &mut Budget, requests: u64, now: u64) -> u64 {
        let mut spent = 0;
        while budget.take(&SHARE, requests, Duration::from_secs(now)) {
            spent += 1;
        }
        spent
    }

    #[test]
    fn a_quiet_service_may_retry_a_few() {
        let mut budget = Budget::default();
        assert_eq!(spend(&mut budget, 0, 0), 10);
        assert_eq!(spend(&mut budget, 0, 9), 0);
        assert_eq!(spend(&mut budget, 0, 10), 10);
    }

    #[test]
    fn a_busy_service_may_retry_its_share() {
        let mut budget = Budget::default();
        assert_eq!(spend(&mut budget, 1_000, 5), 10 + 200);
        assert_eq!(spend(&mut budget, 1_500, 8), 100);
        // The next window knows what the one before had.
        assert_eq!(spend(&mut budget, 2_000, 10), 10 + 400);
    }

    #[test]
    fn a_long_time_without_retries_saves_nothing_up() {
        let mut budget = Budget::default();
        // 100 a second for a thousand seconds.
        assert_eq!(spend(&mut budget, 100_000, 1_000), 10 + 200);
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is_given() {
        let none = Share { percent: 0, min_per_second: 0 };
        assert!(!Budget::default().take(&none, 1_000_000, Duration::from_secs(1)));
    }
}

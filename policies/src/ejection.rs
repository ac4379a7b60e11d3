//! When a server that fails is left out, for how long, and how it comes back.
//!
//! nginx's words and meanings: [`Terms::max_fails`] failures within [`Terms::fail_timeout`] leave a server out for as long. Beyond nginx: a server
//! that fails again when it is tried is left out twice as long, up to [`MOST`] times, and one that is back may be given its share slowly.
//!
//! Invariant: no clock. Moments are durations since an origin that the caller fixes.

use std::time::Duration;

/// How many times its first span a server is left out at the most.
pub const MOST: u32 = 8;

/// What weights are counted in, so that a part of the smallest weight is a number, too.
pub const WEIGHT: u32 = 256;

/// When a server is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// So many failures; 0: never.
    pub max_fails: u32,
    /// Within this time, and for this time.
    pub fail_timeout: Duration,
}

/// nginx's.
impl Default for Terms {
    fn default() -> Self {
        Self { max_fails: 1, fail_timeout: Duration::from_secs(10) }
    }
}

/// The failures of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When the first of those that count failed.
    since: Duration,
    /// How many count.
    fails: u32,
    /// How often in a row it was left out.
    row: u32,
}

impl Record {
    /// A request failed. Until when the server is to be left out, where that was one too many.
    pub fn failed(&mut self, terms: &Terms, now: Duration) -> Option<Duration> {
        if self.fails == 0 || now.saturating_sub(self.since) >= terms.fail_timeout {
            (self.since, self.fails) = (now, 0);
        }
        self.fails += 1;
        (terms.max_fails > 0 && self.fails >= terms.max_fails).then(|| self.leave(terms, now))
    }

    /// The request failed that a server was tried with after it had been left out. Until when it is to be left out again.
    pub fn failed_again(&mut self, terms: &Terms, now: Duration) -> Duration {
        self.leave(terms, now)
    }

    /// It is back: what was is forgotten.
    pub fn returned(&mut self) {
        *self = Self::default();
    }

    /// How many failures count at the moment.
    pub fn fails(&self) -> u32 {
        self.fails
    }

    fn leave(&mut self, terms: &Terms, now: Duration) -> Duration {
        let times = 1_u32.checked_shl(self.row).unwrap_or(MOST).min(MOST);
        self.row = self.row.saturating_add(1);
        self.fails = 0;
        now + terms.fail_timeout * times
    }
}

/// What a server of this weight weighs, in [`WEIGHT`]ths, when it came back at `since`: a share that grows evenly over `slow_start`, never nothing.
pub fn ramp(weight: u32, since: Option<Duration>, slow_start: Duration, now: Duration) -> u32 {
    let full = weight.saturating_mul(WEIGHT);
    let Some(passed) = since.map(|since| now.saturating_sub(since)).filter(|passed| *passed < slow_start) else {
        return full;
    };
    let share = u128::from(full) * passed.as_millis() / slow_start.as_millis().max(1);
    u32::try_from(share).unwrap_or(full).clamp(1, full.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { max_fails: 3, fail_timeout: Duration::from_secs(10) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 + seconds)
    }

    #[test]
    fn enough_failures_within_the_time_leave_a_server_out_for_as_long() {
        let mut record = Record::default();
        assert_eq!(record.failed(&TERMS, at(0)), None);
        assert_eq!(record.failed(&TERMS, at(4)), None);
        assert_eq!(record.failed(&TERMS, at(9)), Some(at(19)));
    }

    #[test]
    fn failures_are_forgotten_when_the_time_is_over() {
        let mut record = Record::default();
        for second in [0, 9, 10, 19, 20, 29, 30] {
            assert_eq!(record.failed(&TERMS, at(second)), None, "{second}");
        }
    }

    #[test]
    fn one_failure_is_enough_by_default_and_none_ever_where_nobody_counts() {
        let one = Terms { max_fails: 1, ..TERMS };
        assert_eq!(Record::default().failed(&one, at(0)), Some(at(10)));
        let never = Terms { max_fails: 0, ..TERMS };
        let mut record = Record::default();
        assert!((0..100).all(|_| record.failed(&never, at(0)).is_none()));
    }

    #[test]
    fn a_server_that_fails_when_it_is_tried_is_left_out_longer_up_to_a_bound() {
        let mut record = Record::default();
        let one = Terms { max_fails: 1, ..TERMS };
        assert_eq!(record.failed(&one, at(0)), Some(at(10)));
        let spans: Vec<_> = (0..40).map(|_| record.failed_again(&one, Duration::ZERO).as_secs()).collect();
        assert_eq!(spans[..4], [20, 40, 80, 80]);
        assert_eq!(spans[39], 80);
        record.returned();
        assert_eq!(record.failed(&one, at(0)), Some(at(10)));
    }

    #[test]
    fn a_server_that_is_back_grows_into_its_share() {
        let slow = Duration::from_secs(20);
        let weights: Vec<_> = [0, 1, 5, 10, 19, 20, 500].map(|s| ramp(2, Some(at(0)), slow, at(s))).into();
        assert_eq!(weights, [1, 25, 128, 256, 486, 512, 512]);
        assert_eq!(ramp(2, None, slow, at(0)), 512);
        assert_eq!(ramp(2, Some(at(0)), Duration::ZERO, at(0)), 512);
        // A clock that was read a tick too early.
        assert_eq!(ramp(2, Some(at(1)), slow, at(0)), 1);
    }
}

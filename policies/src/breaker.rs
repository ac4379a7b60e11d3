//! When a helper that fails is not asked any more, and how it is taken back.
//!
//! One number tells how bad it is: a failure adds [`FAILURE`], a success takes one away, and at [`OPENS`] the breaker opens. So five failures in a
//! row open it, and so does a fifth of the calls failing for long; a failure now and then never does. While it is open nobody calls. After a pause
//! somebody may try once; what becomes of that trial closes the breaker, or doubles the pause.
//!
//! Invariant: no clock and no lock. Moments are nanoseconds of one monotonic clock. A call that began before the breaker opened and succeeds later
//! does not close it: only a trial does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What a failed call adds.
pub const FAILURE: u32 = 4;

/// What a failed attempt to connect adds: nobody who can not be reached needs to be asked five times.
pub const UNREACHABLE: u32 = 10;

/// The level that opens the breaker.
pub const OPENS: u32 = 20;

/// The level it has after it was closed: three failures open it again.
const PROBATION: u32 = 10;

/// The first pause, in nanoseconds.
pub const PAUSE: u64 = 500_000_000;

/// The longest pause, in nanoseconds.
pub const LONGEST: u64 = 8_000_000_000;

/// Who opens again within so many nanoseconds had not recovered: its pauses go on growing.
pub const CALM: u64 = 20_000_000_000;

/// Set in a moment while the trial that was due then is on its way.
const TRYING: u64 = 1;

/// A breaker.
#[derive(Debug, Default)]
pub struct Breaker {
    level: AtomicU32,
    /// 0: closed. Else when a trial is due, the lowest bit being [`TRYING`].
    until: AtomicU64,
    /// Trials that failed since it opened, or closed it for a moment only.
    failed: AtomicU32,
    /// When a trial closed it; 0: never.
    closed: AtomicU64,
}

/// What a breaker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaking {
    /// Calls are made.
    Closed,
    /// A trial is on its way; nobody else calls.
    Trying,
    /// Nobody calls.
    Open,
}

impl Breaker {
    /// Whether calls are made.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.until.load(Ordering::Relaxed) == 0
    }

    /// What it says.
    pub fn state(&self) -> Breaking {
        match self.until.load(Ordering::Relaxed) {
            0 => Breaking::Closed,
            until if until & TRYING != 0 => Breaking::Trying,
            _ => Breaking::Open,
        }
    }

    /// A call succeeded.
    #[inline]
    pub fn succeeded(&self) {
        // Written only where there is something to forgive: it is the usual case that there is not.
        if self.level.load(Ordering::Relaxed) != 0 {
            let down = |level: u32| Some(level.saturating_sub(1));
            self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, down).ok();
        }
    }

    /// A call failed, which weighs `weight`. Whether that opened the breaker: one caller of many is told so.
    pub fn failed(&self, weight: u32, now: u64) -> bool {
        let before = self.level.fetch_add(weight, Ordering::Relaxed);
        if before.saturating_add(weight) < OPENS || !self.is_closed() {
            return false;
        }
        let closed = self.closed.load(Ordering::Relaxed);
        let is_calm = closed == 0 || now.saturating_sub(closed) >= CALM;
        let failed = if is_calm { 0 } else { self.failed.load(Ordering::Relaxed).saturating_add(1) };
        let opened = self.until.compare_exchange(0, due(now, failed), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if opened {
            self.failed.store(failed, Ordering::Relaxed);
        }
        opened
    }

    /// Whether the caller is to try now, which one caller is told. It reports with [`Breaker::tried`] within `patience` nanoseconds, or somebody else
    /// may try.
    pub fn is_due(&self, now: u64, patience: u64) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0
            && until <= now
            && self
                .until
                .compare_exchange(until, now.saturating_add(patience) | TRYING, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// What became of a trial. Whether that closed the breaker.
    pub fn tried(&self, succeeded: bool, now: u64) -> bool {
        if succeeded {
            self.level.store(PROBATION, Ordering::Relaxed);
            self.closed.store(now.max(1), Ordering::Relaxed);
            return self.until.swap(0, Ordering::AcqRel) != 0;
        }
        let failed = self.failed.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // A breaker that another trial has closed meanwhile stays closed.
        let again = |until: u64| (until != 0).then(|| due(now, failed));
        self.until.fetch_update(Ordering::AcqRel, Ordering::Relaxed, again).ok();
        false
    }
}

/// When the next trial is due, after so many that failed.
fn due(now: u64, failed: u32) -> u64 {
    let pause = PAUSE.checked_shl(failed.min(16)).unwrap_or(LONGEST).min(LONGEST);
    now.saturating_add(pause).max(2) & !TRYING
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    /// Fails until it opens; how often.
    fn open(breaker: &Breaker, now: u64) -> usize {
        (1..100).find(|_| breaker.failed(FAILURE, now)).unwrap()
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_caller_is_told() {
        let breaker = Breaker::default();
        assert_eq!(open(&breaker, NOW), 5);
        assert!(!breaker.is_closed());
        assert!(!breaker.failed(FAILURE, NOW), "it is open already");
    }

    #[test]
    fn two_attempts_to_connect_open_it() {
        let breaker = Breaker::default();
        assert!(!breaker.failed(UNREACHABLE, NOW));
        assert!(breaker.failed(UNREACHABLE, NOW));
    }

    #[test]
    fn a_failure_now_and_then_never_opens_it_and_a_third_of_the_calls_does() {
        let breaker = Breaker::default();
        for _ in 0..10_000 {
            assert!(!breaker.failed(FAILURE, NOW));
            (0..4).for_each(|_| breaker.succeeded());
        }
        assert!(breaker.is_closed());
        let opened = (0..100).any(|_| {
            (0..2).for_each(|_| breaker.succeeded());
            breaker.failed(FAILURE, NOW)
        });
        assert!(opened);
    }

    #[test]
    fn one_tries_after_the_pause_and_a_trial_that_succeeds_closes_it() {
        let breaker = Breaker::default();
        open(&breaker, NOW);
        assert_eq!(breaker.state(), Breaking::Open);
        assert!(!breaker.is_due(NOW + PAUSE - 2, PAUSE));
        assert!(breaker.is_due(NOW + PAUSE, PAUSE));
        assert_eq!(breaker.state(), Breaking::Trying);
        assert!(!breaker.is_due(NOW + PAUSE, PAUSE), "somebody tries already");
        assert!(!breaker.is_closed(), "nobody else calls meanwhile");
        breaker.succeeded();
        assert!(!breaker.is_closed(), "a late answer closes nothing");
        assert!(breaker.tried(true, NOW + PAUSE));
        assert_eq!(breaker.state(), Breaking::Closed);
        assert!(!breaker.tried(true, NOW + PAUSE), "it was closed already");
        assert_eq!(open(&breaker, NOW), 3, "on probation");
    }

    #[test]
    fn a_trial_that_fails_doubles_the_pause_up_to_the_longest() {
        let breaker = Breaker::default();
        open(&breaker, NOW);
        let mut now = NOW;
        let mut pause = PAUSE;
        for _ in 0..8 {
            assert!(!breaker.is_due(now + pause - 2, PAUSE));
            now += pause;
            assert!(breaker.is_due(now, PAUSE));
            assert!(!breaker.tried(false, now));
            pause = (pause * 2).min(LONGEST);
        }
        assert_eq!(pause, LONGEST);
    }

    #[test]
    fn who_recovers_for_a_moment_only_is_tried_less_and_less_often() {
        let breaker = Breaker::default();
        let (mut now, mut pause) = (NOW, PAUSE);
        for _ in 0..8 {
            open(&breaker, now);
            assert!(!breaker.is_due(now + pause - 2, PAUSE));
            now += pause;
            assert!(breaker.is_due(now, PAUSE));
            assert!(breaker.tried(true, now));
            now += CALM / 2;
            pause = (pause * 2).min(LONGEST);
        }
        // In the end it stays.
        now += CALM;
        open(&breaker, now);
        assert!(breaker.is_due(now + PAUSE, PAUSE));
    }

    #[test]
    fn who_tries_and_never_reports_is_replaced() {
        let breaker = Breaker::default();
        open(&breaker, NOW);
        assert!(breaker.is_due(NOW + PAUSE, 1000));
        assert!(!breaker.is_due(NOW + PAUSE + 999, 1000));
        assert!(breaker.is_due(NOW + PAUSE + 1001, 1000));
    }
}

//! How long the other side may keep us waiting: not for longer than a patience at a time, nor for longer than what it moves pays for.
//!
//! Waiting makes a debt, and every byte pays a part of it back, at the slowest rate that is put up with; a debt as large as the patience is too
//! much. A debt never falls below nothing: whoever moved a gigabyte has not bought the right to dawdle for a day. Time in which nobody waits
//! for the other side does not count. Invariant: no clock here; time is handed in.

use std::time::Duration;

/// The pace of one side in one message.
#[derive(Clone, Debug)]
pub struct Pace {
    patience: Duration,
    /// Bytes a second; 0: any.
    rate: u64,
    debt: Duration,
}

impl Pace {
    /// Each wait may take `patience`, whatever moves.
    pub const fn patient(patience: Duration) -> Self {
        Self::new(patience, 0)
    }

    /// Once `patience` was spent on waiting, at least `rate` bytes a second must move; 0: any.
    pub const fn new(patience: Duration, rate: u64) -> Self {
        Self { patience, rate, debt: Duration::ZERO }
    }

    /// How long the next wait may take.
    #[inline]
    pub fn patience(&self) -> Duration {
        self.patience.saturating_sub(self.debt)
    }

    /// How long a wait may take that owes nothing.
    #[inline]
    pub const fn whole(&self) -> Duration {
        self.patience
    }

    /// Whether a wait of this length that brought nothing was silence rather than slowness.
    pub fn is_silence(&self, waited: Duration) -> bool {
        self.rate == 0 || waited >= self.patience
    }

    /// The other side kept us waiting, and then moved so many bytes.
    ///
    /// # Errors
    /// It is too slow.
    #[inline]
    pub fn step(&mut self, waited: Duration, bytes: usize) -> Result<(), TooSlow> {
        if self.rate == 0 || waited.is_zero() && self.debt.is_zero() {
            return Ok(());
        }
        let nanos = (bytes as u128 * 1_000_000_000).checked_div(u128::from(self.rate)).unwrap_or_default();
        let paid = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.debt = (self.debt + waited).saturating_sub(paid);
        if self.debt < self.patience { Ok(()) } else { Err(TooSlow) }
    }
}

/// The other side moves bytes, but too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSlow;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until somebody who moves `bytes` every `each` is too slow, within an hour.
    fn ends(pace: &mut Pace, each: Duration, bytes: usize) -> Option<u64> {
        let mut waited = Duration::ZERO;
        while waited < 3600 * SECOND {
            if each > pace.patience() {
                return Some((waited + pace.patience()).as_secs());
            }
            waited += each;
            if pace.step(each, bytes).is_err() {
                return Some(waited.as_secs());
            }
        }
        None
    }

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_the_rate_is_not() {
        let pace = || Pace::new(30 * SECOND, 240);
        assert_eq!(ends(&mut pace(), SECOND, 240), None);
        assert_eq!(ends(&mut pace(), 20 * SECOND, 20 * 240), None);
        for (each, bytes, seconds) in
            [(SECOND, 1, 30), (SECOND / 10, 1, 31), (29 * SECOND, 1, 30), (SECOND, 120, 59), (31 * SECOND, 1 << 20, 30)]
        {
            assert_eq!(ends(&mut pace(), each, bytes), Some(seconds), "{bytes} bytes every {each:?}");
        }
    }

    #[test]
    fn any_rate_is_only_a_patience_for_each_wait() {
        let mut pace = Pace::patient(30 * SECOND);
        assert_eq!(ends(&mut pace, 29 * SECOND, 1), None);
        assert_eq!(pace.patience(), 30 * SECOND);
    }

    #[test]
    fn what_was_quick_once_may_not_be_slow_for_ever_after() {
        let mut pace = Pace::new(30 * SECOND, 240);
        for _ in 0..10_000 {
            pace.step(Duration::from_millis(50), 1 << 20).unwrap();
        }
        assert_eq!(ends(&mut pace, SECOND, 1), Some(30));
        // A pause is made good by what follows it.
        let mut pace = Pace::new(30 * SECOND, 240);
        pace.step(29 * SECOND, 1).unwrap();
        assert!(pace.patience() <= SECOND * 2);
        pace.step(SECOND, 1 << 20).unwrap();
        assert_eq!(pace.patience(), 30 * SECOND);
    }

    #[test]
    fn silence_is_told_from_slowness() {
        let pace = Pace::new(30 * SECOND, 240);
        assert!(pace.is_silence(30 * SECOND) && !pace.is_silence(29 * SECOND));
        assert!(Pace::patient(30 * SECOND).is_silence(SECOND));
    }
}

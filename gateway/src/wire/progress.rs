//! Whether the other side takes something while it is written to and nothing more fits.
//!
//! The kernel says that there is room again when about a third of a send buffer is free. Such a buffer may hold megabytes, and whoever reads two
//! kilobytes a second would be silent for minutes. So a wait looks now and then at what the other side has acknowledged. Invariant: no clock here;
//! time is handed in.

use std::time::Duration;

use crate::wire::pace::{Pace, TooSlow};

/// The first look at a wait comes after this part of the patience: waits that are shorter, which is nearly all, cost no question to the kernel.
const SOON: u32 = 64;

/// The later ones come after this part.
const OFTEN: u32 = 8;

/// How far the bytes of a connection have come, from an origin of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Given to the kernel.
    pub given: i64,
    /// Acknowledged by the other side.
    pub taken: i64,
}

/// One wait for the other side to take something.
#[derive(Debug)]
pub struct Wait {
    /// Until when it has been accounted for.
    accounted: Duration,
    /// Since when nothing was taken.
    silent: Duration,
    /// What had been taken at the last look.
    last: Option<i64>,
    /// Bytes that looks have accounted for.
    counted: i64,
    /// There is nothing to look at.
    blind: bool,
}

impl Wait {
    /// One that begins now. `blind`: there is nothing to look at.
    pub const fn new(now: Duration, blind: bool) -> Self {
        Self { accounted: now, silent: now, last: None, counted: 0, blind }
    }

    /// How long to wait before the next look.
    pub fn next(&self, now: Duration, pace: &Pace) -> Duration {
        let debt = (self.accounted + pace.patience()).saturating_sub(now);
        let silence = (self.silent + pace.whole()).saturating_sub(now);
        let most = debt.min(silence);
        match self.last {
            _ if self.blind => most,
            None => most.min(pace.whole() / SOON),
            Some(_) => most.min(pace.whole() / OFTEN),
        }
    }

    /// Looks: so much had been taken by now. `None`: nobody knows.
    ///
    /// # Errors
    /// The other side is silent, or too slow.
    pub fn look(&mut self, now: Duration, taken: Option<i64>, pace: &mut Pace) -> Result<(), TooSlow> {
        let waited = now.saturating_sub(self.accounted);
        let (Some(taken), false) = (taken, self.blind) else {
            self.blind = true;
            return if waited < pace.patience() { Ok(()) } else { Err(TooSlow) };
        };
        let before = self.last.replace(taken);
        self.accounted = now;
        let Some(before) = before else {
            // What was taken before the first look nobody knows: its time does not count either.
            self.silent = now;
            return Ok(());
        };
        let news = taken.saturating_sub(before).max(0);
        if news > 0 {
            self.silent = now;
            self.counted += news;
        }
        pace.step(waited, usize::try_from(news).unwrap_or(usize::MAX))?;
        if now.saturating_sub(self.silent) < pace.whole() { Ok(()) } else { Err(TooSlow) }
    }

    /// The wait is over: so many bytes fit.
    ///
    /// # Errors
    /// The other side is too slow.
    #[inline]
    pub fn end(self, now: Duration, bytes: usize, pace: &mut Pace) -> Result<(), TooSlow> {
        let fresh = bytes.saturating_sub(usize::try_from(self.counted).unwrap_or(usize::MAX));
        pace.step(now.saturating_sub(self.accounted), fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until a wait ends in which `taken` says how much has been taken after so many seconds, within an hour.
    fn ends(rate: u64, blind: bool, taken: impl Fn(u64) -> i64) -> Option<u64> {
        let mut pace = Pace::new(60 * SECOND, rate);
        let (mut now, mut wait) = (Duration::ZERO, Wait::new(Duration::ZERO, blind));
        while now < 3600 * SECOND {
            now += wait.next(now, &pace);
            if wait.look(now, Some(taken(now.as_secs())), &mut pace).is_err() {
                return Some(now.as_secs());
            }
        }
        None
    }

    #[test]
    fn silence_ends_after_the_patience_and_slow_progress_does_not_end() {
        for rate in [0, 240] {
            assert!(matches!(ends(rate, false, |_| 0), Some(60..=62)));
            assert!(matches!(ends(rate, false, |now| i64::try_from(now.min(20)).unwrap() * 2048), Some(80..=300)));
            assert_eq!(ends(rate, false, |now| i64::try_from(now).unwrap() * 2048), None);
            assert_eq!(ends(rate, false, |now| i64::try_from(now).unwrap() * 250), None);
            assert_eq!(ends(rate, true, |now| i64::try_from(now).unwrap() * 2048), Some(60), "nobody looked");
        }
        assert!(ends(240, false, |now| i64::try_from(now).unwrap()).is_some_and(|end| end < 70), "a byte a second");
        assert_eq!(ends(0, false, |now| i64::try_from(now).unwrap()), None, "any rate");
    }

    #[test]
    fn no_byte_counts_twice() {
        let mut pace = Pace::new(60 * SECOND, 100);
        let mut wait = Wait::new(Duration::ZERO, false);
        wait.look(SECOND, Some(-500), &mut pace).unwrap();
        wait.look(11 * SECOND, Some(0), &mut pace).unwrap();
        assert_eq!(pace.patience(), 55 * SECOND);
        wait.end(12 * SECOND, 500, &mut pace).unwrap();
        assert_eq!(pace.patience(), 54 * SECOND);
    }

    #[test]
    fn who_cannot_be_looked_at_has_the_patience() {
        let mut pace = Pace::new(60 * SECOND, 240);
        let mut wait = Wait::new(Duration::ZERO, false);
        wait.look(SECOND, None, &mut pace).unwrap();
        assert_eq!(wait.next(SECOND, &pace), 59 * SECOND);
        wait.look(60 * SECOND, None, &mut pace).unwrap_err();
    }
}

//! How often a worker looks for idle connections that can make room.
//!
//! Who has been idle for longest is found by looking at all of them. Where there are few, that is done at every tick. Where there are a million it takes a
//! tenth of a second, and the tenth that is kept free is room enough for a second.

use std::cell::Cell;
use std::time::Duration;

/// What looking at one wait is allowed for: some twenty times of what it takes.
const EACH: Duration = Duration::from_micros(1);

/// The longest time between two looks.
const MOST: Duration = Duration::from_secs(1);

/// When it was looked last, and for how long that is enough.
#[derive(Debug, Default)]
pub(super) struct Looks {
    next: Cell<Duration>,
}

impl Looks {
    /// Whether it is time to look at so many waits.
    pub(super) fn are_due(&self, waits: usize, now: Duration) -> bool {
        if now < self.next.get() {
            return false;
        }
        let pause = EACH.saturating_mul(u32::try_from(waits).unwrap_or(u32::MAX)).min(MOST);
        self.next.set(now + pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deadline::TICK;

    fn looks(waits: usize) -> usize {
        let looks = Looks::default();
        (0..200).filter(|tick| looks.are_due(waits, TICK * *tick)).count()
    }

    #[test]
    fn a_few_are_looked_at_every_tick_and_millions_once_a_second() {
        assert_eq!(looks(3 * 16_384), 200);
        assert_eq!(looks(3 * 65_536), 50);
        assert_eq!(looks(3_000_000), 10);
        assert_eq!(looks(usize::MAX), 10);
    }
}

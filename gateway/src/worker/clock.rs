//! The wall clock between two looks at it: as far on as the monotonic clock has come since, which every request reads anyway.
//!
//! A clock that is set shows at the next tick; one that is slewed is off by less than a tick's part of that.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use probegate_policies::now::Now;

/// Both clocks as they stood at the last look.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    /// Nanoseconds since the origin.
    monotonic: Cell<u64>,
    /// Nanoseconds since the Unix epoch; 0 where the clock stands before it.
    wall: Cell<u64>,
}

impl Clock {
    /// Both clocks as they stand now; the monotonic one counts from `origin`.
    pub fn new(origin: Instant) -> Self {
        let clock = Self { origin, monotonic: Cell::new(0), wall: Cell::new(0) };
        clock.look(Instant::now(), SystemTime::now());
        clock
    }

    /// Looks at both. Called at every tick.
    pub fn look(&self, now: Instant, wall: SystemTime) {
        self.monotonic.set(nanos(now.saturating_duration_since(self.origin)));
        self.wall.set(wall.duration_since(UNIX_EPOCH).map_or(0, nanos));
    }

    /// The time as the policies want it, from one reading of the monotonic clock.
    #[inline]
    pub fn at(&self, instant: Instant) -> Now {
        self.since(instant.saturating_duration_since(self.origin))
    }

    /// The same, so long after the origin.
    #[inline]
    pub fn since(&self, origin: Duration) -> Now {
        let since = nanos(origin);
        let wall = self.wall.get().saturating_add(since).saturating_sub(self.monotonic.get());
        Now { nanos: since.max(1), unix: wall / 1_000_000_000 }
    }
}

#[inline]
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_goes_on_with_the_monotonic_one_and_follows_when_it_is_set() {
        let origin = Instant::now();
        let clock = Clock::new(origin);
        let at = |millis| origin + Duration::from_millis(millis);
        let wall = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        clock.look(at(1_000), wall(50_999_990));
        let unix = |millis| clock.at(at(millis)).unix;
        assert_eq!((unix(990), unix(1_000), unix(1_009), unix(1_010)), (50_999, 50_999, 50_999, 51_000));
        assert_eq!(clock.at(at(1_010)).nanos, 1_010_000_000);
        assert_eq!(clock.at(origin).nanos, 1, "never 0");
        clock.look(at(1_050), wall(7_000_000));
        assert_eq!((unix(1_050), unix(2_050)), (7_000, 7_001));
    }
}

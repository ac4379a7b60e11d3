//! How fast: when the next bytes of an answer may go, so that no more than so many go in a second.
//!
//! Bytes queue up on a line. Each piece takes as long as its bytes take at the rate, and goes when those before it are through. One line
//! may carry one answer, or all those of a client. A line that stood still has saved up no more than [`SLACK`].

use std::num::NonZeroU64;

use crate::limit::{Key, Table};

const SECOND: u64 = 1_000_000_000;

/// How far a line may be behind and catch up, in nanoseconds: timers are late.
pub const SLACK: u64 = SECOND / 10;

/// The largest piece that goes at once.
const MOST: u64 = 64 * 1024;

/// Bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRate(pub NonZeroU64);

impl ByteRate {
    /// How long these bytes take, in nanoseconds.
    pub fn cost(self, bytes: u64) -> u64 {
        let nanos = u128::from(bytes) * u128::from(SECOND) / u128::from(self.0.get());
        u64::try_from(nanos).unwrap_or(u64::MAX).clamp(1, u64::MAX >> 2)
    }

    /// Bytes that go at once: what an eighth of a second is worth, so that a picture appears evenly and no timer runs for each packet.
    pub fn piece(self) -> u64 {
        (self.0.get() / 8).clamp(1, MOST)
    }
}

/// When a piece may go on a line that is busy until `due`, and until when the line is busy then. All in nanoseconds of one clock.
pub fn turn(due: u64, now: u64, cost: u64) -> (u64, u64) {
    let at = due.max(now.saturating_sub(SLACK));
    (at, at.saturating_add(cost))
}

/// The line of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    rate: ByteRate,
    /// Bytes that still go without a wait.
    free: u64,
    due: u64,
}

impl Line {
    /// A line with this rate, once `free` bytes have gone as fast as they can.
    pub const fn new(rate: ByteRate, free: u64) -> Self {
        Self { rate, free, due: 0 }
    }

    /// How many of so many bytes go at once.
    pub fn piece(&self, wanted: u64) -> u64 {
        wanted.min(if self.free > 0 { self.free } else { self.rate.piece() })
    }

    /// When these bytes may go, from `now` on; at most [`Self::piece`]. They count from now on.
    pub fn take(&mut self, bytes: u64, now: u64) -> u64 {
        if self.free > 0 {
            self.free = self.free.saturating_sub(bytes);
            return now;
        }
        if self.due == 0 {
            // What went before has saved up nothing.
            self.due = now;
        }
        let (at, due) = turn(self.due, now, self.rate.cost(bytes));
        self.due = due;
        at
    }
}

/// When these bytes may go on the line that all answers to a client share.
pub fn take_shared(table: &Table, key: Key, rate: ByteRate, bytes: u64, now: u64) -> u64 {
    table.take_turn(key, rate.cost(bytes), now)
}

/// What an app says with `X-Accel-Limit-Rate`: bytes a second, and zero for as fast as they can go. `None`: it can not be read.
pub fn demanded(value: &[u8]) -> Option<Option<ByteRate>> {
    let digits = value.len() <= 18 && value.iter().all(u8::is_ascii_digit) && !value.is_empty();
    let number = std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()?;
    Some(NonZeroU64::new(number).map(ByteRate))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limit::{KeyPart, Seed};

    fn rate(bytes: u64) -> ByteRate {
        ByteRate(NonZeroU64::new(bytes).unwrap())
    }

    #[test]
    fn bytes_take_their_time() {
        assert_eq!((rate(1000).cost(1000), rate(1000).cost(1)), (SECOND, SECOND / 1000));
        assert_eq!((rate(u64::MAX).cost(1), rate(1).cost(u64::MAX)), (1, u64::MAX >> 2));
        assert_eq!((rate(1).piece(), rate(800).piece(), rate(1 << 30).piece()), (1, 100, MOST));
    }

    #[test]
    fn the_first_bytes_may_be_free_and_save_up_nothing() {
        let mut line = Line::new(rate(8000), 2500);
        let start = 5 * SECOND;
        assert_eq!((line.piece(9000), line.take(2500, start)), (2500, start));
        assert_eq!((line.piece(9000), line.take(1000, start)), (1000, start));
        assert_eq!(line.take(1000, start), start + SECOND / 8);
        assert_eq!(line.take(500, start), start + SECOND / 4);
        // Somebody came late for it: what was missed is caught up, up to the slack.
        assert_eq!(line.take(1000, start + SECOND), start + SECOND - SLACK);
        assert_eq!(line.take(1000, start + SECOND), start + SECOND - SLACK + SECOND / 8);
    }

    proptest! {
        #[test]
        fn no_more_goes_in_any_time_than_the_rate_allows(
            bytes in 8_u64..1_000_000,
            steps in proptest::collection::vec((1_u64..100_000, 0_u64..SECOND), 1..100),
        ) {
            let mut line = Line::new(rate(bytes), 0);
            let (mut now, mut gone, start) = (SECOND, 0_u64, SECOND);
            for (wanted, pause) in steps {
                let piece = line.piece(wanted);
                now = now.max(line.take(piece, now)) + pause;
                // At the moment it goes, all before it has had its time, less the slack.
                let before = now - pause;
                prop_assert!(rate(bytes).cost(gone).saturating_sub(SLACK + 100) <= before - start, "{gone} by {before}");
                gone += piece;
            }
        }
    }

    #[test]
    fn all_answers_to_a_client_share_a_line_and_others_do_not_stand_on_it() {
        let table = Table::new(16, Seed([1, 2, 3, 4]));
        let [one, other] = [b"one", b"two"].map(|name| table.key(&[KeyPart::Bytes(name)]));
        let now = 10 * SECOND;
        assert_eq!(take_shared(&table, one, rate(1000), 1000, now), now - SLACK);
        assert_eq!(take_shared(&table, one, rate(1000), 500, now), now - SLACK + SECOND);
        assert_eq!(take_shared(&table, one, rate(1000), 1000, now), now - SLACK + SECOND * 3 / 2);
        assert_eq!(take_shared(&table, other, rate(1000), 1000, now), now - SLACK);
    }

    #[test]
    fn an_app_names_a_rate_or_lifts_it() {
        assert_eq!(demanded(b"1024"), Some(Some(rate(1024))));
        assert_eq!(demanded(b"0"), Some(None));
        for bad in ["", "off", "-1", "1k", "1.5", "99999999999999999999"] {
            assert_eq!(demanded(bad.as_bytes()), None, "{bad}");
        }
    }
}

//! Active checks: when a server counts as up or down, and when it is asked next.
//!
//! A server that nothing is known about is asked like one that is up: the first check that passes makes it up, and only as many failures in a row as
//! make any other down make it down. So a gateway that starts before its app, or is given a new server, refuses nothing for sure.
//!
//! Invariant: nothing but checks in a row changes the verdict. Randomness is handed in.

use std::time::Duration;

/// How many checks in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Failures until a server is down. At least 1.
    pub fall: u32,
    /// Passes until a server that is down is up. At least 1.
    pub rise: u32,
}

/// What checks say about a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It does its part.
    Up,
    /// It does not.
    Down,
}

/// The checks of one server so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    verdict: Verdict,
    /// Checks in a row that speak against the verdict.
    against: u32,
}

impl Record {
    /// What they say.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// One more: whether it passed. Returns the verdict where that has changed.
    pub fn add(&mut self, passed: bool, terms: Terms) -> Option<Verdict> {
        let (turns, needed) = match (self.verdict, passed) {
            (Verdict::Up, true) | (Verdict::Down, false) => {
                self.against = 0;
                return None;
            }
            (Verdict::Unknown, true) => (Verdict::Up, 1),
            (Verdict::Down, true) => (Verdict::Up, terms.rise),
            (Verdict::Unknown | Verdict::Up, false) => (Verdict::Down, terms.fall),
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        *self = Self { verdict: turns, against: 0 };
        Some(turns)
    }
}

/// The time from the beginning of one check to that of the next: `interval`, a tenth more or less, so that many gateways that were started together
/// do not ask together for ever. `random` is any number.
pub fn pause(interval: Duration, random: u64) -> Duration {
    let spread = interval / 5;
    // The upper half of the bits, as a part of the spread in 2^32nds.
    let nanos = (spread.as_nanos() * u128::from(random >> 32)) >> 32;
    interval.saturating_sub(spread / 2) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Whether a status passes: one of `expected`, or any 2xx where that is empty. A redirect is no success: what it leads to was not asked.
pub fn passes(status: u16, expected: &[u16]) -> bool {
    if expected.is_empty() { (200..300).contains(&status) } else { expected.contains(&status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { fall: 3, rise: 2 };

    fn run(checks: &str) -> Vec<(usize, Verdict)> {
        let mut record = Record::default();
        let told = |(index, check): (usize, char)| Some((index, record.add(check == '+', TERMS)?));
        checks.chars().enumerate().filter_map(told).collect()
    }

    #[test]
    fn a_server_goes_down_after_failures_in_a_row_and_comes_up_after_passes_in_a_row() {
        assert_eq!(run("+---"), [(0, Verdict::Up), (3, Verdict::Down)]);
        assert_eq!(run("+--+--+--"), [(0, Verdict::Up)], "not in a row");
        assert_eq!(run("+---+-++"), [(0, Verdict::Up), (3, Verdict::Down), (7, Verdict::Up)]);
        assert_eq!(run("+---++--+---"), [(0, Verdict::Up), (3, Verdict::Down), (5, Verdict::Up), (11, Verdict::Down)]);
    }

    #[test]
    fn an_unknown_server_is_up_at_once_and_down_not_sooner_than_any_other() {
        assert_eq!(run("--+"), [(2, Verdict::Up)]);
        assert_eq!(run("---"), [(2, Verdict::Down)]);
        assert_eq!(Record::default().verdict(), Verdict::Unknown);
    }

    #[test]
    fn one_is_enough_where_the_terms_say_so() {
        let terms = Terms { fall: 1, rise: 1 };
        let mut record = Record::default();
        for (passed, verdict) in [(false, Verdict::Down), (true, Verdict::Up), (false, Verdict::Down)] {
            assert_eq!(record.add(passed, terms), Some(verdict));
        }
    }

    #[test]
    fn pauses_lie_around_the_interval_and_spread() {
        let interval = Duration::from_secs(10);
        assert_eq!(pause(interval, 0), Duration::from_secs(9));
        assert!(pause(interval, u64::MAX) < Duration::from_secs(11));
        assert!(pause(interval, u64::MAX) > Duration::from_millis(10_999));
        assert_eq!(pause(interval, 1 << 63), interval);
        assert_eq!(pause(Duration::ZERO, u64::MAX), Duration::ZERO);
    }

    #[test]
    fn a_redirect_is_no_success_unless_it_is_expected() {
        for (status, expected, passed) in [
            (200, &[][..], true),
            (204, &[], true),
            (301, &[], false),
            (404, &[], false),
            (503, &[], false),
            (301, &[200, 301], true),
            (204, &[200], false),
        ] {
            assert_eq!(passes(status, expected), passed, "{status} {expected:?}");
        }
    }
}

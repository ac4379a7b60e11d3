//! The lifts that this gateway knows of, for gateways and stores that have not heard of them.
//!
//! Who is banned, the jails know; that somebody was let in leaves nothing behind in them. A gateway that has not heard of it still has the ban, and tells others
//! of it.
//!
//! A ban holds if it began after the last lift of its client, and of everybody. Whoever pronounces a ban or a lift that others are to hear of makes it later than
//! what it knows of, if need be by a second: so no order in which gateways hear of them, and no number of times, makes a difference.
//!
//! Invariants:
//! * It is locked while a ban is put into a jail: none of those is older than a lift that is known.
//! * It is of bounded size. Beyond it, the oldest are forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use probegate_policies::ban::{Client, Clock};

use super::letter::LIFTED;

/// Lifts that are remembered at the most.
const MOST: usize = 16_384;

/// When whose bans were lifted last, in the time of the clock. That is the one of the books: what began after a lift still did when it is set back.
#[derive(Debug, Default)]
pub(super) struct Lifts {
    of: HashMap<Client, u64>,
    /// Everybody's.
    all: Option<u64>,
    clock: Arc<Clock>,
}

impl Lifts {
    /// None is known.
    pub(super) fn new(clock: Arc<Clock>) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Bans were lifted then, `None`: everybody's. Whether that was not known.
    pub(super) fn lift(&mut self, client: Option<Client>, at: u64, now: u64) -> bool {
        let now = self.clock.pass(now);
        let at = self.clock.own(at);
        let Some(client) = client else {
            let is_news = self.all < Some(at);
            if is_news {
                self.all = Some(at);
                self.of.retain(|_, lifted| *lifted > at);
            }
            return is_news;
        };
        if self.of.get(&client).copied().max(self.all) >= Some(at) {
            return false;
        }
        if self.of.len() >= MOST && !self.of.contains_key(&client) {
            self.make_room(now);
        }
        self.of.insert(client, at);
        true
    }

    /// When a client was let in last: what was pronounced later than this holds.
    pub(super) fn at(&self, client: Client, now: u64) -> Option<u64> {
        self.clock.pass(now);
        let at = self.of.get(&client).copied().max(self.all)?;
        Some(self.clock.told(at))
    }

    /// All that still matter.
    pub(super) fn known(&self, now: u64) -> Vec<(Option<Client>, u64)> {
        let all = self.all.map(|at| (None, at)).into_iter();
        let each = self.of.iter().map(|(client, at)| (Some(*client), *at));
        let known = all.chain(each).map(|(client, at)| (client, self.clock.told(at)));
        known.filter(|(_, at)| at.saturating_add(LIFTED) > now).collect()
    }

    /// For an eighth of them, so that this is rare. `now` in the time of the clock.
    fn make_room(&mut self, now: u64) {
        self.of.retain(|_, at| at.saturating_add(LIFTED) > now);
        let mut times: Vec<u64> = self.of.values().copied().collect();
        let excess = times.len().saturating_sub(MOST - MOST / 8);
        if excess > 0 {
            let last = *times.select_nth_unstable(excess - 1).1;
            self.of.retain(|_, at| *at > last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> Client {
        Client::of(std::net::IpAddr::from(0xCB00_0000_u32.wrapping_add(number).to_be_bytes())).unwrap()
    }

    #[test]
    fn the_last_lift_of_each_is_known_until_nobody_needs_it() {
        let mut lifts = Lifts::default();
        for (number, at) in [(Some(1), 5), (Some(2), 20), (Some(1), 3), (None, 10), (Some(3), 30)] {
            lifts.lift(number.map(client), at, 30);
        }
        let known = |now| {
            let mut known: Vec<u64> = lifts.known(now).into_iter().map(|(_, at)| at).collect();
            known.sort_unstable();
            known
        };
        assert_eq!([30, 20 + LIFTED].map(known), [vec![10, 20, 30], vec![30]]);
        assert_eq!([1, 2, 3, 4].map(|number| lifts.at(client(number), 30)), [10, 20, 30, 10].map(Some));
        assert_eq!(Lifts::default().at(client(1), 30), None);
    }

    #[test]
    fn what_is_told_again_is_no_news_whatever_was_heard_in_between() {
        let mut lifts = Lifts::default();
        let told = [(Some(1), 5), (Some(1), 5), (Some(1), 6), (None, 9), (None, 9), (Some(1), 9), (Some(1), 5)];
        let told = told.map(|(number, at)| lifts.lift(number.map(client), at, 9));
        assert_eq!(told, [true, false, true, true, false, false, false]);
    }

    #[test]
    fn clocks_that_are_ahead_lift_nothing_for_long() {
        let (mut lifts, year) = (Lifts::default(), 31_000_000);
        lifts.lift(None, year - 20, year - 20);
        lifts.lift(Some(client(1)), year - 10, year - 10);
        lifts.clock.pass(year);
        // It is set back: each of them was as long ago as it was, whoever asks first and whenever it is asked again.
        for now in [200, 200, 300] {
            assert_eq!([1, 2].map(|number| lifts.at(client(number), now)), [190, 180].map(Some));
            assert_eq!(lifts.known(now), [(None, 180), (Some(client(1)), 190)]);
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut lifts = Lifts::default();
        for number in 0..40_000 {
            lifts.lift(Some(client(number)), u64::from(number), 40_000);
            assert!(lifts.of.len() <= MOST);
        }
        assert!(lifts.of.len() > MOST / 2 && lifts.of.contains_key(&client(39_999)));
        // All of one second.
        let mut lifts = Lifts::default();
        for number in 0..40_000 {
            lifts.lift(Some(client(number)), 7, 7);
        }
        assert!((1..=MOST).contains(&lifts.of.len()));
    }
}

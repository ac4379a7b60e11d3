//! The lifts that this gateway knows of, so that a store that has forgotten them is told again.
//!
//! Who is banned, the jails know; that somebody was let in leaves nothing behind in them. A gateway that has not heard of it still has the ban, and tells a store
//! that begins anew of it.
//!
//! Invariant: it is of bounded size. Beyond it, the oldest are forgotten.

use std::collections::{HashMap, HashSet};

use probegate_policies::ban::Client;

use super::letter::LIFTED;
use super::outbox::Change;

/// Lifts that are remembered at the most.
const MOST: usize = 16_384;

/// Seconds that the clocks of two gateways may differ: the store talks to nobody whose clock differs from its own by more than half of it.
const APART: u64 = 20;

/// When whose bans were lifted last.
#[derive(Debug, Default)]
pub(super) struct Lifts {
    of: HashMap<Client, u64>,
    /// Everybody's.
    all: Option<u64>,
    /// Who was banned in the very second of it, and after it.
    after: HashSet<Client>,
}

impl Lifts {
    /// This has happened, here or elsewhere; in the order in which it did. Whether it is a lift that was not known.
    pub(super) fn note(&mut self, change: &Change, now: u64) -> bool {
        match change {
            Change::Lift { client, at } => self.lift(*client, *at, now),
            Change::Ban { client, ban, .. } => {
                // Both within a second, and the ban is the later one.
                if self.of.get(client) == Some(&ban.since) {
                    self.of.remove(client);
                }
                if self.all == Some(ban.since) && self.after.len() < MOST {
                    self.after.insert(*client);
                }
                false
            }
        }
    }

    /// Bans were lifted then, `None`: everybody's. Whether that was not known.
    pub(super) fn lift(&mut self, client: Option<Client>, at: u64, now: u64) -> bool {
        // By a clock that was wrong.
        let at = at.min(now.saturating_add(APART));
        let Some(client) = client else {
            let is_news = self.all < Some(at);
            if is_news {
                self.all = Some(at);
                self.of.retain(|_, lifted| *lifted > at);
                self.after.clear();
            }
            return is_news;
        };
        let is_banned = self.after.remove(&client);
        let known = self.of.get(&client).copied().max(self.all);
        if known >= Some(at) && !is_banned {
            return false;
        }
        if self.of.len() >= MOST && !self.of.contains_key(&client) {
            self.make_room(now);
        }
        self.of.insert(client, at);
        true
    }

    /// Whether a ban is older than a lift.
    pub(super) fn lifted(&self, change: &Change) -> bool {
        let Change::Ban { client, ban, .. } = change else { return false };
        let all = self.all.filter(|at| *at != ban.since || !self.after.contains(client));
        self.of.get(client).copied().max(all).is_some_and(|at| ban.since <= at)
    }

    /// All that still matter, by client.
    pub(super) fn known(&mut self, now: u64) -> impl Iterator<Item = (Option<Client>, u64)> {
        // Pronounced when the clock was ahead, and told now.
        self.all = self.all.map(|at| if at > now.saturating_add(APART) { now } else { at });
        self.of.values_mut().filter(|at| **at > now.saturating_add(APART)).for_each(|at| *at = now);
        let all = self.all.map(|at| (None, at)).into_iter();
        let each = self.of.iter().map(|(client, at)| (Some(*client), *at));
        all.chain(each).filter(move |(_, at)| at.saturating_add(LIFTED) > now)
    }

    /// For an eighth of them, so that this is rare.
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
    use probegate_policies::ban::{Ban, Cause};

    use super::*;

    fn client(number: u32) -> Client {
        Client::of(std::net::IpAddr::from(0xCB00_0000_u32.wrapping_add(number).to_be_bytes())).unwrap()
    }

    fn ban(number: u32, since: u64) -> Change {
        let cause = Cause { offence: None, text: "".into() };
        let ban = Ban { since, until: since + 9, count: 1, cause };
        Change::Ban { policy: "p".into(), shadow: false, client: client(number), ban }
    }

    fn lift(number: Option<u32>, at: u64) -> Change {
        Change::Lift { client: number.map(client), at }
    }

    #[test]
    fn the_last_lift_of_each_is_known_until_nobody_needs_it() {
        let mut lifts = Lifts::default();
        for change in [lift(Some(1), 5), lift(Some(2), 20), lift(Some(1), 3), lift(None, 10), lift(Some(3), 30)] {
            lifts.note(&change, 30);
        }
        let known = |lifts: &mut Lifts, now| {
            let mut known: Vec<u64> = lifts.known(now).map(|(_, at)| at).collect();
            known.sort_unstable();
            known
        };
        assert_eq!(known(&mut lifts, 30), [10, 20, 30]);
        assert_eq!(known(&mut lifts, 20 + LIFTED), [30]);
        let lifted = [ban(1, 10), ban(1, 11), ban(2, 20), ban(2, 21), lift(Some(2), 1)];
        assert_eq!(lifted.map(|change| lifts.lifted(&change)), [true, false, true, false, false]);
        // Within the same second, what comes last holds.
        lifts.note(&ban(2, 20), 30);
        lifts.note(&ban(3, 31), 31);
        assert_eq!(known(&mut lifts, 31), [10, 30]);
    }

    #[test]
    fn what_is_told_again_is_no_news_and_clocks_that_are_ahead_lift_nothing_for_long() {
        let mut lifts = Lifts::default();
        let told =
            [lift(Some(1), 5), lift(Some(1), 5), lift(Some(1), 6), lift(None, 9), lift(None, 9), lift(Some(1), 9)];
        assert_eq!(told.map(|change| lifts.note(&change, 9)), [true, false, true, true, false, false]);
        // In the second of a lift of all, and after it; and lifted once more.
        assert!(!lifts.note(&ban(1, 9), 9));
        assert_eq!([ban(1, 9), ban(2, 9)].map(|change| lifts.lifted(&change)), [false, true]);
        assert!(lifts.note(&lift(Some(1), 9), 9) && lifts.lifted(&ban(1, 9)));
        // A year ahead.
        lifts.note(&lift(None, 31_000_000), 100);
        assert!(lifts.lifted(&ban(1, 120)) && !lifts.lifted(&ban(1, 121)));
        lifts.note(&lift(None, 31_000_000), 31_000_000);
        assert_eq!(lifts.known(200).collect::<Vec<_>>(), [(None, 200)]);
        assert_eq!(lifts.known(300).collect::<Vec<_>>(), [(None, 200)]);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut lifts = Lifts::default();
        for number in 0..40_000 {
            lifts.note(&lift(Some(number), u64::from(number)), 40_000);
            assert!(lifts.of.len() <= MOST);
        }
        assert!(lifts.of.len() > MOST / 2 && lifts.of.contains_key(&client(39_999)));
        // All of one second.
        let mut lifts = Lifts::default();
        for number in 0..40_000 {
            lifts.note(&lift(Some(number), 7), 7);
        }
        assert!((1..=MOST).contains(&lifts.of.len()));
    }
}

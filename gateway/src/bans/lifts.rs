//! The lifts that this gateway knows of, so that a store that has forgotten them is told again.
//!
//! Who is banned, the jails know; that somebody was let in leaves nothing behind in them. A gateway that has not heard of it still has the ban, and tells a store
//! that begins anew of it.
//!
//! Invariant: it is of bounded size. Beyond it, the oldest are forgotten.

use std::collections::HashMap;

use probegate_policies::ban::Client;

use super::letter::LIFTED;
use super::outbox::Change;

/// Lifts that are remembered at the most.
const MOST: usize = 16_384;

/// When whose bans were lifted last.
#[derive(Debug, Default)]
pub(super) struct Lifts {
    of: HashMap<Client, u64>,
    /// Everybody's.
    all: Option<u64>,
}

impl Lifts {
    /// This has happened, here or elsewhere; in the order in which it did.
    pub(super) fn note(&mut self, change: &Change, now: u64) {
        match change {
            Change::Lift { client: Some(client), at } => {
                if self.of.len() >= MOST && !self.of.contains_key(client) {
                    self.make_room(now);
                }
                let known = self.of.entry(*client).or_insert(*at);
                *known = (*known).max(*at);
            }
            Change::Lift { client: None, at } => {
                self.all = self.all.max(Some(*at));
                self.of.retain(|_, lifted| *lifted > *at);
            }
            // Both within a second, and the ban is the later one.
            Change::Ban { client, ban, .. } if self.of.get(client) == Some(&ban.since) => {
                self.of.remove(client);
            }
            Change::Ban { .. } => {}
        }
    }

    /// Whether a ban is older than a lift.
    pub(super) fn lifted(&self, change: &Change) -> bool {
        let Change::Ban { client, ban, .. } = change else { return false };
        self.of.get(client).copied().max(self.all).is_some_and(|at| ban.since <= at)
    }

    /// All that still matter.
    pub(super) fn known(&self, now: u64) -> impl Iterator<Item = Change> {
        let all = self.all.map(|at| (None, at)).into_iter();
        let each = self.of.iter().map(|(client, at)| (Some(*client), *at));
        all.chain(each)
            .filter(move |(_, at)| at.saturating_add(LIFTED) > now)
            .map(|(client, at)| Change::Lift { client, at })
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
        let at = |change: Change| if let Change::Lift { at, .. } = change { at } else { 0 };
        let known = |lifts: &Lifts, now| {
            let mut known: Vec<u64> = lifts.known(now).map(at).collect();
            known.sort_unstable();
            known
        };
        assert_eq!(known(&lifts, 30), [10, 20, 30]);
        assert_eq!(known(&lifts, 20 + LIFTED), [30]);
        let lifted = [ban(1, 10), ban(1, 11), ban(2, 20), ban(2, 21), lift(Some(2), 1)];
        assert_eq!(lifted.map(|change| lifts.lifted(&change)), [true, false, true, false, false]);
        // Within the same second, what comes last holds.
        lifts.note(&ban(2, 20), 30);
        lifts.note(&ban(3, 31), 31);
        assert_eq!(known(&lifts, 31), [10, 30]);
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
        (0..40_000).for_each(|number| lifts.note(&lift(Some(number), 7), 7));
        assert!((1..=MOST).contains(&lifts.of.len()));
    }
}

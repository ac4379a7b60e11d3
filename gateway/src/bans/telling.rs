//! Everything that this gateway knows of bans, in pieces.

use std::sync::Arc;
use std::vec;

use probegate_policies::ban::{Client, Page};

use super::{Bans, Change, Jail};
use crate::plan::BY_HAND;
use crate::state::Active;

/// What is told at the most: as much as a store keeps.
const MOST: usize = 65_536;

/// What is left of it. Nothing of it is copied before its turn.
#[derive(Debug)]
pub(super) struct Telling {
    lifts: vec::IntoIter<(Option<Client>, u64)>,
    /// By the names of their policies: first, whom they hold at this time, then whom they remember. The last one is next, from this page on.
    jails: Vec<(Box<str>, Arc<Jail>, bool)>,
    page: Page,
    now: u64,
    left: usize,
}

impl Bans {
    /// All bans, those that are over and remembered as well: the next one is measured by them. Lifts come first, so that few hear of a ban that was lifted; then bans
    /// by hand and those of policies, in another order each time: where they are too many, each has its turn.
    pub(super) fn everything(&self, active: &Active, now: u64) -> Telling {
        let jails = active.plan.bans.iter().zip(active.bans.jails());
        let mut jails: Vec<_> = jails.map(|(policy, jail)| (policy.name.clone(), Arc::clone(jail))).collect();
        fastrand::shuffle(&mut jails);
        jails.push((BY_HAND.into(), Arc::clone(&self.by_hand)));
        Telling::new(self.shared.lifts().known(now), &jails, now, MOST)
    }
}

impl Telling {
    fn new(lifts: Vec<(Option<Client>, u64)>, jails: &[(Box<str>, Arc<Jail>)], now: u64, left: usize) -> Self {
        let jails = |holds: bool| jails.iter().map(move |(policy, jail)| (policy.clone(), Arc::clone(jail), holds));
        let jails = jails(false).chain(jails(true)).collect();
        Self { lifts: lifts.into_iter(), jails, page: Page::default(), now, left }
    }

    /// The next ones; none: that was all.
    pub(super) fn next(&mut self, most: usize) -> Vec<Change> {
        let most = most.min(self.left);
        let lifts = self.lifts.by_ref().take(most).map(|(client, at)| Change::Lift { client, at });
        let mut piece: Vec<Change> = lifts.collect();
        while piece.len() < most
            && let Some((policy, jail, holds)) = self.jails.last()
        {
            let (bans, next) = jail.page(self.page, most - piece.len());
            let shadow = jail.is_shadow();
            let bans = bans.into_iter().filter(|(_, ban)| (ban.until > self.now) == *holds);
            piece.extend(bans.map(|(client, ban)| Change::Ban { policy: policy.clone(), shadow, client, ban }));
            self.page = next.unwrap_or_default();
            if next.is_none() {
                self.jails.pop();
            }
        }
        self.left -= piece.len();
        piece
    }
}

#[cfg(test)]
mod tests {
    use probegate_policies::ban::Cause;
    use probegate_policies::limit::Seed;

    use super::*;

    fn client(number: u32) -> Client {
        Client::of(std::net::IpAddr::from(0xCB00_0000_u32.wrapping_add(number).to_be_bytes())).unwrap()
    }

    #[test]
    fn everything_is_told_once_in_pieces_and_no_more_than_a_store_keeps() {
        let jails = [(0, 300), (0, 0), (300, 301)].map(|(from, to)| {
            let jail = Jail::by_hand(&Arc::default(), Seed([1, 2, 3, 4]));
            let cause = || Cause { offence: None, text: "".into() };
            (from..to)
                .for_each(|number| drop(jail.ban(client(number), cause(), 60 + u64::from(number % 2), None, 1000)));
            ("one".into(), Arc::new(jail))
        });
        // Half of them are over.
        for (left, all) in [(MOST, 451), (200, 200), (20, 20)] {
            let lifts = (0..150).map(|number| (Some(client(number)), 7)).collect();
            let mut telling = Telling::new(lifts, &jails, 1060, left);
            let pieces: Vec<_> =
                std::iter::from_fn(|| Some(telling.next(100)).filter(|piece| !piece.is_empty())).collect();
            assert!(pieces.iter().all(|piece| piece.len() <= 100));
            let told: Vec<_> = pieces.into_iter().flatten().collect();
            assert_eq!(told.len(), all);
            assert_eq!(told.iter().take_while(|change| matches!(change, Change::Lift { .. })).count(), all.min(150));
            let banned: std::collections::HashSet<_> = told
                .iter()
                .filter_map(|change| if let Change::Ban { client, .. } = change { Some(client) } else { None })
                .collect();
            assert_eq!(banned.len(), all.saturating_sub(150), "each once");
            let holds: Vec<bool> = told
                .iter()
                .filter_map(|change| if let Change::Ban { ban, .. } = change { Some(ban.until > 1060) } else { None })
                .collect();
            assert_eq!(
                holds.iter().take_while(|holds| **holds).count(),
                (all.saturating_sub(150)).min(150),
                "those first"
            );
        }
    }
}

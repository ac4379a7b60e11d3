//! What happens to bans here that other gateways are to hear of.
//!
//! Invariant: it is of bounded size. Where more happens than it holds, everything that is known is told instead ([`Taken::all`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use probegate_policies::ban::{Ban, Client};

/// Changes that wait at the most: an hour without the store, under attack.
const MOST: usize = 8192;

/// Something that happened here.
#[derive(Clone, Debug)]
pub enum Change {
    /// A client was banned.
    Ban {
        /// By which policy; [`crate::plan::BY_HAND`] by people.
        policy: Box<str>,
        /// It is not kept out.
        shadow: bool,
        /// Whom.
        client: Client,
        /// For how long, and why.
        ban: Ban,
    },
    /// People have lifted bans.
    Lift {
        /// Whose; `None`: all.
        client: Option<Client>,
        /// When, in seconds since the epoch.
        at: u64,
    },
}

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Somebody listens.
    is_open: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Whether the store answers, for people.
    pub connected: AtomicBool,
    /// Changes that were told.
    pub sent: AtomicU64,
    /// Changes that others have told, and that changed something here.
    pub received: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<Change>,
    overflown: bool,
}

/// What was taken out of it.
#[derive(Debug, Default)]
pub struct Taken {
    /// In the order in which it happened.
    pub changes: Vec<Change>,
    /// There was more: all bans are to be told.
    pub all: bool,
}

impl Outbox {
    /// From now on, changes are kept until they are told, or not any more.
    pub fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
        if !is_open {
            *self.waiting() = Waiting::default();
            self.connected.store(false, Ordering::Relaxed);
        }
    }

    /// Something has happened.
    pub fn put(&self, change: impl FnOnce() -> Change) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let change = change();
        let mut waiting = self.waiting();
        if waiting.changes.len() >= MOST {
            // Bans are known all the same; lifts are few, and are kept.
            waiting.changes.retain(|change| matches!(change, Change::Lift { .. }));
            waiting.overflown = true;
        }
        if waiting.changes.len() < MOST {
            waiting.changes.push(change);
        }
    }

    /// Takes what waits.
    pub fn take(&self) -> Taken {
        let Waiting { changes, overflown } = std::mem::take(&mut *self.waiting());
        Taken { changes, all: overflown }
    }

    /// It could not be told.
    pub fn put_back(&self, taken: Taken) {
        let mut waiting = self.waiting();
        waiting.overflown |= taken.all;
        let later = std::mem::replace(&mut waiting.changes, taken.changes);
        waiting.changes.extend(later);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_as_a_whole_and_lifts_are_not_lost() {
        let outbox = Outbox::default();
        let lift = |at| Change::Lift { client: None, at };
        let ban = || Change::Ban {
            policy: "p".into(),
            shadow: false,
            client: Client::of("203.0.113.9".parse().unwrap()).unwrap(),
            ban: Ban {
                since: 1,
                until: 2,
                count: 1,
                cause: probegate_policies::ban::Cause { offence: None, text: "".into() },
            },
        };
        outbox.put(|| lift(1));
        assert!(outbox.take().changes.is_empty(), "nobody listens");
        outbox.open(true);
        outbox.put(|| lift(1));
        (0..MOST).for_each(|_| outbox.put(ban));
        outbox.put(|| lift(2));
        let taken = outbox.take();
        let lifts: Vec<u64> = taken
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Lift { at, .. } => Some(*at),
                Change::Ban { .. } => None,
            })
            .collect();
        assert!(taken.all && taken.changes.len() < 4, "{}", taken.changes.len());
        assert_eq!(lifts, [1, 2]);
        outbox.put(|| lift(3));
        outbox.put_back(taken);
        let again = outbox.take();
        assert!(again.all && matches!(again.changes.last(), Some(Change::Lift { at: 3, .. })));
    }
}

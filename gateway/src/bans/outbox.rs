//! What happens to bans here that other gateways are to hear of.
//!
//! Invariant: it is of bounded size. Where more happens than it holds, everything that is known is told instead ([`Taken::all`]): bans by who keeps them, and
//! lifts by `lifts`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use probegate_policies::ban::{Ban, Client};
use tokio::sync::Notify;

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
    /// The process ends: what waits is told now, or never by this one.
    is_ending: AtomicBool,
    /// Wakes whoever tells.
    pub(super) wakes: Arc<Notify>,
    /// Nothing is told any more.
    has_ended: AtomicBool,
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
            // All of them are known all the same.
            waiting.changes.clear();
            waiting.overflown = true;
        }
        waiting.changes.push(change);
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        let waiting = self.waiting();
        waiting.changes.is_empty() && !waiting.overflown
    }

    /// What waits is told at once, and then nothing any more.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.wakes.notify_one();
    }

    /// Whether the process ends.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// Nobody tells anything any more.
    pub(super) fn ended(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Whether nobody tells anything any more, or ever did.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire) || !self.is_open.load(Ordering::Relaxed)
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
    fn what_does_not_fit_is_told_as_a_whole() {
        let outbox = Outbox::default();
        let lift = |at| Change::Lift { client: None, at };
        outbox.put(|| lift(1));
        assert!(outbox.take().changes.is_empty(), "nobody listens");
        outbox.open(true);
        (0..MOST as u64).for_each(|at| outbox.put(|| lift(at)));
        let taken = outbox.take();
        assert!(!taken.all && taken.changes.len() == MOST && outbox.is_empty());
        outbox.put_back(taken);
        outbox.put(|| lift(2));
        let taken = outbox.take();
        assert!(taken.all && taken.changes.len() == 1, "{}", taken.changes.len());
        outbox.put(|| lift(3));
        outbox.put_back(taken);
        let again = outbox.take();
        assert!(again.all && matches!(again.changes.last(), Some(Change::Lift { at: 3, .. })));
    }
}

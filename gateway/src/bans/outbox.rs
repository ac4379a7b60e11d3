//! What happens to bans here that other gateways are to hear of.
//!
//! Invariant: it is of bounded size. Where more happens than it holds, the newest stay, and everything that is known is told as well ([`Outbox::tell_all`]): bans by who
//! keeps them, and lifts by `lifts`.

use std::collections::VecDeque;
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

impl Change {
    /// When a ban began, or bans were lifted, in seconds since the epoch.
    pub fn at(&self) -> u64 {
        match self {
            Self::Ban { ban, .. } => ban.since,
            Self::Lift { at, .. } => *at,
        }
    }
}

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Somebody listens.
    is_open: AtomicBool,
    /// In the order in which it happened.
    waiting: Mutex<VecDeque<Change>>,
    /// Everything is to be told.
    all: AtomicBool,
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

impl Outbox {
    /// From now on, changes are kept until they are told, or not any more.
    pub fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
        if !is_open {
            self.waiting().clear();
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
        waiting.push_back(change);
        self.bound(&mut waiting);
    }

    /// Those that are too many go, the oldest first.
    fn bound(&self, waiting: &mut VecDeque<Change>) {
        let excess = waiting.len().saturating_sub(MOST);
        if excess > 0 {
            waiting.drain(..excess);
            self.tell_all();
        }
    }

    /// Everything is to be told: what others know is not what is known here.
    pub fn tell_all(&self) {
        self.all.store(true, Ordering::Relaxed);
    }

    /// Whether everything is to be told; that is the caller's business from now on.
    pub fn is_for_all(&self) -> bool {
        self.all.swap(false, Ordering::Relaxed)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting().is_empty()
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

    /// Takes what waits, the oldest first; no more than so many.
    pub fn take(&self, most: usize) -> Vec<Change> {
        let mut waiting = self.waiting();
        let most = waiting.len().min(most);
        waiting.drain(..most).collect()
    }

    /// They could not be told.
    pub fn put_back(&self, taken: Vec<Change>) {
        let mut waiting = self.waiting();
        taken.into_iter().rev().for_each(|change| waiting.push_front(change));
        self.bound(&mut waiting);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_more_happens_than_fits_the_newest_stay_and_all_is_told() {
        let outbox = Outbox::default();
        let lift = |at| Change::Lift { client: None, at };
        let times = |changes: &[Change]| -> Vec<u64> {
            let at = |change: &Change| if let Change::Lift { at, .. } = change { *at } else { 0 };
            changes.iter().map(at).collect()
        };
        outbox.put(|| lift(1));
        assert!(outbox.take(9).is_empty(), "nobody listens");
        outbox.open(true);
        (0..MOST as u64).for_each(|at| outbox.put(|| lift(at)));
        let taken = outbox.take(2);
        assert_eq!(times(&taken), [0, 1]);
        outbox.put_back(taken);
        assert!(!outbox.is_for_all());
        outbox.put(|| lift(7));
        assert!(outbox.is_for_all() && !outbox.is_for_all());
        let taken = outbox.take(usize::MAX);
        assert_eq!((taken.len(), taken.first().map(|_| times(&taken)[0]), outbox.is_empty()), (MOST, Some(1), true));
        outbox.put(|| lift(8));
        outbox.put_back(taken);
        assert!(outbox.is_for_all());
        assert_eq!(times(&outbox.take(usize::MAX)).last(), Some(&8));
    }
}

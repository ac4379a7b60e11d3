//! Who used how much: a table of fixed size, shared by all threads without a lock on the usual path.
//!
//! An array of buckets of two cache lines: a guard, a spare word, and seven ways of a key and its theoretical arrival
//! time (TAT). A key lives in one bucket only. An entry whose TAT is not in the future is as good as empty, so nothing
//! has to be swept; when all seven are in debt, the least indebted one makes room, which is counted.
//!
//! * Charging a key that is present is one `compare_exchange` on its TAT. A slot changes its key only while its TAT is
//!   [`BUSY`], and what a charge writes is larger than what it read; hence an exchange that succeeds after the key was
//!   read means that the key is still there. The exception: the slot was taken over from a live debtor, or refunded,
//!   and the new TAT is equal to the nanosecond. Then one admission is written to the wrong one of two keys.
//! * Inserting a key takes the bucket's guard, so that two threads cannot insert it twice. Whoever cannot have the
//!   guard after a short while, in which other threads were let run, admits the request uncounted: waiting for long for a
//!   thread that lost its CPU would be worse than one request too many.

mod bucket;
mod flights;
mod memory;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;

use super::cells::Cells;
use super::{Algorithm, Decision, Key, KeyBuilder, KeyPart, KeyParts, Quota, Seed};
use crate::Now;
use crate::bandwidth;
use crate::client::Identity;
use bucket::{Bucket, Insertion, WAYS, WORDS};

/// Marks a TAT whose slot is being given to another key. No sum of a clock and a window reaches it.
const BUSY: u64 = u64::MAX;

/// What is decided where nobody asks: only the state of the key is of use.
const NOTHING: Decision = Decision { admitted: true, remaining: 0, reset: 0, retry_after: 0, delay: 0 };

/// Buckets at most: 128 GiB. What is asked beyond is a slip of the keyboard.
const MAX_BUCKETS: usize = 1 << 30;

/// The state of one limit for all its keys.
pub struct Table {
    cells: Cells<WORDS>,
    hasher: RandomState,
    evicted_live: AtomicU64,
    contended: AtomicU64,
    pause: fn(),
}

/// What happened to a table since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Keys that were forgotten while in debt: the table is too small for its traffic.
    pub evicted_live: u64,
    /// Requests that were admitted uncounted because their bucket's guard could not be had.
    pub contended: u64,
}

impl std::fmt::Debug for Table {
    /// Without the keys: there may be a million.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Table {
    /// A table for at least `max_keys` keys in debt at the same time; every key takes 18 to 37 bytes.
    pub fn new(max_keys: usize, seed: Seed) -> Self {
        Self {
            cells: Cells::new(max_keys.div_ceil(WAYS), MAX_BUCKETS),
            hasher: seed.hasher(),
            evicted_live: AtomicU64::new(0),
            contended: AtomicU64::new(0),
            pause: std::hint::spin_loop,
        }
    }

    /// How a thread lets others run that it waits for: it has to come back soon. Without, it spins.
    #[must_use]
    pub fn pausing(mut self, pause: fn()) -> Self {
        self.pause = pause;
        self
    }

    /// The keys that fit.
    pub fn capacity(&self) -> usize {
        self.cells.len() * WAYS
    }

    /// The key that the parts make in this table.
    #[inline]
    pub fn key(&self, parts: &KeyParts<'_>) -> Key {
        Key::new(&self.hasher, parts)
    }

    /// A key of this table, to be put together. `quota`: whose windows its stagger is for.
    #[inline]
    pub fn build_key(&self, quota: &Quota) -> KeyBuilder<ahash::AHasher> {
        KeyBuilder::new(&self.hasher, quota.algorithm() == Algorithm::FixedWindow)
    }

    /// The key of a client alone: see [`KeyPart::Client`].
    #[inline]
    pub fn client_key(&self, identity: &Identity, v4_prefix: u8, v6_prefix: u8) -> Key {
        self.key(&[KeyPart::Client { identity, v4_prefix, v6_prefix }])
    }

    /// Charges one request to a key, or refuses it and changes nothing.
    #[inline]
    pub fn admit(&self, key: Key, quota: &Quota, now: Now) -> Decision {
        let bucket = self.bucket(key);
        let charged = bucket.charge(key.bits(), |state| quota.decide(state, now, key.stagger(), 1));
        charged.unwrap_or_else(|| self.insert(&bucket, key, quota, now))
    }

    /// What so many requests at once would be told, without charging anything.
    #[inline]
    pub fn peek(&self, key: Key, quota: &Quota, now: Now, quantity: u64) -> Decision {
        let state = self.bucket(key).read(key.bits()).unwrap_or(0);
        quota.decide(state, now, key.stagger(), quantity).1
    }

    /// Gives one admission back. For requests that pass several limits or none: whoever is refused by a later limit
    /// has not used the earlier ones.
    #[inline]
    pub fn refund(&self, key: Key, quota: &Quota) {
        let _ = self.bucket(key).charge(key.bits(), |state| (Some(quota.refunded(state)), NOTHING));
    }

    /// The state of a key, for [`Self::refund_late`].
    pub fn state(&self, key: Key) -> u64 {
        self.bucket(key).read(key.bits()).unwrap_or(0)
    }

    /// The same some time after the charge, which left the state `charged` behind. What time has earned back meanwhile is not given back once more.
    pub fn refund_late(&self, key: Key, quota: &Quota, charged: u64, now: Now) {
        let _ = self.bucket(key).charge(key.bits(), |state| (Some(quota.refunded_late(state, charged, now)), NOTHING));
    }

    /// When somebody may go on the line of this key, who takes so many nanoseconds on it: see [`crate::bandwidth`]. Whoever can not be remembered goes
    /// at once.
    pub fn take_turn(&self, key: Key, cost: u64, now: u64) -> u64 {
        let at = Cell::new(now);
        let known = self.update(key, now, |due| {
            let (turn, busy) = bandwidth::turn(due, now, cost);
            at.set(turn);
            Some(busy)
        });
        if known { at.get() } else { now }
    }

    /// Exchanges the state of a key, 0 where it is new, for what `judge` makes of it; `None` leaves it. For tables that refuse nobody. `false`: the key was not
    /// there and could not be brought in.
    fn update(&self, key: Key, now: u64, judge: impl Fn(u64) -> Option<u64>) -> bool {
        let judge = |before| (judge(before).map(|state| state.min(BUSY - 1)), NOTHING);
        let bucket = self.bucket(key);
        if bucket.charge(key.bits(), judge).is_some() {
            return true;
        }
        let inserted = bucket.insert(key.bits(), now, judge);
        self.count(&inserted);
        !matches!(inserted, Insertion::Contended)
    }

    /// What happened so far.
    pub fn stats(&self) -> TableStats {
        TableStats {
            evicted_live: self.evicted_live.load(Ordering::Relaxed),
            contended: self.contended.load(Ordering::Relaxed),
        }
    }

    /// A key that was not found, or was on its way out.
    #[cold]
    fn insert(&self, bucket: &Bucket<'_>, key: Key, quota: &Quota, now: Now) -> Decision {
        let decide = |state| quota.decide(state, now, key.stagger(), 1);
        let inserted = bucket.insert(key.bits(), quota.clock(now), decide);
        self.count(&inserted);
        match inserted {
            Insertion::Present(decision) | Insertion::Reused(decision) | Insertion::Evicted(decision) => decision,
            Insertion::Contended => decide(0).1,
        }
    }

    fn count(&self, inserted: &Insertion) {
        match inserted {
            Insertion::Present(_) | Insertion::Reused(_) => {}
            Insertion::Evicted(_) => {
                self.evicted_live.fetch_add(1, Ordering::Relaxed);
            }
            Insertion::Contended => {
                self.contended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn bucket(&self, key: Key) -> Bucket<'_> {
        Bucket::new(self.cells.bucket(key.bits()), self.pause)
    }
}

#[cfg(test)]
mod tests;

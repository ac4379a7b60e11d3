//! How many requests of a key are in flight: a table of fixed size, shared by all threads without a lock on the usual path.
//!
//! An array of buckets of one cache line: a guard, and seven words, each with a part of a key's hash, the number of its requests, and a mark that somebody
//! waits for a place. A key lives in one bucket only.
//!
//! * To enter and to leave is one exchange on one word. Who is inside holds the word for its key: it is not given to another one before the last has left, so
//!   that nobody is ever counted out of the wrong number.
//! * A word without requests keeps its key until another one needs it, so that a client with one request after the other finds its word.
//! * Only who brings in a key takes the bucket's guard, so that two threads cannot bring it in twice.
//! * Where all seven are taken, or the guard is not to be had, the request is let in uncounted, and that is counted: nobody is refused because there are many
//!   others. With no more than `max_keys` keys in flight, this happens to one in a thousand at the most.
//!
//! The line of those who wait is kept by the caller, under a lock of its own. [`Places::enter_or_mark`], [`Places::hand_on`] and [`Places::unmark`] are for whoever
//! holds that. While a key is marked, nobody passes those who wait: [`Places::enter`] finds it full, and [`Places::leave`] leaves it to the line.

use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;

use super::cells::{Cells, Guard};
use super::{Key, KeyBuilder, KeyParts, Seed};

/// Keys in a bucket.
const WAYS: usize = 7;

/// Words in a bucket: the guard, and one for each way. One cache line.
const WORDS: usize = 1 + WAYS;

/// The number of requests.
const COUNT: u64 = (1 << 20) - 1;

/// Somebody waits.
const MARK: u64 = 1 << 20;

/// The part of the hash. Together with the bucket, 57 bits of it and more: that two of a million keys are one happens in one of 100,000 tables.
const TAG: u64 = !(COUNT | MARK);

/// Buckets at most: 4 GiB. What is asked beyond is a slip of the keyboard.
const MAX_BUCKETS: usize = 1 << 26;

/// The largest number of requests that is told apart from more.
pub const MAX_COUNT: u32 = 1_000_000;

/// Requests in flight by key.
pub struct Places {
    cells: Cells<WORDS>,
    hasher: RandomState,
    uncounted: AtomicU64,
    pause: fn(),
}

/// Where a key is counted. As good as a place in it: only who has entered, or waits there, has a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(usize);

/// How a request fares that wants to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It is in, and has to leave.
    In {
        /// Where it is counted.
        slot: Slot,
        /// How many there are now, this one included.
        count: u32,
    },
    /// There are as many as there may be, or others wait.
    Full(Slot),
    /// It may go on, and nobody counts it.
    Uncounted,
}

/// What is in a table at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Requests in flight.
    pub requests: u64,
    /// Keys that they belong to.
    pub keys: u64,
}

impl std::fmt::Debug for Places {
    /// Without the keys: there may be many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Places").field("uncounted", &self.uncounted()).finish_non_exhaustive()
    }
}

impl Places {
    /// A table for `max_keys` keys with requests in flight; each takes 32 to 64 bytes.
    pub fn new(max_keys: usize, seed: Seed) -> Self {
        // Two keys for each bucket of seven on average: few buckets are ever full.
        Self {
            cells: Cells::new(max_keys.div_ceil(2), MAX_BUCKETS),
            hasher: seed.hasher(),
            uncounted: AtomicU64::new(0),
            pause: std::hint::spin_loop,
        }
    }

    /// How a thread lets others run that it waits for: it has to come back soon. Without, it spins.
    #[must_use]
    pub fn pausing(mut self, pause: fn()) -> Self {
        self.pause = pause;
        self
    }

    /// The key that the parts make in this table.
    pub fn key(&self, parts: &KeyParts<'_>) -> Key {
        Key::new(&self.hasher, parts)
    }

    /// A key of this table, to be put together.
    #[inline]
    pub fn build_key(&self) -> KeyBuilder<ahash::AHasher> {
        KeyBuilder::new(&self.hasher, false)
    }

    /// One more request of this key, where there are fewer than `most`, which is taken for 1 at least and for [`MAX_COUNT`] at most.
    #[inline]
    pub fn enter(&self, key: Key, most: u32) -> Entered {
        self.come(key, most, 0)
    }

    /// The same, for who will wait if it is full: it is marked then. Under the lock of the line.
    pub fn enter_or_mark(&self, key: Key, most: u32) -> Entered {
        self.come(key, most, MARK)
    }

    /// A request that has entered is over. `false`: somebody waits, and the caller has to [`Self::hand_on`] what becomes free, under the lock of the line.
    #[inline]
    #[must_use]
    pub fn leave(&self, slot: Slot) -> bool {
        let Some(word) = self.cells.word(slot.0) else { return true };
        let left = |before: u64| (before & MARK == 0).then(|| before.saturating_sub(1));
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).is_ok()
    }

    /// A request is over whose key is marked. Under the lock of the line.
    pub fn leave_marked(&self, slot: Slot) {
        if let Some(word) = self.cells.word(slot.0) {
            // Somebody has entered, or there would be nobody to leave.
            word.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A place for the first in the line of a marked key, where there are fewer than `most`. Under the lock of the line.
    pub fn hand_on(&self, slot: Slot, most: u32) -> bool {
        let more = |before: u64| (before & COUNT < clamp(most)).then_some(before + 1);
        let word = self.cells.word(slot.0);
        word.is_some_and(|word| word.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok())
    }

    /// Nobody waits any more. Under the lock of the line.
    pub fn unmark(&self, slot: Slot) {
        if let Some(word) = self.cells.word(slot.0) {
            word.fetch_and(!MARK, Ordering::AcqRel);
        }
    }

    /// Requests that were let in uncounted.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    /// Counts what is in the table. Reads all of it: for reports.
    pub fn occupancy(&self) -> Occupancy {
        let mut occupancy = Occupancy::default();
        for bucket in self.cells.all() {
            for word in bucket.iter().skip(1) {
                let count = word.load(Ordering::Relaxed) & COUNT;
                occupancy.requests += count;
                occupancy.keys += u64::from(count > 0);
            }
        }
        occupancy
    }

    #[inline]
    fn come(&self, key: Key, most: u32, mark: u64) -> Entered {
        let bucket = self.cells.start(key.bits());
        match self.find(bucket, key, most, mark) {
            Some(entered) => entered,
            None => self.bring(bucket, key, most, mark),
        }
    }

    /// Enters where the key is. `None`: it is not there.
    #[inline]
    fn find(&self, bucket: usize, key: Key, most: u32, mark: u64) -> Option<Entered> {
        let tag = key.bits() & TAG;
        let ways = self.cells.ways(bucket)?;
        let is_own = |word: u64| word & TAG == tag;
        let (way, word) = ways.iter().enumerate().find(|(_, word)| is_own(word.load(Ordering::Relaxed)))?;
        let slot = Slot(bucket + 1 + way);
        let mut before = word.load(Ordering::Acquire);
        loop {
            // Another key may have taken a word without requests meanwhile.
            if !is_own(before) {
                return None;
            }
            let full = before & MARK != 0 || before & COUNT >= clamp(most);
            let after = if full { before | mark } else { before + 1 };
            if after == before {
                return Some(Entered::Full(slot));
            }
            match word.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if full => return Some(Entered::Full(slot)),
                Ok(_) => return Some(Entered::In { slot, count: count(after) }),
                Err(current) => before = current,
            }
        }
    }

    /// Brings in a key that was not found.
    #[cold]
    fn bring(&self, bucket: usize, key: Key, most: u32, mark: u64) -> Entered {
        let entered = self.cells.word(bucket).and_then(|word| Guard::take(word, self.pause)).and_then(|_guard| {
            // Another thread may have been faster.
            self.find(bucket, key, most, mark).or_else(|| self.take(bucket, key))
        });
        entered.unwrap_or_else(|| {
            self.uncounted.fetch_add(1, Ordering::Relaxed);
            Entered::Uncounted
        })
    }

    /// Takes a word without requests, one without a key if there is any. Under the bucket's guard.
    fn take(&self, bucket: usize, key: Key) -> Option<Entered> {
        let ways = self.cells.ways(bucket)?;
        let after = key.bits() & TAG | 1;
        let try_take = |(way, word): (usize, &AtomicU64), free: fn(u64) -> bool| {
            let before = word.load(Ordering::Acquire);
            let taken =
                free(before) && word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            taken.then_some(Entered::In { slot: Slot(bucket + 1 + way), count: 1 })
        };
        let mut ways = [ways.iter().enumerate(), ways.iter().enumerate()];
        let [unused, empty] = &mut ways;
        unused
            .find_map(|way| try_take(way, |word| word == 0))
            .or_else(|| empty.find_map(|way| try_take(way, |word| word & (COUNT | MARK) == 0)))
    }
}

fn clamp(most: u32) -> u64 {
    u64::from(most.clamp(1, MAX_COUNT))
}

fn count(word: u64) -> u32 {
    (word & COUNT) as u32
}

#[cfg(test)]
mod tests;

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

/// Attempts to take a guard that another thread holds for a few dozen instructions.
const PATIENCE: usize = 64;

/// After that, how often others are let run: the one with the guard may have lost its CPU to this one.
const LENIENCE: usize = 64;

/// The largest number of requests that is told apart from more.
pub const MAX_COUNT: u32 = 1_000_000;

/// Requests in flight by key.
pub struct Places {
    /// Zeroed by the allocator and touched when first used, so that a large table costs what it holds.
    words: Box<[AtomicU64]>,
    /// Words skipped so that buckets start on a cache line.
    skipped: usize,
    /// The number of buckets, a power of two, less one.
    mask: u64,
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
        let buckets = max_keys.div_ceil(2).clamp(1, MAX_BUCKETS).next_power_of_two();
        let words: Box<[AtomicU64]> = bytemuck::allocation::zeroed_slice_box((buckets + 1) * WORDS);
        let skipped = words.as_ptr().align_offset(WORDS * size_of::<AtomicU64>()).min(WORDS);
        Self {
            words,
            skipped,
            mask: buckets as u64 - 1,
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
        let Some(word) = self.words.get(slot.0) else { return true };
        let left = |before: u64| (before & MARK == 0).then(|| before.saturating_sub(1));
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, left).is_ok()
    }

    /// A request is over whose key is marked. Under the lock of the line.
    pub fn leave_marked(&self, slot: Slot) {
        if let Some(word) = self.words.get(slot.0) {
            // Somebody has entered, or there would be nobody to leave.
            word.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A place for the first in the line of a marked key, where there are fewer than `most`. Under the lock of the line.
    pub fn hand_on(&self, slot: Slot, most: u32) -> bool {
        let more = |before: u64| (before & COUNT < clamp(most)).then_some(before + 1);
        let word = self.words.get(slot.0);
        word.is_some_and(|word| word.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok())
    }

    /// Nobody waits any more. Under the lock of the line.
    pub fn unmark(&self, slot: Slot) {
        if let Some(word) = self.words.get(slot.0) {
            word.fetch_and(!MARK, Ordering::AcqRel);
        }
    }

    /// Requests that were let in uncounted.
    pub fn uncounted(&self) -> u64 {
        self.uncounted.load(Ordering::Relaxed)
    }

    /// Counts what is in the table. Reads all of it: for reports.
    pub fn occupancy(&self) -> Occupancy {
        let buckets = self.words.get(self.skipped..).unwrap_or_default();
        let mut occupancy = Occupancy::default();
        for bucket in buckets.as_chunks::<WORDS>().0 {
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
        let bucket = self.bucket(key);
        match self.find(bucket, key, most, mark) {
            Some(entered) => entered,
            None => self.bring(bucket, key, most, mark),
        }
    }

    /// Enters where the key is. `None`: it is not there.
    #[inline]
    fn find(&self, bucket: usize, key: Key, most: u32, mark: u64) -> Option<Entered> {
        let tag = key.bits() & TAG;
        let ways = self.words.get(bucket + 1..bucket + WORDS)?;
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
        let entered = self.guard(bucket).and_then(|_guard| {
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
        let ways = self.words.get(bucket + 1..bucket + WORDS)?;
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

    fn guard(&self, bucket: usize) -> Option<Guard<'_>> {
        let word = self.words.get(bucket)?;
        for attempt in 0..PATIENCE + LENIENCE {
            if word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Some(Guard(word));
            }
            if attempt < PATIENCE { std::hint::spin_loop() } else { (self.pause)() }
        }
        None
    }

    /// The first word of the key's bucket.
    #[inline]
    fn bucket(&self, key: Key) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "masked to the number of buckets, which is a usize")]
        let index = (key.bits() & self.mask) as usize;
        self.skipped + index * WORDS
    }
}

/// The right to bring a key into a bucket, given back when dropped.
struct Guard<'a>(&'a AtomicU64);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
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

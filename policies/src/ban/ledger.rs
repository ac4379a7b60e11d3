//! Who offended when: exact counts over a window that slides, in a table of fixed size.
//!
//! A client lies in one bucket of [`WAYS`] entries, with the moments of its latest offences. Where all of them are taken by clients with offences in the
//! window, the one with the fewest makes room, the one that is quiet for longest among those; that is counted.
//!
//! A bucket belongs to one of a few parts, each behind a lock: requests come here only when they have offended, and nobody waits. Whoever
//! does not get the lock in a moment is not counted this time, which is counted.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::Client;
use crate::limit::Seed;

/// Entries of a bucket.
const WAYS: usize = 8;

/// Parts with a lock of their own, a power of two.
const PARTS: usize = 16;

/// How often the lock of a part is tried.
const TRIES: usize = 64;

/// Buckets, one after the other.
type Part = Mutex<Box<[u64]>>;

/// The offences of all clients, for one policy.
pub struct Ledger {
    parts: Box<[Part]>,
    /// The number of buckets of each part, a power of two, less one.
    mask: usize,
    /// Offences that are too many.
    max: usize,
    /// In nanoseconds.
    window: u64,
    hasher: ahash::RandomState,
    evicted: AtomicU64,
    contended: AtomicU64,
}

/// What an offence led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many in the window, with this one.
    Counted(usize),
    /// It was one too many. From here on the client is counted anew.
    TooMany,
}

/// What happened to a ledger since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Clients that were forgotten although they had offended lately: the table is too small.
    pub evicted: u64,
    /// Offences that were not counted because others were being counted at the same moment.
    pub contended: u64,
}

impl std::fmt::Debug for Ledger {
    /// Without the clients: there may be very many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Ledger {
    /// The most offences that can be asked for: each one takes 8 bytes for each client.
    pub const MOST: usize = 100;

    /// Clients are too many offences away from a ban: `max` in any `window`, in nanoseconds. At least `clients` are remembered at a time.
    pub fn new(max: usize, window: u64, clients: usize, seed: Seed) -> Self {
        let max = max.clamp(1, Self::MOST);
        let buckets = clients.clamp(1, 1 << 26).div_ceil(WAYS * PARTS).next_power_of_two();
        // Zeroed by the allocator and touched when first used, so that a large table costs what it holds.
        let part = || Mutex::new(bytemuck::allocation::zeroed_slice_box(buckets * WAYS * max));
        Self {
            parts: (0..PARTS).map(|_| part()).collect(),
            mask: buckets - 1,
            max,
            window: window.max(1),
            hasher: seed.hasher(),
            evicted: AtomicU64::new(0),
            contended: AtomicU64::new(0),
        }
    }

    /// Counts one offence of a client. `now`: monotonic, never 0.
    pub fn offend(&self, client: Client, now: u64) -> Outcome {
        let (part, bucket) = self.place(client);
        let Some(mut part) = part.and_then(try_lock) else {
            self.contended.fetch_add(1, Ordering::Relaxed);
            return Outcome::Counted(0);
        };
        let Some(bucket) = part.get_mut(bucket) else { return Outcome::Counted(0) };
        let found = bucket.chunks_exact(self.max).position(|entry| entry.first() == Some(&client.bits()));
        let way = found.unwrap_or_else(|| {
            let quietest = (bucket.chunks_exact(self.max).enumerate()).min_by_key(|(_, entry)| self.guilt(entry, now));
            let Some((way, entry)) = quietest else { return 0 };
            if self.guilt(entry, now).0 > 0 {
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            way
        });
        let Some([holder, times @ ..]) = bucket.chunks_exact_mut(self.max).nth(way) else {
            return Outcome::Counted(0);
        };
        if found.is_none() {
            times.fill(0);
        }
        let count = times.iter().filter(|&&at| self.is_recent(at, now)).count() + 1;
        if count >= self.max {
            *holder = 0;
            times.fill(0);
            return Outcome::TooMany;
        }
        *holder = client.bits();
        // There is one: less than `max - 1` are recent.
        if let Some(oldest) = times.iter_mut().min() {
            *oldest = now;
        }
        Outcome::Counted(count)
    }

    /// How many offences of a client are in the window.
    pub fn count(&self, client: Client, now: u64) -> usize {
        self.with(client, |entry| entry.iter().skip(1).filter(|&&at| self.is_recent(at, now)).count()).unwrap_or(0)
    }

    /// Forgets the offences of a client.
    pub fn forget(&self, client: Client) {
        self.with(client, |entry| entry.fill(0));
    }

    /// Forgets everybody's.
    pub fn clear(&self) {
        for part in &self.parts {
            // Only what is not zero, so that memory that was never used stays so.
            let mut part = part.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            part.iter_mut().filter(|word| **word != 0).for_each(|word| *word = 0);
        }
    }

    /// Offences that are too many.
    pub fn max(&self) -> usize {
        self.max
    }

    /// What happened so far.
    pub fn stats(&self) -> LedgerStats {
        LedgerStats { evicted: self.evicted.load(Ordering::Relaxed), contended: self.contended.load(Ordering::Relaxed) }
    }

    /// For those who may wait: people's questions.
    fn with<T>(&self, client: Client, look: impl FnOnce(&mut [u64]) -> T) -> Option<T> {
        let (part, bucket) = self.place(client);
        let mut part = part?.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut entries = part.get_mut(bucket)?.chunks_exact_mut(self.max);
        entries.find(|entry| entry.first() == Some(&client.bits())).map(look)
    }

    /// Offences in the window, and the latest: whoever has least of it makes room.
    fn guilt(&self, entry: &[u64], now: u64) -> (usize, u64) {
        match entry {
            [holder, times @ ..] if *holder != 0 => {
                let recent = times.iter().filter(|&&at| self.is_recent(at, now));
                recent.fold((0, 0), |(count, latest), &at| (count + 1, at.max(latest)))
            }
            _ => (0, 0),
        }
    }

    fn is_recent(&self, at: u64, now: u64) -> bool {
        at != 0 && now.saturating_sub(at) < self.window
    }

    fn place(&self, client: Client) -> (Option<&Part>, Range<usize>) {
        let hash = self.hasher.hash_one(client.bits());
        #[expect(clippy::cast_possible_truncation, reason = "masked to sizes, which are usizes")]
        let (part, bucket) = ((hash >> 48) as usize & (PARTS - 1), hash as usize & self.mask);
        let size = WAYS * self.max;
        (self.parts.get(part), bucket * size..(bucket + 1) * size)
    }
}

fn try_lock<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..TRIES {
        match lock.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
    None
}

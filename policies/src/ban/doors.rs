//! Who is banned, for whom every request is looked up: a table of fixed size that is read without a lock.
//!
//! Open addressing: a client lies at its place or behind it, without a gap in between. At most half of the places are taken.
//!
//! Invariant: one writer, the [`Book`](super::Book), which is held by whoever writes. A reader that meets a writer may miss a client that is there, or
//! read the end of another ban, for one request; a client that was never banned is never found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Client, Clock};
use crate::limit::Seed;

/// Who is banned until when.
pub struct Doors {
    /// Pairs of a client (0: none) and the end of its ban, in the time of the clock. Zeroed by the allocator and touched when first used.
    words: Box<[AtomicU64]>,
    /// The number of places, a power of two, less one.
    mask: usize,
    held: AtomicUsize,
    clock: Arc<Clock>,
    hasher: ahash::RandomState,
}

impl std::fmt::Debug for Doors {
    /// Without the clients: there may be very many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors").field("held", &self.len()).finish_non_exhaustive()
    }
}

impl Doors {
    /// For `clients` at a time.
    pub(super) fn new(clients: usize, clock: Arc<Clock>, seed: Seed) -> Self {
        let places = clients.clamp(1, 1 << 28).saturating_mul(2).next_power_of_two();
        Self {
            words: bytemuck::allocation::zeroed_slice_box(places * 2),
            mask: places - 1,
            held: AtomicUsize::new(0),
            clock,
            hasher: seed.hasher(),
        }
    }

    /// How many are banned.
    #[inline]
    pub fn len(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether nobody is.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Until when the client is banned, in seconds since the epoch. Whether that is over is for the caller to say.
    #[inline]
    pub fn until(&self, client: Client) -> Option<u64> {
        let mut place = self.home(client);
        // Never all of them: half are empty.
        for _ in 0..=self.mask {
            match self.word(place, 0)?.load(Ordering::Acquire) {
                0 => return None,
                bits if bits == client.bits() => {
                    let until = self.word(place, 1)?.load(Ordering::Acquire);
                    return Some(self.clock.told(until));
                }
                _ => place = (place + 1) & self.mask,
            }
        }
        None
    }

    /// Closes the door to a client until then. `false`: there is no place for one more.
    pub(super) fn close(&self, client: Client, until: u64) -> bool {
        let mut place = self.home(client);
        loop {
            let bits = self.read(place, 0);
            if bits == client.bits() {
                self.write(place, 1, until);
                return true;
            }
            if bits == 0 {
                break;
            }
            place = (place + 1) & self.mask;
        }
        if self.len() * 2 > self.mask {
            return false;
        }
        // The end first: whoever finds the client finds it as well.
        self.write(place, 1, until);
        self.write(place, 0, client.bits());
        self.held.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Opens the door to a client again.
    pub(super) fn open(&self, client: Client) {
        let mut gap = self.home(client);
        loop {
            match self.read(gap, 0) {
                0 => return,
                bits if bits == client.bits() => break,
                _ => gap = (gap + 1) & self.mask,
            }
        }
        self.held.fetch_sub(1, Ordering::Relaxed);
        // Whoever lies behind the gap and may lie in it moves there, so that nobody is searched for behind a gap.
        let mut place = gap;
        loop {
            place = (place + 1) & self.mask;
            let Some(other) = Client::from_bits(self.read(place, 0)) else { break };
            let (from_home, from_gap) =
                (place.wrapping_sub(self.home(other)) & self.mask, place.wrapping_sub(gap) & self.mask);
            if from_home >= from_gap {
                self.write(gap, 1, self.read(place, 1));
                self.write(gap, 0, other.bits());
                gap = place;
            }
        }
        self.write(gap, 0, 0);
    }

    #[inline]
    fn home(&self, client: Client) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "masked to the number of places, which is a usize")]
        let hash = self.hasher.hash_one(client.bits()) as usize;
        hash & self.mask
    }

    #[inline]
    fn word(&self, place: usize, which: usize) -> Option<&AtomicU64> {
        self.words.get(place * 2 + which)
    }

    fn read(&self, place: usize, which: usize) -> u64 {
        self.word(place, which).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn write(&self, place: usize, which: usize, value: u64) {
        if let Some(word) = self.word(place, which) {
            word.store(value, Ordering::Release);
        }
    }
}

//! One bucket: who is in it, charging them, and making room.

use std::sync::atomic::{AtomicU64, Ordering};

use super::BUSY;
use crate::limit::Decision;
use crate::limit::cells::Guard;
use crate::limit::word::Word;

/// Keys in a bucket.
pub(super) const WAYS: usize = 7;

/// Words in a bucket: the guard, one to spare, and two for each way. 128 bytes, two cache lines.
pub(super) const WORDS: usize = 2 + 2 * WAYS;

/// What to do with the TAT of a slot: the new one, if it changes, and what to answer.
type Judgement = (Option<u64>, Decision);

pub(super) struct Bucket<'a, W = AtomicU64> {
    guard: &'a W,
    /// The key, 0 for none, and its TAT.
    ways: &'a [[W; 2]],
    pause: fn(),
}

/// How a key that was not present came in.
pub(super) enum Insertion {
    /// Another thread was faster, the key was charged where it put it.
    Present(Decision),
    /// An empty slot, or one that nobody missed, was taken.
    Reused(Decision),
    /// A key in debt was forgotten.
    Evicted(Decision),
    /// There was no getting in.
    Contended,
}

impl<'a, W: Word> Bucket<'a, W> {
    #[inline]
    pub(super) fn new(words: &'a [W; WORDS], pause: fn()) -> Self {
        let [guard, _spare, ways @ ..] = words;
        Self { guard, ways: ways.as_chunks().0, pause }
    }

    /// The TAT of a key, if it is present.
    #[inline]
    pub(super) fn read(&self, wanted: u64) -> Option<u64> {
        let [key, tat] = self.find(wanted)?;
        let found = tat.load(Ordering::Acquire);
        // In this order: a slot that got another key in between shows it now.
        (found != BUSY && key.load(Ordering::Acquire) == wanted).then_some(found)
    }

    /// Exchanges the TAT of a key for what `judge` makes of it, if the key is present.
    #[inline]
    pub(super) fn charge(&self, wanted: u64, judge: impl Fn(u64) -> Judgement) -> Option<Decision> {
        let [key, tat] = self.find(wanted)?;
        let mut before = tat.load(Ordering::Acquire);
        loop {
            // In this order: had the slot got another key before the TAT was read, that key would show here; should it
            // get one afterwards, the exchange fails.
            if before == BUSY || key.load(Ordering::Acquire) != wanted {
                return None;
            }
            let (after, decision) = judge(before);
            let Some(after) = after else { return Some(decision) };
            // Another thread can make this fail, but only by getting its own request through.
            match tat.exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(decision),
                Err(current) => before = current,
            }
        }
    }

    /// Brings in a key that is new to the limit, or charges it after all. `judge` admits a key without debt.
    pub(super) fn insert(&self, wanted: u64, now: u64, judge: impl Fn(u64) -> Judgement) -> Insertion {
        let Some(_guard) = Guard::take(self.guard, self.pause) else {
            return Insertion::Contended;
        };
        if let Some(decision) = self.charge(wanted, &judge) {
            return Insertion::Present(decision);
        }
        let (Some(debt), decision) = judge(0) else {
            return Insertion::Contended;
        };
        for _ in 0..W::PATIENCE {
            let Some((key, tat, least)) = self.least_indebted() else {
                break;
            };
            // Fails when the victim was charged since it was chosen; then somebody else may be the least indebted.
            if tat.exchange(least, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // Releases the exchange: who sees the new key does not see a TAT from before it.
                key.store(wanted, Ordering::Release);
                tat.store(debt, Ordering::Release);
                return if least > now { Insertion::Evicted(decision) } else { Insertion::Reused(decision) };
            }
        }
        Insertion::Contended
    }

    #[inline]
    fn find(&self, wanted: u64) -> Option<&'a [W; 2]> {
        self.ways.iter().find(|[key, _]| key.load(Ordering::Relaxed) == wanted)
    }

    /// The slot with the lowest TAT. An empty one has 0; none is [`BUSY`] while the guard is held.
    fn least_indebted(&self) -> Option<(&'a W, &'a W, u64)> {
        let slots = self.ways.iter().map(|[key, tat]| (key, tat, tat.load(Ordering::Acquire)));
        slots.min_by_key(|&(_, _, tat)| tat)
    }
}

#[cfg(all(test, loom))]
mod model;

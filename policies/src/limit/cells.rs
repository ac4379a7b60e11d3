//! The memory of a table of fixed size, and who may change a bucket of it: what [`super::Table`] and [`super::Places`] have in common.
//!
//! Buckets of `WORDS` words, a power of two, so that each starts on a cache line. The first word of a bucket is its guard; what the others mean is the table's.

use std::sync::atomic::{AtomicU64, Ordering};

use super::word::Word;

/// The words of all buckets.
pub(super) struct Cells<const WORDS: usize> {
    /// Zeroed by the allocator and touched when first used, so that a large table costs what it holds.
    words: Box<[AtomicU64]>,
    /// Words skipped so that buckets start on a cache line.
    skipped: usize,
    /// The number of buckets, a power of two, less one.
    mask: u64,
}

impl<const WORDS: usize> Cells<WORDS> {
    /// At least so many buckets, all of them zero; `most` at the most.
    pub(super) fn new(buckets: usize, most: usize) -> Self {
        let buckets = buckets.clamp(1, most).next_power_of_two();
        let words: Box<[AtomicU64]> = bytemuck::allocation::zeroed_slice_box((buckets + 1) * WORDS);
        let skipped = words.as_ptr().align_offset(WORDS * size_of::<AtomicU64>()).min(WORDS);
        Self { words, skipped, mask: buckets as u64 - 1 }
    }

    /// The number of buckets.
    pub(super) fn len(&self) -> usize {
        self.words.len() / WORDS - 1
    }

    /// Where the bucket of a hash starts: its first word is [`Self::word`] of that.
    #[inline]
    pub(super) fn start(&self, hash: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "masked to the number of buckets, which is a usize")]
        let index = (hash & self.mask) as usize;
        self.skipped + index * WORDS
    }

    /// The bucket of a hash.
    #[inline]
    pub(super) fn bucket(&self, hash: u64) -> &[AtomicU64; WORDS] {
        #[expect(
            clippy::expect_used,
            reason = "skipped is at most one bucket, and one more than mask + 1 is allocated"
        )]
        self.words.get(self.start(hash)..).and_then(<[AtomicU64]>::first_chunk).expect("a bucket below the mask")
    }

    /// A word by its place.
    #[inline]
    pub(super) fn word(&self, place: usize) -> Option<&AtomicU64> {
        self.words.get(place)
    }

    /// The words of the bucket that starts here, without its guard.
    #[inline]
    pub(super) fn ways(&self, start: usize) -> Option<&[AtomicU64]> {
        self.words.get(start + 1..start + WORDS)
    }

    /// All buckets, one after the other.
    pub(super) fn all(&self) -> &[[AtomicU64; WORDS]] {
        let all = self.words.get(self.skipped..).unwrap_or_default().as_chunks().0;
        all.get(..self.len()).unwrap_or(all)
    }
}

/// The right to bring a key into a bucket, given back when dropped.
pub(super) struct Guard<'a, W: Word>(&'a W);

impl<'a, W: Word> Guard<'a, W> {
    /// Takes it. `None`: another thread has it, and kept it for longer than anybody should wait. `pause`: how others are let run.
    pub(super) fn take(word: &'a W, pause: fn()) -> Option<Self> {
        for attempt in 0..W::PATIENCE + W::LENIENCE {
            if word.exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Some(Self(word));
            }
            if attempt < W::PATIENCE {
                W::spin();
            } else {
                pause();
            }
        }
        None
    }
}

impl<W: Word> Drop for Guard<'_, W> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_start_on_a_cache_line_and_end_in_the_allocation() {
        let cells = Cells::<8>::new(1000, usize::MAX);
        assert_eq!((cells.len(), cells.all().len()), (1024, 1024));
        for hash in [0, 1, 1023, u64::MAX] {
            let bucket = cells.bucket(hash);
            assert_eq!(bucket.as_ptr().addr() % 64, 0);
            assert!(std::ptr::eq(bucket, &raw const cells.all()[usize::try_from(hash % 1024).unwrap()]));
            assert!(std::ptr::eq(&raw const bucket[0], cells.word(cells.start(hash)).unwrap()));
            assert_eq!(cells.ways(cells.start(hash)).unwrap().len(), 7);
        }
    }

    #[test]
    fn there_are_never_more_buckets_than_said_and_never_none() {
        assert_eq!(Cells::<16>::new(usize::MAX, 4).len(), 4);
        assert_eq!(Cells::<16>::new(0, 4).len(), 1);
    }

    #[test]
    fn a_guard_is_had_by_one_at_a_time() {
        let word = AtomicU64::new(0);
        let guard = Guard::take(&word, std::hint::spin_loop);
        assert!(guard.is_some() && Guard::take(&word, std::hint::spin_loop).is_none());
        drop(guard);
        assert!(Guard::take(&word, std::hint::spin_loop).is_some());
    }
}

//! Something that strangers can bring about as often as they like is told of now and then, and how often it was not.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many in a span of time are told, and the others counted.
#[derive(Debug)]
pub struct Sparing {
    most: u64,
    /// In seconds.
    span: u64,
    /// The number of the current span, and how many were told in it: the upper 44 bits and the lower 20.
    told: AtomicU64,
    /// Since it was last said how many.
    left_out: AtomicU64,
}

/// The lower bits of [`Sparing::told`].
const COUNT: u64 = 0xf_ffff;

impl Sparing {
    /// `most` in each `span` of seconds, which is not zero.
    pub fn new(most: u64, span: u64) -> Self {
        Self { most: most.min(COUNT), span: span.max(1), told: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether one more is told of at this time, in seconds, and how many were not since the last that was.
    pub fn pass(&self, now: u64) -> Option<u64> {
        let span = (now / self.span) << 20;
        let count = |told: u64| if told & !COUNT == span { told & COUNT } else { 0 };
        let more = |told| Some(span | (count(told) + 1)).filter(|_| count(told) < self.most);
        if self.told.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// How many were not told of, once their span is over and no other followed that could say it; `None`: there is nothing to say.
    pub fn rest(&self, now: u64) -> Option<u64> {
        let over = self.told.load(Ordering::Relaxed) & !COUNT != (now / self.span) << 20;
        Some(()).filter(|()| over)?;
        Some(self.left_out.swap(0, Ordering::Relaxed)).filter(|left_out| *left_out > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_told_of_and_the_others_counted() {
        let sparing = Sparing::new(2, 60);
        let told: Vec<_> = (0..5).map(|second| sparing.pass(600 + second)).collect();
        assert_eq!(told, [Some(0), Some(0), None, None, None]);
        assert_eq!(sparing.rest(659), None, "the span is not over");
        assert_eq!(sparing.pass(660), Some(3), "the next one says it");
        assert_eq!((sparing.pass(661), sparing.pass(662)), (Some(0), None));
        assert_eq!((sparing.rest(720), sparing.rest(720)), (Some(1), None), "or it is said alone, once");
    }
}

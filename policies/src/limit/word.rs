//! The atomic words that tables are made of.
//!
//! A trait, so that the protocol of a bucket can be run on words that try out every order in which threads may meet: see `table/bucket/model.rs`. In the program there
//! is one kind, and nothing is left of the trait.

use std::sync::atomic::{AtomicU64, Ordering};

/// A word that threads share.
pub(super) trait Word {
    /// Attempts to outrun threads that hold a guard, or a word, for a few dozen instructions.
    const PATIENCE: usize;
    /// After that, how often others are let run: the one with the guard may have lost its CPU to this one.
    const LENIENCE: usize;

    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn exchange(&self, before: u64, after: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
    /// The same; it may fail without a reason.
    fn exchange_weak(&self, before: u64, after: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
    /// Between two attempts.
    fn spin();
}

impl Word for AtomicU64 {
    const PATIENCE: usize = 64;
    const LENIENCE: usize = 64;

    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    #[inline]
    fn exchange(&self, before: u64, after: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.compare_exchange(before, after, success, failure)
    }

    #[inline]
    fn exchange_weak(&self, before: u64, after: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.compare_exchange_weak(before, after, success, failure)
    }

    #[inline]
    fn spin() {
        std::hint::spin_loop();
    }
}

//! The time that bans begin and end by.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Seconds that a clock may differ between threads. One that goes back by more was set back.
const JITTER: u64 = 5;

/// A time of its own, which no clock sets back: seconds since the epoch, and all by which the clock was set back so far. Bans and lifts are kept in it, all in the
/// same one: so each ban goes on for what was left of it, and what began after something else still did. What comes in and goes out is in seconds since the epoch.
#[derive(Debug, Default)]
pub struct Clock {
    /// When it was looked at last, in seconds since the epoch.
    seen: Mutex<u64>,
    /// By how many seconds it was set back so far.
    back: AtomicU64,
    /// It was, and nobody was told yet.
    was_set_back: AtomicBool,
}

impl Clock {
    /// Goes on to `now`, in seconds since the epoch. The same in this time.
    pub fn pass(&self, now: u64) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_add(JITTER) < *seen {
            // Without this, a machine that comes up with a clock a year ahead would keep clients out for a year.
            self.back.store(self.own(*seen - now), Ordering::Relaxed);
            self.was_set_back.store(true, Ordering::Relaxed);
        }
        *seen = now;
        self.own(now)
    }

    /// In this time, what is in seconds since the epoch.
    #[inline]
    pub fn own(&self, at: u64) -> u64 {
        at.saturating_add(self.back.load(Ordering::Relaxed))
    }

    /// In seconds since the epoch, what is in this time.
    #[inline]
    pub fn told(&self, own: u64) -> u64 {
        own.saturating_sub(self.back.load(Ordering::Relaxed))
    }

    /// Since this was asked last, the clock was set back: bans begin and end earlier than they were said to, which has to be written down.
    pub fn was_set_back(&self) -> bool {
        self.was_set_back.swap(false, Ordering::Relaxed)
    }
}

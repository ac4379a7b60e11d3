//! Memory that connections held goes back to the system when they have gone.
//!
//! The allocator keeps pages that are free for what comes next, and gives them back when something else is allocated. After ten thousand clients have left, nothing is.
//! So each worker, whose heap is its own, looks at every tick how many there are.
//!
//! Also one of the two places with `unsafe`: the allocator's own call is not Rust.
#![allow(unsafe_code, reason = "the allocator is written in C")]

use std::cell::Cell;
use std::time::Duration;

// Brings the function that is declared below.
use libmimalloc_sys as _;

/// How often a worker gives back what is left of smaller changes.
const SLOWLY: Duration = Duration::from_secs(10);

/// A fall by fewer than so many waits (a connection has three) is not worth haste.
const MANY: usize = 600;

// SAFETY: as in `mimalloc.h`: `void mi_collect(bool force)`. It takes no pointer, keeps nothing, may be called at any time from any thread, and touches only memory that
// nobody has been given; where mimalloc is not the allocator of the program, as in tests, there is none.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

/// How many waits a worker has had since it last gave memory back.
#[derive(Debug, Default)]
pub struct Tide {
    most: Cell<usize>,
    looked: Cell<Duration>,
}

impl Tide {
    /// There are so many waits now. `true`: it is time to give memory back.
    pub fn turns(&self, waits: usize, now: Duration) -> bool {
        let most = self.most.get().max(waits);
        self.most.set(most);
        let gone = most - waits;
        let slowly = gone > 0 && now.saturating_sub(self.looked.get()) >= SLOWLY;
        let turns = slowly || (gone > MANY && gone > waits);
        if turns {
            self.most.set(waits);
            self.looked.set(now);
        }
        turns
    }
}

/// Gives back what the thread that calls holds and does not use. Takes milliseconds where that is much.
pub fn give_back() {
    mi_collect(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_many_have_left_and_now_and_then_when_some_have() {
        let tide = Tide::default();
        let at = |seconds| Duration::from_secs(seconds);
        assert!(!tide.turns(30_000, at(1)) && !tide.turns(20_000, at(2)), "most are still there");
        assert!(tide.turns(14_000, at(3)) && !tide.turns(14_000, at(4)));
        assert!(tide.turns(0, at(5)) && !tide.turns(0, at(100)), "nobody has left since");
        assert!(!tide.turns(3, at(101)) && !tide.turns(3, at(102)));
        assert!(tide.turns(0, at(103)), "it is long since the last time");
        assert!(!tide.turns(3, at(104)) && !tide.turns(0, at(105)) && tide.turns(0, at(114)), "but not each time");
        give_back();
    }
}

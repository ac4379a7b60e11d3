//! Memory that connections held goes back to the system when they have gone.
//!
//! The allocator keeps pages that are free for what comes next, and gives them back when something else is allocated. After ten thousand clients have left, nothing is.
//! So each worker, whose heap is its own, looks at every tick how many connections it has. Requests come and go too fast to be counted: what they
//! held is needed again.
//!
//! Also one of the two places with `unsafe`: the allocator's own call is not Rust.
#![allow(unsafe_code, reason = "the allocator is written in C")]

use std::cell::Cell;
use std::time::Duration;

// Brings the function that is declared below.
use libmimalloc_sys as _;

/// How often a worker gives everything back at the most: it takes milliseconds.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a worker gives back what is left of smaller changes.
const SLOWLY: Duration = Duration::from_secs(10);

/// A fall by fewer connections than these is not worth haste.
const MANY: usize = 200;

// SAFETY: as in `mimalloc.h`: `void mi_collect(bool force)`. It takes no pointer, keeps nothing, may be called at any time from any thread, and touches only memory that
// nobody has been given; where mimalloc is not the allocator of the program, as in tests, there is none.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

/// How much memory it is time to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ebb {
    /// None.
    None,
    /// What costs little to find.
    Some,
    /// All that nobody uses.
    All,
}

/// How many connections a worker has had since it last gave memory back.
#[derive(Debug, Default)]
pub struct Tide {
    most: Cell<usize>,
    looked: Cell<Duration>,
}

impl Tide {
    /// There are so many connections now.
    pub fn turns(&self, connections: usize, now: Duration) -> Ebb {
        let most = self.most.get().max(connections);
        self.most.set(most);
        let gone = most - connections;
        let since = now.saturating_sub(self.looked.get());
        let ebb = if gone > MANY && gone > connections && since >= PAUSE {
            Ebb::All
        } else if gone > most / 4 && since >= SLOWLY {
            Ebb::Some
        } else {
            return Ebb::None;
        };
        self.most.set(connections);
        self.looked.set(now);
        ebb
    }
}

/// Gives back what the thread that calls holds and does not use.
pub fn give_back(ebb: Ebb) {
    if ebb != Ebb::None {
        mi_collect(ebb == Ebb::All);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_many_have_left_and_now_and_then_when_some_have() {
        let tide = Tide::default();
        let after = |connections, millis| tide.turns(connections, Duration::from_millis(millis));
        assert_eq!([after(10_000, 1000), after(7_000, 2000)], [Ebb::None; 2], "most are still there");
        assert_eq!([after(4_500, 3000), after(4_500, 4000)], [Ebb::All, Ebb::None]);
        assert_eq!([after(0, 5000), after(0, 100_000)], [Ebb::All, Ebb::None], "nobody has left since");
        assert_eq!([after(4, 101_000), after(4, 102_000), after(0, 103_000)], [Ebb::None, Ebb::None, Ebb::Some]);
        assert_eq!([after(4, 104_000), after(0, 105_000), after(0, 113_000)], [Ebb::None, Ebb::None, Ebb::Some]);
        assert_eq!([after(100, 130_000), after(75, 200_000)], [Ebb::None; 2], "a few of many");
        give_back(Ebb::Some);
        give_back(Ebb::All);
    }

    #[test]
    fn a_load_that_comes_and_goes_has_memory_given_back_once_a_second_at_the_most() {
        let tide = Tide::default();
        let ticks = (0..200_u64)
            .map(|tick| tide.turns(if tick % 2 == 0 { 5_000 } else { 0 }, Duration::from_millis(50 * tick)));
        let given: Vec<_> = ticks.filter(|ebb| *ebb != Ebb::None).collect();
        assert!((5..=10).contains(&given.len()) && given.iter().all(|ebb| *ebb == Ebb::All), "{given:?}");
    }
}

//! Our codec beside two others: `httparse`, and hyper with its framing. Whatever they read differently falls into a class that is written
//! down here with its reason. A difference that falls into none fails the test: either we are wrong, or the list is.
//!
//! The messages are the attack files, mutated, and what a grammar makes up. Both are seeded: a run is like the one before.
//! `PROBEGATE_DIFFERENTIAL_ROUNDS=50` does fifty times as many, and `PROBEGATE_DIFFERENTIAL_SEED` chooses others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests say what they expect in the shortest way; clippy.toml reaches only functions marked #[test]"
)]

mod bodies;
#[path = "../attacks/corpus.rs"]
mod corpus;
mod generate;
mod heads;
mod ours;
mod seeds;
mod servers;

use std::collections::BTreeMap;

/// A class of differences.
pub(crate) struct Class<T: ?Sized> {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Why the two differ, and why ours is right.
    pub(crate) why: &'static str,
    /// Whether a message belongs to it.
    pub(crate) holds: fn(&T) -> bool,
}

/// Counts what fell into which class, and collects what fell into none.
#[derive(Default)]
pub(crate) struct Ledger {
    classes: BTreeMap<&'static str, usize>,
    alike: usize,
    unexplained: Vec<String>,
}

impl Ledger {
    /// Both said the same.
    pub(crate) fn alike(&mut self) {
        self.alike += 1;
    }

    /// They differ: the first class that holds explains it.
    pub(crate) fn differ<T: ?Sized>(&mut self, classes: &[Class<T>], facts: &T, told: impl FnOnce() -> String) {
        match classes.iter().find(|class| (class.holds)(facts)) {
            Some(class) => {
                assert!(!class.why.is_empty());
                *self.classes.entry(class.name).or_default() += 1;
            }
            None => self.unexplained.push(told()),
        }
    }

    /// Fails when something is unexplained. Every class must have been met: one that explains nothing any more has to go.
    pub(crate) fn settle<T: ?Sized>(self, classes: &[Class<T>]) {
        println!("{} alike; {:?}", self.alike, self.classes);
        let some = self.unexplained.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.unexplained.is_empty(), "{} unexplained differences:\n{some}", self.unexplained.len());
        let unmet: Vec<_> =
            classes.iter().map(|class| class.name).filter(|name| !self.classes.contains_key(name)).collect();
        assert!(unmet.is_empty(), "classes that explain nothing: {unmet:?}");
        assert!(self.alike > 1000, "only {} messages were read alike", self.alike);
    }
}

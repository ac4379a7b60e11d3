//! Every order in which threads may meet in a bucket, tried out by `loom`, stale values that the orderings allow included.
//!
//! Run by the step `model` of `gateway/tests/all.sh`. A bucket of two ways stands for one of seven: what happens to a way does not depend on how many others there are.
//! Threads lose patience after two attempts instead of 128, so that they meet a guard that stays taken as well.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::*;

/// A word of the model.
struct Tried(AtomicU64);

impl Word for Tried {
    const PATIENCE: usize = 1;
    const LENIENCE: usize = 1;

    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    fn exchange(&self, before: u64, after: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(before, after, success, failure)
    }

    fn exchange_weak(&self, before: u64, after: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange_weak(before, after, success, failure)
    }

    fn spin() {
        thread::yield_now();
    }
}

/// Keys, and what some of them owe from the start.
const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 3;
const D: u64 = 4;
const NOW: u64 = 5;
const A_OWES: u64 = 10;
const B_OWES: u64 = 15;

/// A bucket that threads share.
struct Words {
    guard: Tried,
    ways: [[Tried; 2]; 2],
}

impl Words {
    fn new(ways: [[u64; 2]; 2]) -> Arc<Self> {
        let word = |value| Tried(AtomicU64::new(value));
        Arc::new(Self { guard: word(0), ways: ways.map(|way| way.map(word)) })
    }

    /// Nobody in it.
    fn empty() -> Arc<Self> {
        Self::new([[0; 2]; 2])
    }

    /// Two debtors, of whom A owes less.
    fn full() -> Arc<Self> {
        Self::new([[A, A_OWES], [B, B_OWES]])
    }

    fn bucket(&self) -> Bucket<'_, Tried> {
        Bucket { guard: &self.guard, ways: &self.ways, pause: thread::yield_now }
    }

    /// What [`super::super::Table::admit`] does. Whether the key was charged.
    fn admit(&self, key: u64, cost: u64) -> bool {
        let bucket = self.bucket();
        bucket.charge(key, |tat| paying(tat, cost)).is_some()
            || !matches!(bucket.insert(key, NOW, |tat| paying(tat, cost)), Insertion::Contended)
    }

    /// What each key owes in the end. Each is there once, and nothing is half done.
    fn owed(&self) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for [key, tat] in &self.ways {
            let (key, tat) = (key.load(Ordering::SeqCst), tat.load(Ordering::SeqCst));
            assert_ne!(tat, BUSY);
            assert!(key == 0 || found.iter().all(|(other, _)| *other != key), "{key} is there twice");
            if key != 0 {
                found.push((key, tat));
            }
        }
        assert_eq!(self.guard.load(Ordering::SeqCst), 0, "the guard was given back");
        found.sort_unstable();
        found
    }
}

fn paying(tat: u64, cost: u64) -> Judgement {
    (Some(tat.max(NOW) + cost), super::super::NOTHING)
}

/// In every order that threads can have, `bound` switches in the midst of something at the most.
fn model(bound: Option<usize>, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.check(run);
}

#[test]
fn two_threads_that_bring_in_one_key_charge_it_in_one_place() {
    model(None, || {
        let words = Words::empty();
        let other = Arc::clone(&words);
        let theirs = thread::spawn(move || other.admit(A, 10));
        let mine = words.admit(A, 100);
        let theirs = theirs.join().unwrap();
        // Who could not get in was let pass uncounted.
        let owed = NOW + if mine { 100 } else { 0 } + if theirs { 10 } else { 0 };
        assert!(mine || theirs);
        assert_eq!(words.owed(), [(A, owed)]);
    });
}

#[test]
fn no_charge_of_a_key_that_is_there_is_lost() {
    model(Some(3), || {
        let words = Words::full();
        let threads = [3, 30].map(|cost| {
            let words = Arc::clone(&words);
            thread::spawn(move || words.bucket().charge(A, |tat| paying(tat, cost)).is_some())
        });
        assert!(words.bucket().charge(A, |tat| (Some(tat.saturating_sub(2)), super::super::NOTHING)).is_some());
        assert_eq!(threads.map(|thread| thread.join().unwrap()), [true; 2]);
        assert_eq!(words.owed(), [(A, A_OWES + 31), (B, B_OWES)]);
    });
}

#[test]
fn a_charge_and_the_one_who_takes_the_place_never_meet_in_it() {
    model(None, || {
        let words = Words::full();
        let other = Arc::clone(&words);
        let charged = thread::spawn(move || other.bucket().charge(A, |tat| paying(tat, 20)).is_some());
        let came = words.admit(C, 100);
        match (charged.join().unwrap(), came) {
            // Whoever was charged in time owes more than B.
            (true, true) => assert_eq!(words.owed(), [(A, A_OWES + 20), (C, NOW + 100)]),
            (false, true) => assert_eq!(words.owed(), [(B, B_OWES), (C, NOW + 100)]),
            (true, false) => assert_eq!(words.owed(), [(A, A_OWES + 20), (B, B_OWES)]),
            (false, false) => panic!("somebody was in the way of nobody"),
        }
    });
}

#[test]
fn two_who_come_take_two_places() {
    model(None, || {
        let words = Words::full();
        let other = Arc::clone(&words);
        let theirs = thread::spawn(move || other.admit(C, 100));
        let mine = words.admit(D, 200);
        match (theirs.join().unwrap(), mine) {
            (true, true) => assert_eq!(words.owed(), [(C, NOW + 100), (D, NOW + 200)]),
            (true, false) => assert_eq!(words.owed(), [(B, B_OWES), (C, NOW + 100)]),
            (false, true) => assert_eq!(words.owed(), [(B, B_OWES), (D, NOW + 200)]),
            (false, false) => panic!("both lost patience"),
        }
    });
}

#[test]
fn who_reads_sees_what_belongs_to_the_key_or_nothing() {
    model(None, || {
        let words = Words::full();
        let other = Arc::clone(&words);
        let coming = thread::spawn(move || other.admit(C, 100));
        let (before, new) = (words.bucket().read(A), words.bucket().read(C));
        assert!(matches!(before, Some(A_OWES) | None), "{before:?}");
        assert!(matches!(new, Some(105) | None), "{new:?}");
        // Once gone, it stays away.
        assert!(before.is_some() || words.bucket().read(A).is_none());
        assert!(coming.join().unwrap());
        assert_eq!(words.bucket().read(C), Some(NOW + 100));
    });
}

#[test]
fn a_key_that_is_charged_while_others_come_is_charged_or_told_so() {
    model(Some(3), || {
        let words = Words::full();
        let (first, second) = (Arc::clone(&words), Arc::clone(&words));
        let coming = thread::spawn(move || first.admit(C, 100));
        let charging = thread::spawn(move || second.admit(A, 20));
        let again = words.admit(A, 40);
        let (came, charged) = (coming.join().unwrap(), charging.join().unwrap());
        let owed = words.owed();
        let of = |key| owed.iter().find(|(other, _)| *other == key).map(|(_, owed)| *owed);
        assert!(!came || of(C) == Some(NOW + 100) || of(C).is_none(), "{owed:?}");
        if let Some(left) = of(A) {
            // From what it owed, or anew where it was forgotten meanwhile; each charge that was told so is in it, unless it was forgotten with it.
            let charges = [0, 20, 40, 60];
            let starts = [A_OWES, NOW];
            assert!(starts.iter().any(|start| charges.iter().any(|paid| start + paid == left)), "{owed:?}");
            let all = if charged { 20 } else { 0 } + if again { 40 } else { 0 };
            assert!(!came || left <= A_OWES + all, "{owed:?} {all}");
        }
    });
}

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Barrier, Mutex};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::limit::KeyPart;

const SEED: Seed = Seed([1, 2, 3, 4]);

fn key(places: &Places, number: u64) -> Key {
    places.key(&[KeyPart::Bytes(&number.to_le_bytes())])
}

fn enter(places: &Places, number: u64, most: u32) -> Entered {
    places.enter(key(places, number), most)
}

fn slot(entered: Entered) -> Slot {
    match entered {
        Entered::In { slot, .. } | Entered::Full(slot) => slot,
        Entered::Uncounted => panic!("uncounted"),
    }
}

#[test]
fn so_many_are_in_at_a_time_each_key_for_itself() {
    let places = Places::new(100, SEED);
    let first = enter(&places, 1, 2);
    let second = enter(&places, 1, 2);
    assert!(matches!((first, second), (Entered::In { count: 1, .. }, Entered::In { count: 2, .. })));
    assert_eq!(enter(&places, 1, 2), Entered::Full(slot(first)));
    assert!(matches!(enter(&places, 2, 2), Entered::In { count: 1, .. }));
    assert_eq!(places.occupancy(), Occupancy { requests: 3, keys: 2 });
    assert!(places.leave(slot(first)));
    assert!(matches!(enter(&places, 1, 2), Entered::In { count: 2, .. }));
    assert!(matches!(enter(&places, 1, 3), Entered::In { count: 3, .. }), "more after a reload");
    assert!(matches!(enter(&places, 1, 1), Entered::Full(_)), "fewer after a reload");
}

#[test]
fn who_waits_is_not_passed_and_gets_what_becomes_free() {
    let places = Places::new(100, SEED);
    let slot = slot(enter(&places, 1, 1));
    assert_eq!(places.enter_or_mark(key(&places, 1), 1), Entered::Full(slot));
    assert!(!places.leave(slot), "the line has to see to it");
    assert!(!places.hand_on(slot, 1));
    places.leave_marked(slot);
    assert_eq!(enter(&places, 1, 1), Entered::Full(slot), "it is somebody else's turn");
    assert!(places.hand_on(slot, 1));
    places.unmark(slot);
    assert_eq!(enter(&places, 1, 1), Entered::Full(slot));
    assert!(places.leave(slot));
    assert_eq!(places.occupancy(), Occupancy::default());
}

#[test]
fn a_marked_word_is_nobody_elses_even_without_requests() {
    let places = Places::new(1, SEED);
    let first = slot(enter(&places, 1, 1));
    assert_eq!(places.enter_or_mark(key(&places, 1), 1), Entered::Full(first));
    places.leave_marked(first);
    let others: Vec<_> = (2..9).map(|number| enter(&places, number, 1)).collect();
    assert!(others[..6].iter().all(|entered| matches!(entered, Entered::In { slot, .. } if *slot != first)));
    assert_eq!(others[6], Entered::Uncounted);
}

#[test]
fn a_full_bucket_lets_others_in_uncounted_and_forgets_nobody() {
    let places = Places::new(1, SEED);
    let inside: Vec<_> = (0..7).map(|number| slot(enter(&places, number, 1))).collect();
    assert_eq!(enter(&places, 7, 1), Entered::Uncounted);
    assert_eq!(places.uncounted(), 1);
    assert!((0..7).all(|number| matches!(enter(&places, number, 1), Entered::Full(_))));
    assert!(places.leave(inside[3]));
    assert_eq!(enter(&places, 7, 1), Entered::In { slot: inside[3], count: 1 });
}

#[test]
fn as_many_keys_as_it_is_for_are_counted_but_for_a_few() {
    let keys = 65_536;
    let places = Places::new(usize::try_from(keys).unwrap(), SEED);
    for number in 0..keys {
        let entered = enter(&places, number, 1);
        assert!(entered == Entered::Uncounted || matches!(entered, Entered::In { count: 1, .. }));
    }
    assert!(places.uncounted() <= keys / 1000, "{}", places.uncounted());
    assert_eq!(places.occupancy().keys + places.uncounted(), keys);
    assert_eq!(places.cells.len(), 32_768);
}

/// Runs `work` on several threads at once.
fn at_once(threads: u64, work: impl Fn(u64) + Sync) {
    let barrier = Barrier::new(threads.try_into().unwrap());
    thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread);
            });
        }
    });
}

#[test]
fn threads_never_hold_more_than_the_limit() {
    // Few keys, so that they meet; and one bucket, so that keys come and go in the same words.
    for (max_keys, keys) in [(100, 3_u64), (1, 20)] {
        let places = Places::new(max_keys, SEED);
        let held: Vec<_> = (0..keys).map(|_| AtomicU32::new(0)).collect();
        at_once(4, |thread| {
            let mut state = thread + 1;
            for _ in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = (state >> 33) % keys;
                let Entered::In { slot, .. } = enter(&places, number, 2) else { continue };
                let held = &held[usize::try_from(number).unwrap()];
                assert!(held.fetch_add(1, Ordering::SeqCst) < 2);
                held.fetch_sub(1, Ordering::SeqCst);
                assert!(places.leave(slot));
            }
        });
        assert_eq!(places.occupancy(), Occupancy::default());
    }
}

#[test]
fn threads_that_wait_all_get_their_turn() {
    // The line is a number here: who waits knows no other than that somebody does.
    let places = Places::new(100, SEED);
    let waiting = Mutex::new(0_u32);
    let (held, handed) = (AtomicU32::new(0), AtomicU32::new(0));
    let leave = |slot| {
        held.fetch_sub(1, Ordering::SeqCst);
        if places.leave(slot) {
            return;
        }
        let mut waiting = waiting.lock().unwrap();
        places.leave_marked(slot);
        while *waiting > 0 && places.hand_on(slot, 2) {
            *waiting -= 1;
            handed.fetch_add(1, Ordering::SeqCst);
        }
        if *waiting == 0 {
            places.unmark(slot);
        }
    };
    at_once(4, |_| {
        for _ in 0..20_000 {
            let entered = match enter(&places, 1, 2) {
                Entered::Full(_) => {
                    let mut waiting = waiting.lock().unwrap();
                    let entered = places.enter_or_mark(key(&places, 1), 2);
                    *waiting += u32::from(matches!(entered, Entered::Full(_)));
                    entered
                }
                entered => entered,
            };
            let slot = match entered {
                Entered::In { slot, .. } => {
                    assert!(held.fetch_add(1, Ordering::SeqCst) < 2);
                    leave(slot);
                    continue;
                }
                Entered::Full(slot) => slot,
                // The thread that brings in the key has lost its CPU.
                Entered::Uncounted => continue,
            };
            // Whoever stands in the line takes what was handed to anybody.
            loop {
                let take = |count: u32| count.checked_sub(1);
                if handed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                    break;
                }
                thread::yield_now();
            }
            assert!(held.fetch_add(1, Ordering::SeqCst) < 2);
            leave(slot);
        }
    });
    assert_eq!((*waiting.lock().unwrap(), handed.load(Ordering::SeqCst)), (0, 0));
    assert_eq!(places.occupancy(), Occupancy::default());
    assert!(matches!(enter(&places, 1, 1), Entered::In { count: 1, .. }), "and no mark stays behind");
}

proptest! {
    #[test]
    fn it_counts_as_a_map_does(
        events in prop::collection::vec((0..20_u64, prop::bool::weighted(0.6), 1..4_u32), 0..400),
        seed in any::<[u64; 4]>(),
    ) {
        let places = Places::new(4096, Seed(seed));
        let mut model: HashMap<u64, Vec<Slot>> = HashMap::new();
        for (number, comes, most) in events {
            let inside = model.entry(number).or_default();
            if comes {
                match enter(&places, number, most) {
                    Entered::In { slot, count } => {
                        inside.push(slot);
                        prop_assert!(count <= most);
                        prop_assert_eq!(usize::try_from(count).unwrap(), inside.len());
                    }
                    Entered::Full(_) => prop_assert!(inside.len() >= usize::try_from(most).unwrap()),
                    Entered::Uncounted => prop_assert!(false, "there is room"),
                }
            } else if let Some(slot) = inside.pop() {
                prop_assert!(places.leave(slot));
            }
        }
        let requests = model.values().map(Vec::len).sum::<usize>();
        prop_assert_eq!(places.occupancy().requests, u64::try_from(requests).unwrap());
    }
}

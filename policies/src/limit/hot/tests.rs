use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::limit::{KeyPart, Seed, Table};

/// A key for each number.
fn keys(count: u32) -> Vec<Key> {
    let table = Table::new(1, Seed([1, 2, 3, 4]));
    (0..count).map(|number| table.key(&[KeyPart::Bytes(&number.to_be_bytes())])).collect()
}

/// What is said about a list in the module's invariants.
fn holds(list: &Hot<u32>, capacity: usize, exact: &HashMap<u32, (u64, u64)>) {
    assert!(list.entries().len() <= capacity);
    assert_eq!(list.total(), exact.values().map(|(seen, _)| seen).sum::<u64>());
    assert!(list.entries().windows(2).all(|pair| pair[0].seen >= pair[1].seen));
    for entry in list.entries() {
        let (seen, over) = exact.get(&entry.label).copied().unwrap_or_default();
        assert!(entry.seen - entry.excess <= seen && seen <= entry.seen, "{entry:?} was seen {seen} times");
        assert!(entry.over <= over && entry.over + entry.excess >= over, "{entry:?} was over {over} times");
    }
    for (label, (seen, _)) in exact {
        let listed = list.entries().iter().any(|entry| entry.label == *label);
        assert!(listed || *seen <= list.total() / capacity as u64, "{label} was seen {seen} times");
    }
}

proptest! {
    #[test]
    fn what_a_list_says_holds_against_exact_counts(
        capacity in 1..12_usize,
        // Some come often, many once.
        seen in prop::collection::vec((0..3_usize, prop_oneof![0..4_u32, 0..40_u32, 0..4000_u32], any::<bool>()), 0..600),
    ) {
        let keys = keys(4000);
        let mut lists = [0; 3].map(|_| Hot::new(capacity));
        let mut exact = [0; 3].map(|_| HashMap::new());
        let mut all = HashMap::new();
        for (worker, number, over) in seen {
            lists[worker].add(keys[number as usize], over, || number);
            for counts in [&mut exact[worker], &mut all] {
                let count: &mut (u64, u64) = counts.entry(number).or_default();
                *count = (count.0 + 1, count.1 + u64::from(over));
            }
        }
        for (list, exact) in lists.iter().zip(&exact) {
            holds(list, capacity, exact);
        }
        holds(&Hot::sum(capacity, lists.iter()), capacity, &all);
    }
}

#[test]
fn one_among_ten_thousand_is_found() {
    let keys = keys(10_001);
    let mut list = Hot::new(64);
    for (number, key) in (1..).zip(&keys[1..]) {
        list.add(*key, true, || number);
        if number % 10 == 0 {
            list.add(keys[0], false, || 0);
        }
    }
    let first = &list.entries()[0];
    assert_eq!((first.label, first.over), (0, 0));
    assert!(first.seen >= 1000 && first.seen - first.excess <= 1000, "{first:?}");
}

#[test]
fn what_is_long_ago_is_forgotten() {
    let keys = keys(3);
    let mut recent = Recent::new(4);
    let seen = |recent: &mut Recent<u32>, now: u64| {
        let lists = recent.at(now);
        Hot::sum(4, lists.into_iter()).entries().iter().map(|entry| (entry.label, entry.seen)).collect::<Vec<_>>()
    };
    recent.add(keys[0], true, 10, || 0);
    recent.add(keys[1], true, WINDOW, || 1);
    // Late, by a thread that was held up.
    recent.add(keys[1], true, WINDOW - 1, || 1);
    assert_eq!(seen(&mut recent, WINDOW + 5), [(1, 2), (0, 1)]);
    assert_eq!(seen(&mut recent, 2 * WINDOW), [(1, 2)]);
    recent.add(keys[2], true, 2 * WINDOW, || 2);
    assert_eq!(seen(&mut recent, 9 * WINDOW), []);
    assert_eq!([5, WINDOW + 5, 7 * WINDOW + 5].map(covered), [5, WINDOW + 5, WINDOW + 5]);
}

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::limit::gcra;

const SECOND: u64 = 1_000_000_000;
const SEED: Seed = Seed([1, 2, 3, 4]);

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

fn at(nanos: u64) -> Now {
    Now { nanos, unix: 0 }
}

fn numbered(table: &Table, number: u64) -> Key {
    table.key(&[KeyPart::Bytes(&number.to_ne_bytes())])
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    let (table, quota) = (Table::new(100, SEED), quota("10/s", 5));
    let key = numbered(&table, 1);
    let start = 5 * SECOND;
    for remaining in (0..=5).rev() {
        let decision = table.admit(key, &quota, at(start));
        assert_eq!((decision.admitted, decision.remaining, decision.retry_after), (true, remaining, 0));
    }
    let refused = table.admit(key, &quota, at(start + 1));
    assert_eq!((refused.admitted, refused.retry_after), (false, SECOND / 10 - 1));
    assert!(table.admit(key, &quota, at(start + SECOND / 10)).admitted);
    assert!(table.admit(numbered(&table, 2), &quota, at(start)).admitted, "another key has its own bucket");
}

#[test]
fn a_peek_charges_nothing() {
    let (table, quota) = (Table::new(100, SEED), quota("1/s", 0));
    let key = numbered(&table, 1);
    for _ in 0..3 {
        assert!(table.peek(key, &quota, at(SECOND), 1).admitted);
    }
    let charged = table.admit(key, &quota, at(SECOND));
    assert!(charged.admitted);
    let refused = table.peek(key, &quota, at(SECOND), 1);
    assert_eq!(refused, table.admit(key, &quota, at(SECOND)));
    assert!(!refused.admitted);
}

#[test]
fn a_refund_gives_one_admission_back() {
    let (table, quota) = (Table::new(100, SEED), quota("1/s", 1));
    let key = numbered(&table, 1);
    assert!(table.admit(key, &quota, at(SECOND)).admitted);
    assert!(table.admit(key, &quota, at(SECOND)).admitted);
    table.refund(key, &quota);
    assert!(table.admit(key, &quota, at(SECOND)).admitted);
    assert!(!table.admit(key, &quota, at(SECOND)).admitted);
    // Nothing to give back to a key that is not there.
    table.refund(numbered(&table, 2), &quota);
}

#[test]
fn a_late_refund_gives_back_only_what_time_has_not() {
    let (table, quota) = (Table::new(100, SEED), quota("1/s", 1));
    let key = numbered(&table, 1);
    let charged = |now| {
        assert!(table.admit(key, &quota, at(now)).admitted);
        table.state(key)
    };
    // Charged, earned back, and charged by somebody else: nothing of that is the first one's.
    let first = charged(SECOND);
    let others = charged(5 * SECOND);
    table.refund_late(key, &quota, first, at(5 * SECOND));
    assert_eq!(table.state(key), others);
    // A half is earned back.
    table.refund_late(key, &quota, others, at(5 * SECOND + SECOND / 2));
    assert_eq!(table.state(key), 5 * SECOND + SECOND / 2);
    // At once: all of it.
    let third = charged(9 * SECOND);
    table.refund_late(key, &quota, third, at(9 * SECOND));
    assert_eq!(table.peek(key, &quota, at(9 * SECOND), 1).remaining, 1);
}

#[test]
fn a_late_refund_leaves_the_next_window_alone() {
    let table = Table::new(100, SEED);
    let quota = Quota::fixed_window("2/m".parse().unwrap());
    let key = numbered(&table, 1);
    let at = |unix| Now { nanos: 1, unix };
    table.admit(key, &quota, at(1000));
    let first = table.state(key);
    table.refund_late(key, &quota, first, at(1000));
    assert_eq!(table.peek(key, &quota, at(1000), 0).remaining, 2);
    table.admit(key, &quota, at(1000));
    let second = table.state(key);
    table.admit(key, &quota, at(2000));
    table.refund_late(key, &quota, second, at(2000));
    assert_eq!(table.peek(key, &quota, at(2000), 0).remaining, 1);
}

#[test]
fn capacity_is_at_least_what_was_asked_for() {
    for (keys, capacity) in [(0, 7), (1, 7), (7, 7), (8, 14), (100, 112), (1000, 1792)] {
        assert_eq!(Table::new(keys, SEED).capacity(), capacity);
    }
}

#[test]
fn ten_times_the_keys_fit_into_the_same_memory_and_nobody_is_refused_for_them() {
    let (table, quota) = (Table::new(700, SEED), quota("1/m", 0));
    let keys = 10 * table.capacity() as u64;
    for number in 0..keys {
        // Whoever comes first always passes, however many debtors there are.
        assert!(table.admit(numbered(&table, number), &quota, at(SECOND + number)).admitted);
    }
    let stats = table.stats();
    assert_eq!(stats.contended, 0);
    assert!(stats.evicted_live >= keys - table.capacity() as u64);
}

#[test]
fn entries_that_are_out_of_debt_make_room_without_loss() {
    let (table, quota) = (Table::new(7, SEED), quota("1/s", 0));
    for number in 0..100 {
        // Seven at a time; the earlier ones are out of debt by then.
        let now = at(SECOND + (number / 7) * SECOND);
        assert!(table.admit(numbered(&table, number), &quota, now).admitted);
        assert!(!table.admit(numbered(&table, number), &quota, now).admitted);
    }
    assert_eq!(table.stats(), TableStats::default());
}

#[test]
fn the_least_indebted_key_is_forgotten_first() {
    let (table, quota) = (Table::new(7, SEED), quota("1/s", 9));
    // Key 1 owes one request, key 7 owes seven.
    for number in 1..=7 {
        for _ in 0..number {
            table.admit(numbered(&table, number), &quota, at(SECOND));
        }
    }
    table.admit(numbered(&table, 8), &quota, at(SECOND));
    assert_eq!(table.stats().evicted_live, 1);
    for number in 2..=7 {
        assert_eq!(u64::from(table.peek(numbered(&table, number), &quota, at(SECOND), 1).remaining), 9 - number);
    }
    assert_eq!(table.peek(numbered(&table, 1), &quota, at(SECOND), 1).remaining, 9, "as if it had never come");
}

/// Runs `work` on several threads at once and adds up what it returns.
fn at_once(threads: u64, work: impl Fn(u64) -> u64 + Sync) -> u64 {
    let barrier = Barrier::new(threads.try_into().unwrap());
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(thread)
                })
            })
            .collect();
        started.into_iter().map(|handle| handle.join().unwrap()).sum()
    })
}

#[test]
fn threads_on_one_key_get_exactly_the_limit() {
    let (table, quota) = (Table::new(100, SEED), quota("1/h", 999));
    let key = numbered(&table, 1);
    // Present before the threads start: from here on there is no guard, so nothing is uncounted.
    assert!(table.admit(key, &quota, at(SECOND)).admitted);
    let admitted = at_once(4, |_| (0..2000).map(|_| u64::from(table.admit(key, &quota, at(SECOND)).admitted)).sum());
    assert_eq!(admitted, 999);
    assert_eq!(table.stats(), TableStats::default());
}

#[test]
fn threads_on_one_key_get_what_the_time_they_hand_in_allows() {
    let (table, quota) = (Table::new(100, SEED), quota("1000/s", 9));
    let key = numbered(&table, 1);
    assert!(table.admit(key, &quota, at(SECOND)).admitted);
    // Every thread asks at every tenth of a millisecond of one second, ten times as often as the rate.
    let admitted = at_once(4, |_| {
        (0..=10_000).map(|tick| u64::from(table.admit(key, &quota, at(SECOND + tick * SECOND / 10_000)).admitted)).sum()
    });
    // The burst, and one for each interval that passed. Threads that lag behind can only get less.
    assert!(admitted <= 9 + 1000, "{admitted}");
    assert!(admitted >= 1000, "{admitted}");
}

#[test]
fn threads_that_bring_the_same_new_keys_do_not_bring_them_twice() {
    let (table, quota) = (Table::new(100_000, SEED), quota("1/h", 2));
    let keys = 5000;
    let admitted = at_once(4, |_| {
        (0..keys).map(|number| u64::from(table.admit(numbered(&table, number), &quota, at(SECOND)).admitted)).sum()
    });
    // Three each, and besides them only what was counted as uncounted.
    let stats = table.stats();
    assert_eq!(stats.evicted_live, 0);
    assert!(admitted >= 3 * keys);
    assert!(admitted <= 3 * keys + stats.contended, "{admitted} {stats:?}");
}

#[test]
fn threads_that_push_each_other_out_stay_within_the_books() {
    let (table, quota) = (Table::new(7, SEED), quota("1/h", 0));
    // One bucket, and many more keys than it holds: every admission inserts, and most inserts evict.
    let admitted = at_once(4, |thread| {
        let own = (0..5000).map(|number| numbered(&table, (number * 7 + thread) % 64));
        own.map(|key| u64::from(table.admit(key, &quota, at(SECOND)).admitted)).sum()
    });
    let stats = table.stats();
    // A key passes once for each time it came in: into an empty way, in place of another, or uncounted.
    assert_eq!(admitted, 7 + stats.evicted_live + stats.contended, "{stats:?}");
}

#[derive(Clone, Debug)]
enum Event {
    Admit(u64),
    Peek(u64),
    Refund(u64),
    Wait(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..12u64).prop_map(Event::Admit),
        1 => (0..12u64).prop_map(Event::Peek),
        1 => (0..12u64).prop_map(Event::Refund),
        2 => (0..3 * SECOND).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn below_capacity_the_table_is_exact(
        events in prop::collection::vec(any_event(), 0..300),
        burst in 0..4u32,
        seed in any::<[u64; 4]>(),
    ) {
        let (table, quota) = (Table::new(4096, Seed(seed)), quota("2/s", burst));
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut now = SECOND;
        for event in events {
            match event {
                Event::Admit(number) => {
                    let tat = model.entry(number).or_default();
                    let (after, expected) = gcra::decide(*tat, now, &quota, 1);
                    *tat = after.unwrap_or(*tat);
                    prop_assert_eq!(table.admit(numbered(&table, number), &quota, at(now)), expected);
                }
                Event::Peek(number) => {
                    let tat = model.get(&number).copied().unwrap_or(0);
                    let (_, expected) = gcra::decide(tat, now, &quota, 1);
                    prop_assert_eq!(table.peek(numbered(&table, number), &quota, at(now), 1), expected);
                }
                Event::Refund(number) => {
                    if let Some(tat) = model.get_mut(&number) {
                        *tat = tat.saturating_sub(quota.interval());
                    }
                    table.refund(numbered(&table, number), &quota);
                }
                Event::Wait(nanos) => now += nanos,
            }
        }
        prop_assert_eq!(table.stats(), TableStats::default());
    }
}

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_700_000_000;

fn crc(text: &str) -> u32 {
    let mut stagger = Stagger::new();
    stagger.feed(text.as_bytes());
    stagger.value()
}

#[test]
fn crc_32_of_the_catalogue() {
    assert_eq!(crc("123456789"), 0xCBF4_3926);
    assert_eq!(crc(""), 0);
}

/// The vectors of semantics section 5.2.
#[test]
fn windows_end_where_django_ratelimit_ends_them() {
    for (value, ends) in [
        ("127.0.0.1", [1_700_000_012, 1_700_000_132, 1_700_001_032]),
        ("203.0.113.10", [1_700_000_019, 1_700_000_139, 1_700_000_139]),
        ("2001:db8::", [1_700_000_003, 1_700_000_063, 1_700_000_663]),
    ] {
        for (period, expected) in [60, 300, 3600].into_iter().zip(ends) {
            assert_eq!(end(NOW, period, crc(value)), expected, "{value} {period}");
            assert_eq!(end(expected, period, crc(value)), expected, "the end belongs to the window");
            assert_eq!(end(expected + 1, period, crc(value)), expected + period);
            assert_eq!(end(expected - period + 1, period, crc(value)), expected, "and so does its beginning");
        }
    }
    assert_eq!(end(NOW, 1, 4711), NOW, "windows of one second have no stagger");
}

#[test]
fn addresses_are_staggered_by_their_text() {
    let mut stagger = Stagger::new();
    stagger.feed_ip("2001:db8::".parse().unwrap());
    assert_eq!(stagger.value(), crc("2001:db8::"));
}

fn quota(rate: &str) -> Quota {
    Quota::fixed_window(rate.parse().unwrap())
}

#[test]
fn exactly_the_count_passes_and_the_refused_count_too() {
    let quota = quota("5/m");
    let mut state = 0;
    for nth in 1..=8 {
        let (next, decision) = decide(state, NOW, 0, &quota, 1);
        state = next.unwrap();
        assert_eq!((decision.admitted, u64::from(decision.remaining)), (nth <= 5, 5_u64.saturating_sub(nth)));
        assert_eq!(state & MOST, nth);
    }
    // 1700000000 is 20 seconds into a minute: 40 seconds are left, and the end belongs to the window.
    let (_, refused) = decide(state, NOW, 0, &quota, 1);
    assert_eq!((refused.retry_after, refused.reset), (41 * SECOND, 41 * SECOND));
    assert!(!decide(state, NOW + 40, 0, &quota, 1).1.admitted);
    assert!(decide(state, NOW + 41, 0, &quota, 1).1.admitted, "never early, and not a second late");
    assert_eq!(decide(state, NOW, 0, &quota, 0).0, None, "a look changes nothing");
    assert_eq!(decide(0, NOW, 0, &quota, 6).1.retry_after, u64::MAX);
}

#[test]
fn a_refund_takes_one_back_and_never_more() {
    let quota = quota("1/m");
    let (state, _) = decide(0, NOW, 0, &quota, 1);
    let state = refund(state.unwrap());
    assert!(decide(state, NOW, 0, &quota, 1).1.admitted);
    assert_eq!(refund(refund(state)), state);
}

#[test]
fn nothing_overflows() {
    let quota = quota("1/d");
    for unix in [0, 1, NOW, u64::MAX - 1, u64::MAX] {
        for state in [0, 1, clock(NOW) | MOST, u64::MAX - 1] {
            for quantity in [0, 1, u64::MAX] {
                let (next, _) = decide(state, unix, u32::MAX, &quota, quantity);
                assert!(next.is_none_or(|next| next < u64::MAX));
            }
        }
    }
}

proptest! {
    /// What a cache does that has a key for every window, as django-ratelimit's has.
    #[test]
    fn counts_as_a_cache_with_a_key_for_each_window(
        pauses in prop::collection::vec(prop_oneof![3 => Just(0), 2 => 0..5_u64, 1 => 0..200_u64], 1..200),
        count in 1..6_u32,
        period in 1..100_u64,
        stagger: u32,
    ) {
        let quota = quota(&format!("{count}/{period}s"));
        let (mut state, mut now, mut cache) = (0, NOW, HashMap::new());
        for pause in pauses {
            now += pause;
            let window = if period == 1 { now } else {
                let window = now - now % period + u64::from(stagger) % period;
                if window < now { window + period } else { window }
            };
            let counted = cache.entry(window).or_insert(0_u32);
            *counted += 1;
            let (next, decision) = decide(state, now, stagger, &quota, 1);
            prop_assert_eq!(decision.admitted, *counted <= count);
            let next = next.unwrap();
            prop_assert!(next > state && next > clock(now), "larger than before, and alive");
            prop_assert!(next < clock(window + 1), "dead as soon as the window is over");
            state = next;
        }
    }
}

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// When the store's clock starts; never 0.
const START: u64 = 1_000 * SECOND;

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

/// Vectors of throttled's `rate_test.go`, one a second and a burst of 4 (semantics section 2.2): (tenths of a second, quantity, passes, debt before in tenths).
#[test]
fn throttled_rate_test() {
    let quota = quota("1/s", 4);
    let mut tats = [0];
    let steps = [
        (0, 6, false, 0),
        (0, 1, true, 0),
        (0, 1, true, 10),
        (0, 1, true, 20),
        (0, 1, true, 30),
        (0, 1, true, 40),
        (0, 1, false, 50),
        (30, 1, true, 20),
        (31, 1, true, 29),
        (40, 1, true, 30),
        (80, 1, true, 0),
        (95, 1, true, 0),
        (95, 0, true, 10),
        (95, 2, true, 10),
        (95, 5, false, 30),
    ];
    for (tenths, quantity, passes, debt) in steps {
        let cost = quota.interval() * quantity;
        let charges = [Charge { cost, ..Charge::of(&quota, true) }];
        let answer = charge(&mut tats, START + tenths * SECOND / 10, &charges);
        assert_eq!(answer.refused.is_none(), passes, "{tenths} {quantity}");
        assert_eq!(answer.debts, [debt * SECOND / 10], "{tenths} {quantity}");
    }
}

#[test]
fn whoever_is_refused_by_one_is_charged_by_none_and_the_first_that_refuses_is_named() {
    let (wide, narrow) = (quota("10/s", 9), quota("1/s", 0));
    let charges = [Charge::of(&wide, true), Charge::of(&narrow, true), Charge::of(&narrow, true)];
    let mut tats = [0; 3];
    assert_eq!(charge(&mut tats, START, &charges).refused, None);
    let before = tats;
    let answer = charge(&mut tats, START, &charges);
    assert_eq!((answer.refused, tats), (Some(1), before));
    assert_eq!(answer.debts, [SECOND / 10, SECOND, SECOND]);
    let decision = answer.decision(1, &narrow).unwrap();
    assert_eq!((decision.admitted, decision.remaining, decision.retry_after), (false, 0, SECOND));
}

#[test]
fn a_bucket_that_is_only_watched_keeps_nobody_out_and_is_not_overcharged() {
    let narrow = quota("1/s", 0);
    let mut tats = [0; 1];
    let charges = [Charge::of(&narrow, false)];
    for _ in 0..3 {
        assert_eq!(charge(&mut tats, START, &charges).refused, None);
        assert_eq!(tats, [START + SECOND]);
    }
}

#[test]
fn a_clock_that_is_set_back_costs_one_window_and_not_the_hours_between() {
    let quota = quota("10/s", 9);
    let charges = [Charge::of(&quota, true)];
    let mut tats = [START + 3600 * SECOND];
    let answer = charge(&mut tats, START, &charges);
    assert_eq!((answer.refused, answer.debts.as_slice()), (Some(0), &[SECOND][..]));
    assert_eq!(charge(&mut tats, START + SECOND / 10, &charges).refused, None);
}

#[test]
fn answers_of_the_wrong_shape_are_none() {
    assert_eq!(Answer::read(&[0, 5, 7], 2), Some(Answer { refused: None, debts: vec![5, 7] }));
    assert_eq!(Answer::read(&[2, 5, 7], 2), Some(Answer { refused: Some(1), debts: vec![5, 7] }));
    for wrong in [&[][..], &[0, 5], &[3, 5, 7], &[-1, 5, 7], &[0, -5, 7], &[0, 5, 7, 9]] {
        assert_eq!(Answer::read(wrong, 2), None, "{wrong:?}");
    }
}

#[test]
fn a_share_is_a_part_of_the_rate_and_the_burst_and_at_least_one_request() {
    let share = quota("30/s", 29).share(3);
    assert_eq!((share.interval(), share.limit(), share.window()), (99_999_999, 10, 999_999_990));
    let share = quota("1/s", 1).share(5);
    assert_eq!((share.interval(), share.limit(), share.window()), (5 * SECOND, 1, 5 * SECOND));
    assert_eq!(quota("7/m", 3).share(0), quota("7/m", 3));
    assert_eq!(quota("1/d", 1_000_000).share(u32::MAX).limit(), 1);
}

proptest! {
    /// One bucket: whatever happens, the store and the table say the same.
    #[test]
    fn the_store_and_the_table_have_one_arithmetic(
        count in 1_u32..2000, burst in 0_u32..50, gaps in prop::collection::vec(0_u64..200_000_000, 1..200),
    ) {
        let quota = quota(&format!("{count}/s"), burst);
        let (mut now, mut tat, mut tats) = (START, 0, [0]);
        for gap in gaps {
            now += gap;
            let (next, decision) = gcra::decide(tat, now, &quota, 1);
            tat = next.unwrap_or(tat);
            let answer = charge(&mut tats, now, &[Charge::of(&quota, true)]);
            prop_assert_eq!(answer.refused.is_none(), decision.admitted);
            prop_assert_eq!(answer.decision(0, &quota), Some(decision));
            prop_assert_eq!(tats[0].max(now), tat.max(now));
        }
    }

    /// All gateways together let no more pass than the limit, where there is a request for each.
    #[test]
    fn shares_add_up_to_no_more_than_the_whole(count in 1_u32..5000, burst in 0_u32..1000, gateways in 1_u32..20) {
        let whole = quota(&format!("{count}/s"), burst);
        let share = whole.share(gateways);
        prop_assert_eq!(share.interval(), whole.interval() * u64::from(gateways));
        prop_assert!(share.limit() * gateways <= whole.limit().max(gateways));
    }
}

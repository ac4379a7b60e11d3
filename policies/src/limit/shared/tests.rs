use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
/// When the store's clock starts; never 0.
const START: u64 = 1_000 * SECOND;

fn quota(rate: &str, burst: u32) -> Quota {
    Quota::new(rate.parse().unwrap(), burst)
}

fn debts(answer: &Answer) -> Vec<u64> {
    answer.before.iter().map(|before| before.used).collect()
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
        let charges = [Charge { asks: cost, costs: cost, ..Charge::of(&quota, true) }];
        let answer = charge(&mut tats, START + tenths * SECOND / 10, &charges);
        assert_eq!(answer.refused.is_none(), passes, "{tenths} {quantity}");
        assert_eq!(debts(&answer), [debt * SECOND / 10], "{tenths} {quantity}");
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
    assert_eq!(debts(&answer), [SECOND / 10, SECOND, SECOND]);
    let decision = answer.decision(1, &narrow, 1).unwrap();
    assert_eq!((decision.admitted, decision.remaining, decision.retry_after), (false, 0, SECOND));
}

/// The one behind the last that fits has to wait exactly as long as it is told.
#[test]
fn what_the_next_one_is_told_is_what_the_store_says_to_it() {
    let start = START + SECOND;
    for quota in [quota("3/5s", 2), Quota::fixed_window("3/5s".parse().unwrap())] {
        let charges = [Charge::of(&quota, true)];
        let mut states = [0];
        for _ in 0..3 {
            let told = charge(&mut states, start, &charges).after(0, &quota).unwrap();
            let asked = charge(&mut states.clone(), start, &charges).decision(0, &quota, 1).unwrap();
            assert_eq!(told, asked);
        }
        let wait = charge(&mut states, start, &charges).decision(0, &quota, 1).unwrap().retry_after;
        assert!(wait > SECOND && charge(&mut states.clone(), start + wait - 1, &charges).refused.is_some());
        assert_eq!(charge(&mut states, start + wait, &charges).refused, None);
    }
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
    assert_eq!((answer.refused, debts(&answer)), (Some(0), vec![SECOND]));
    assert_eq!(charge(&mut tats, START + SECOND / 10, &charges).refused, None);
}

#[test]
fn answers_of_the_wrong_shape_are_none() {
    let before = vec![Used { used: 5, left: 0 }, Used { used: 7, left: 9 }];
    assert_eq!(Answer::read(&[0, 5, 0, 7, 9], 2), Some(Answer { refused: None, before: before.clone() }));
    assert_eq!(Answer::read(&[2, 5, 0, 7, 9], 2), Some(Answer { refused: Some(1), before }));
    for wrong in
        [&[][..], &[0, 5, 0, 7], &[3, 5, 0, 7, 9], &[-1, 5, 0, 7, 9], &[0, -5, 0, 7, 9], &[0, 5, 0, 7, 9, 1, 1]]
    {
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

#[test]
fn a_share_of_a_window_is_a_part_of_its_count() {
    let whole = Quota::fixed_window("7/90s".parse().unwrap());
    let share = whole.share(3);
    assert_eq!((share.limit(), share.window()), (2, whole.window()));
    assert_eq!(whole.share(8).limit(), 1);
}

/// Windows of 127.0.0.1 with a minute each (semantics section 5.2): this one ends with the second 1,700,000,012.
#[test]
fn windows_of_the_store_are_those_of_the_table() {
    let quota = Quota::fixed_window("2/m".parse().unwrap());
    let key = {
        let table = super::super::Table::new(1, super::super::Seed([1, 2, 3, 4]));
        let mut key = table.build_key(&quota);
        key.part(&super::super::KeyPart::Bytes(b"127.0.0.1"));
        key.finish()
    };
    let charges = [Charge::of(&quota, true).in_windows_of(key)];
    let mut states = [0];
    let steps = [(0, true, 0), (5, true, 1), (12, false, 2), (13, true, 0), (72, true, 1), (73, true, 0)];
    for (second, passes, used) in steps {
        let now = (1_700_000_000 + second) * SECOND + 250_000_000;
        let answer = charge(&mut states, now, &charges);
        let ends = if second <= 12 {
            12
        } else if second <= 72 {
            72
        } else {
            132
        };
        let left = (ends + 1 - second) * SECOND - 250_000_000;
        assert_eq!((answer.refused.is_none(), answer.before[0]), (passes, Used { used, left }), "{second}");
        let decision = answer.decision(0, &quota, 1).unwrap();
        assert_eq!((decision.admitted, decision.reset), (passes, left));
        assert_eq!(decision.retry_after, if passes { 0 } else { left });
    }
}

/// Whoever counts by its answer is let in while there is room for all under way, and charged when it is known, whatever other gateways have let in meanwhile.
#[test]
fn what_was_let_in_beyond_the_limit_is_paid_off_before_anybody_else_is_let_in() {
    for quota in [quota("2/m", 1), Quota::fixed_window("2/m".parse().unwrap())] {
        let (mut states, gateways) = ([0], 3);
        for under_way in [1, 2] {
            assert_eq!(charge(&mut states, START, &[Charge::look(&quota, true, under_way, gateways)]).refused, None);
        }
        let third = charge(&mut states, START, &[Charge::look(&quota, true, 3, gateways)]);
        assert_eq!((third.refused, states), (Some(0), [0]), "a look charges nothing");
        // Two at each of three gateways. A seventh can not have been let in.
        for _ in 0..7 {
            charge(&mut states, START, &[Charge::late(&quota, gateways)]);
        }
        let look = [Charge::look(&quota, true, 1, gateways)];
        let refused = charge(&mut states, START, &look);
        let decision = refused.decision(0, &quota, 1).unwrap();
        assert!(refused.refused == Some(0) && !decision.admitted);
        let unit = if quota.algorithm() == Algorithm::Gcra { 30 * SECOND } else { 1 };
        assert_eq!(refused.before[0].used, 6 * unit);
        assert_eq!(charge(&mut states, START + decision.retry_after - 1, &look).refused, Some(0));
        assert_eq!(charge(&mut states, START + decision.retry_after, &look).refused, None);
        let watched = [Charge::look(&quota, false, 9, gateways)];
        assert_eq!(charge(&mut states, START, &watched).refused, None);
    }
}

proptest! {
    /// The same for windows.
    #[test]
    fn the_store_and_the_table_have_the_same_windows(
        count in 1_u32..9, period in 1_u64..90, stagger: u32, gaps in prop::collection::vec(0_u64..9_000_000_000, 1..200),
    ) {
        let quota = Quota::fixed_window(format!("{count}/{period}s").parse().unwrap());
        let charges = [Charge { stagger: u64::from(stagger) % period, ..Charge::of(&quota, true) }];
        let (mut now, mut state, mut states) = (START, 0, [0]);
        for gap in gaps {
            now += gap;
            let (next, decision) = window::decide(state, now / SECOND, stagger, &quota, 1);
            state = next.unwrap_or(state);
            let answer = charge(&mut states, now, &charges);
            prop_assert_eq!(answer.refused.is_none(), decision.admitted);
            let shared = answer.decision(0, &quota, 1).unwrap();
            // The table knows the second, and the store the moment.
            prop_assert_eq!((shared.admitted, shared.remaining), (decision.admitted, decision.remaining));
            prop_assert_eq!(shared.reset.div_ceil(SECOND) * SECOND, decision.reset);
            prop_assert_eq!(shared.retry_after.div_ceil(SECOND) * SECOND, decision.retry_after);
        }
    }

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
            prop_assert_eq!(answer.decision(0, &quota, 1), Some(decision));
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

#[test]
fn an_answer_that_no_script_can_have_given_does_not_fit() {
    let rate = Quota::new("1/s".parse().unwrap(), 4);
    let window = Quota::fixed_window("5/m".parse().unwrap());
    let words: Vec<u64> = [Charge::of(&rate, true), Charge::of(&window, true)].iter().flat_map(Charge::words).collect();
    let answer = |used: u64, rest: u64, counted: u64, left: u64| Answer {
        refused: Some(0),
        before: vec![Used { used, left: rest }, Used { used: counted, left }],
    };
    assert!(answer(5_000_000_000, 0, 7, 60_000_000_000).fits(&words));
    assert!(answer(0, 0, 0, 1).fits(&words));
    assert!(!answer(6_000_000_000, 0, 0, 1).fits(&words));
    assert!(!answer(0, 1, 0, 1).fits(&words));
    assert!(!answer(0, 0, 0, 60_000_000_001).fits(&words));
    assert!(!answer(0, 0, 0, 1).fits(&words[..6]) && !answer(0, 0, 0, 1).fits(&words[1..]));
    // What other gateways may have let in where answers decide is not too much.
    let late: Vec<u64> = [Charge::late(&rate, 3), Charge::of(&window, true)].iter().flat_map(Charge::words).collect();
    assert!(answer(15_000_000_000, 0, 0, 1).fits(&late));
}

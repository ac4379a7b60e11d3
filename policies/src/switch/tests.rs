use proptest::prelude::*;

use super::*;
use crate::balance::hash;
use crate::probe::ProbeKind;

const SECOND: Duration = Duration::from_secs(1);
const TOLERANCE: Tolerance = Tolerance { percent: 5, min_requests: 50 };

/// Everybody has passed at this moment.
fn at(passed: Duration) -> Ready {
    Ready::Told { failed: 0, passed: Some(passed) }
}

fn failing(failed: u32) -> Ready {
    Ready::Told { failed, passed: None }
}

fn counts(requests: u64, errors: u64) -> Counts {
    Counts { requests, errors }
}

fn at_once(bake: Duration) -> Switch {
    Switch::begin(stages(&[], SECOND, bake).unwrap(), 0, TOLERANCE, Counts::default(), Duration::ZERO)
}

#[test]
fn shares_grow_and_end_with_everything() {
    let told: Vec<_> =
        stages(&[5, 25], 3 * SECOND, 60 * SECOND).unwrap().iter().map(|stage| (stage.share, stage.time)).collect();
    assert_eq!(told, [(5, 3 * SECOND), (25, 3 * SECOND), (100, 60 * SECOND)]);
    assert_eq!(stages(&[5, 100], SECOND, 60 * SECOND).unwrap().last().map(|stage| stage.time), Some(60 * SECOND));
    assert_eq!(stages(&[0], SECOND, SECOND), Err(InvalidShares::Range(0)));
    assert_eq!(stages(&[101], SECOND, SECOND), Err(InvalidShares::Range(101)));
    assert_eq!(stages(&[25, 25], SECOND, SECOND), Err(InvalidShares::Order(25, 25)));
    assert_eq!(stages(&[100, 5], SECOND, SECOND), Err(InvalidShares::Order(100, 5)));
}

#[test]
fn a_good_release_bakes_and_stays() {
    let mut switch = at_once(10 * SECOND);
    assert_eq!(switch.share(), WHOLE);
    assert_eq!(switch.look(counts(1000, 10), at(9 * SECOND), 9 * SECOND), Next::Stay);
    assert_eq!(switch.look(counts(1100, 10), at(10 * SECOND), 10 * SECOND), Next::Done);
}

#[test]
fn errors_count_over_a_minimum_of_requests() {
    let mut switch = at_once(60 * SECOND);
    // 5 % of 50 are two and a half.
    assert_eq!(switch.look(counts(2, 2), at(SECOND), SECOND), Next::Stay);
    assert_eq!(switch.look(counts(3, 3), at(SECOND), SECOND), Next::Return(Regress::Errors(counts(3, 3))));
}

#[test]
fn a_release_that_breaks_late_is_not_covered_by_what_went_well() {
    let mut switch = at_once(600 * SECOND);
    let mut seen = Counts::default();
    for second in 1..=100 {
        seen.requests += 1000;
        assert_eq!(switch.look(seen, at(second * SECOND), second * SECOND), Next::Stay);
    }
    seen.requests += 100;
    seen.errors += 100;
    // 100 of 100 100 are one in a thousand; of the last seconds they are too many.
    assert!(matches!(switch.look(seen, at(101 * SECOND), 101 * SECOND), Next::Return(Regress::Errors(_))));
}

#[test]
fn a_server_that_is_not_ready_holds_the_stage_and_then_ends_it() {
    let mut switch = at_once(SECOND);
    assert_eq!(switch.look(Counts::default(), failing(1), 5 * SECOND), Next::Stay);
    assert_eq!(switch.clone().look(Counts::default(), at(6 * SECOND), 6 * SECOND), Next::Done);
    assert_eq!(switch.look(Counts::default(), failing(2), 6 * SECOND), Next::Return(Regress::Unready));
}

#[test]
fn a_stage_does_not_end_before_every_server_has_answered_in_it() {
    let stages = stages(&[50], SECOND, SECOND).unwrap();
    let mut switch = Switch::begin(stages, 0, TOLERANCE, Counts::default(), SECOND);
    // They hang, or have not been asked yet; what they said before it began does not count.
    for ready in [failing(0), at(SECOND / 2)] {
        assert_eq!(switch.look(Counts::default(), ready, 600 * SECOND), Next::Stay);
    }
    assert_eq!(switch.look(Counts::default(), at(SECOND), 600 * SECOND), Next::Share(100));
    assert_eq!(switch.look(Counts::default(), at(599 * SECOND), 602 * SECOND), Next::Stay, "one for each stage");
    assert_eq!(switch.clone().look(Counts::default(), at(601 * SECOND), 602 * SECOND), Next::Done);
    // Nobody can be asked.
    assert_eq!(switch.look(Counts::default(), Ready::Untold, 602 * SECOND), Next::Done);
}

#[test]
fn stages_follow_each_other_and_each_has_its_time() {
    let stages = stages(&[5, 25], 2 * SECOND, 10 * SECOND).unwrap();
    let mut switch = Switch::begin(stages.clone(), 0, TOLERANCE, Counts::default(), Duration::ZERO);
    assert_eq!((switch.share(), switch.left(SECOND)), (5, SECOND));
    assert_eq!(switch.look(counts(1, 0), at(2 * SECOND), 2 * SECOND), Next::Share(25));
    assert_eq!(switch.look(counts(2, 0), at(3 * SECOND), 3 * SECOND), Next::Stay);
    assert_eq!(switch.look(counts(2, 0), at(4 * SECOND), 4 * SECOND), Next::Share(100));
    assert_eq!(switch.look(counts(2, 0), at(14 * SECOND), 14 * SECOND), Next::Done);
    // After a restart, the stage begins anew, with what is counted from then on.
    let mut resumed = Switch::begin(stages, 1, TOLERANCE, counts(9, 9), 100 * SECOND);
    assert_eq!((resumed.share(), resumed.stage()), (25, 1));
    assert_eq!(resumed.look(counts(10, 9), at(101 * SECOND), 101 * SECOND), Next::Stay);
    assert_eq!(resumed.seen(counts(10, 9)), counts(1, 0));
}

fn finding(server: &str, probe: ProbeKind, answer: Result<u16, &str>, version: Option<&str>) -> Finding {
    let said = version.map(|version| Said { version: Some(version.into()), commit: Some("0123456789abcdef".into()) });
    Finding { server: server.into(), probe, answer: answer.map_err(Into::into), said }
}

fn told(findings: &[Finding], expected: Option<&str>) -> Vec<String> {
    let expected = expected.map(|version| Expected { version, is_told: true });
    judge(findings, expected).iter().map(ToString::to_string).collect()
}

#[test]
fn whoever_does_not_pass_is_named() {
    let good = [
        finding("a", ProbeKind::Healthz, Ok(200), None),
        finding("a", ProbeKind::Version, Ok(200), Some("2")),
        finding("b", ProbeKind::Version, Ok(200), Some("2")),
    ];
    assert_eq!(told(&good, None), [""; 0]);
    assert_eq!(told(&good, Some("2")), [""; 0]);
    assert_eq!(told(&good, Some("0123456")), [""; 0]);
    assert_eq!(told(&good, Some("012345")).len(), 2);
    assert_eq!(told(&[], None), ["no server could be asked anything"]);
    let bad = [
        finding("a", ProbeKind::Healthz, Ok(200), None),
        finding("b", ProbeKind::Readyz, Ok(503), None),
        finding("c", ProbeKind::Startupz, Err("the app did not answer in time"), None),
        finding("d", ProbeKind::Healthz, Ok(301), None),
    ];
    assert_eq!(
        told(&bad, None),
        [
            "b: readyz answers with status 503",
            "c: startupz is not answered: the app did not answer in time",
            "d: healthz answers with status 301"
        ]
    );
}

#[test]
fn versions_that_differ_or_are_not_told_are_refused() {
    let mixed =
        [finding("a", ProbeKind::Version, Ok(200), Some("1")), finding("b", ProbeKind::Version, Ok(200), Some("2"))];
    assert_eq!(told(&mixed, None).len(), 1);
    assert_eq!(
        told(&mixed, Some("2")),
        ["a: it is version 1, commit 0123456789abcdef, which is not what was expected: `2`"]
    );
    let silent = [finding("a", ProbeKind::Version, Ok(200), None)];
    assert_eq!(told(&silent, None), [""; 0]);
    assert_eq!(told(&silent, Some("2")), ["a: version does not say which one it is, and `2` was expected"]);
    let unasked = [finding("a", ProbeKind::Healthz, Ok(200), None)];
    assert_eq!(told(&unasked, Some("2")), ["version does not say which one it is, and `2` was expected"]);
    let untold = judge(&unasked, Some(Expected { version: "2", is_told: false }));
    assert_eq!(
        untold.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["`2` was expected, and no app is asked: its probe `version` is answered by the gateway, or off"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_client_that_has_moved_stays_while_the_share_grows(key: u64, one in 0_u8..=100, other in 0_u8..=100) {
        let (less, more) = (one.min(other), one.max(other));
        let slot = hash(b"green");
        prop_assert!(!moves(key, slot, less) || moves(key, slot, more));
        prop_assert!(!moves(key, slot, 0) && moves(key, slot, WHOLE));
    }

    #[test]
    fn whatever_is_seen_shares_only_grow_and_an_end_is_an_end_of_the_stages(
        shares in proptest::collection::btree_set(1_u8..=100, 0..5),
        seen in proptest::collection::vec((0_u64..50, 0_u64..4, 0_u32..3, 0_u64..4000), 1..60),
        required in 0_u64..300,
    ) {
        let shares: Vec<_> = shares.into_iter().collect();
        let stages = stages(&shares, 2 * SECOND, 5 * SECOND).unwrap();
        let least: Duration = stages.iter().map(|stage| stage.time).sum();
        let mut switch = Switch::begin(stages, 0, TOLERANCE, Counts::default(), Duration::ZERO).requiring(required);
        let (mut now, mut total, mut share) = (Duration::ZERO, Counts::default(), switch.share());
        for (requests, errors, unready, millis) in seen {
            now += Duration::from_millis(millis);
            total.requests += requests + errors;
            total.errors += errors;
            let ready = Ready::Told { failed: unready, passed: Some(now) };
            match switch.look(total, ready, now) {
                Next::Stay => prop_assert!(unready < UNREADY && !TOLERANCE.is_exceeded(total)),
                Next::Share(next) => {
                    prop_assert!(next > share);
                    prop_assert_eq!(unready, 0);
                    share = next;
                }
                Next::Done => {
                    prop_assert_eq!(share, WHOLE);
                    prop_assert!(now >= least && total.requests >= required);
                    break;
                }
                Next::Return(Regress::Unseen { requests, .. }) => {
                    prop_assert_eq!(share, WHOLE);
                    prop_assert!(now >= least && requests == total.requests && requests < required);
                    break;
                }
                Next::Return(Regress::Unready) => {
                    prop_assert!(unready >= UNREADY);
                    break;
                }
                Next::Return(Regress::Errors(counts)) => {
                    prop_assert!(TOLERANCE.is_exceeded(counts));
                    break;
                }
            }
        }
    }
}

#[test]
fn a_share_is_a_share() {
    for share in [1_u8, 5, 25, 50, 99] {
        let slot = hash(b"green");
        let moved = (0..100_000_u32).filter(|client| moves(hash(&client.to_be_bytes()), slot, share)).count();
        let expected = usize::from(share) * 1000;
        assert!(moved.abs_diff(expected) < 1000, "{share}: {moved}");
    }
}

#[test]
fn who_requires_requests_gets_them_or_everything_back() {
    for (requests, next) in [
        (0, Next::Return(Regress::Unseen { requests: 0, required: 10 })),
        (9, Next::Return(Regress::Unseen { requests: 9, required: 10 })),
        (10, Next::Done),
    ] {
        // What was counted before does not count.
        let stages = stages(&[], SECOND, 10 * SECOND).unwrap();
        let mut switch = Switch::begin(stages, 0, TOLERANCE, counts(100, 0), Duration::ZERO).requiring(10);
        assert_eq!(switch.look(counts(100, 0), at(SECOND), SECOND), Next::Stay, "there is time");
        assert_eq!(switch.look(counts(100 + requests, 0), at(10 * SECOND), 10 * SECOND), next);
    }
}

#[test]
fn what_another_process_had_seen_counts() {
    let seen = counts(9, 2);
    let switch = || {
        let stages = stages(&[], SECOND, 10 * SECOND).unwrap();
        let switch = Switch::begin(stages, 0, TOLERANCE, counts(100, 7), Duration::ZERO).requiring(10);
        assert_eq!(switch.seen(counts(100, 7)), Counts::default());
        switch.having_seen(seen)
    };
    assert_eq!(switch().seen(counts(101, 8)), counts(10, 3));
    assert_eq!(switch().look(counts(101, 7), at(10 * SECOND), 10 * SECOND), Next::Done);
    // The third error is too much, whoever has seen the two before.
    assert_eq!(switch().look(counts(101, 8), at(SECOND), SECOND), Next::Return(Regress::Errors(counts(10, 3))));
}

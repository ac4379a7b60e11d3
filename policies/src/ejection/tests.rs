use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms { max_fails: 3, fail_timeout: Duration::from_secs(10) };
const ONE: Terms = Terms { max_fails: 1, ..TERMS };
const LEASE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(100 + seconds)
}

fn enter(record: &mut Record, now: Duration) -> Entry {
    record.enter(true, LEASE, now).unwrap()
}

fn fail(record: &mut Record, terms: &Terms, now: Duration) -> Change {
    let entry = enter(record, now);
    record.failed(entry, terms, true, now)
}

#[test]
fn enough_failures_within_the_time_leave_a_server_out_for_as_long() {
    let mut record = Record::default();
    assert_eq!(fail(&mut record, &TERMS, at(0)), Change::Nothing);
    assert_eq!(fail(&mut record, &TERMS, at(4)), Change::Nothing);
    assert_eq!(fail(&mut record, &TERMS, at(9)), Change::Leaves);
    assert_eq!(record.until(), Some(at(19)));
}

#[test]
fn failures_are_forgotten_when_the_time_is_over() {
    let mut record = Record::default();
    for second in [0, 9, 10, 19, 20, 29, 30] {
        assert_eq!(fail(&mut record, &TERMS, at(second)), Change::Nothing, "{second}");
    }
}

#[test]
fn one_failure_is_enough_by_default_and_none_ever_where_nobody_counts() {
    let mut record = Record::default();
    assert_eq!(fail(&mut record, &ONE, at(0)), Change::Leaves);
    let never = Terms { max_fails: 0, ..TERMS };
    let mut record = Record::default();
    assert!((0..100).all(|_| fail(&mut record, &never, at(0)) == Change::Nothing));
}

#[test]
fn the_last_one_never_leaves() {
    let mut record = Record::default();
    let entry = enter(&mut record, at(0));
    assert_eq!(record.failed(entry, &ONE, false, at(0)), Change::Nothing);
    assert_eq!(record.until(), None);
}

#[test]
fn a_server_that_fails_when_it_is_tried_is_left_out_longer_up_to_a_bound() {
    let mut record = Record::default();
    let mut now = at(0);
    assert_eq!(fail(&mut record, &ONE, now), Change::Leaves);
    let mut spans = Vec::new();
    for _ in 0..40 {
        now = record.until().unwrap();
        assert_eq!(fail(&mut record, &ONE, now), Change::Stays);
        spans.push(record.until().unwrap().saturating_sub(now).as_secs());
    }
    assert_eq!(spans[..4], [20, 40, 80, 80]);
    assert_eq!(spans[39], 80);
    now = record.until().unwrap();
    let trial = enter(&mut record, now);
    assert!(matches!(record.succeeded(trial), Entry::Back { .. }));
    assert_eq!(fail(&mut record, &ONE, now), Change::Leaves);
    assert_eq!(record.until(), Some(now + ONE.fail_timeout), "what was is forgotten");
}

/// A trial takes as long as an answer may: nobody else goes there meanwhile, and its failure counts.
#[test]
fn a_trial_may_take_longer_than_a_server_is_left_out() {
    let mut record = Record::default();
    fail(&mut record, &ONE, at(0));
    let trial = enter(&mut record, at(10));
    for second in [10, 20, 50, 69] {
        assert_eq!(record.enter(true, LEASE, at(second)), None, "{second}");
    }
    assert_eq!(record.failed(trial, &ONE, true, at(69)), Change::Stays);
    assert_eq!(record.until(), Some(at(89)));
    assert_eq!(record.failed(trial, &ONE, true, at(69)), Change::Nothing, "once");
}

/// What waits for its client for ever keeps no server out for ever.
#[test]
fn a_trial_that_takes_too_long_is_one_no_more() {
    let mut record = Record::default();
    fail(&mut record, &ONE, at(0));
    let slow = enter(&mut record, at(10));
    let trial = enter(&mut record, at(70));
    assert!(matches!(trial, Entry::Trial { .. }) && trial != slow);
    record.left(slow, at(71));
    assert_eq!(record.failed(slow, &ONE, true, at(71)), Change::Nothing);
    assert_eq!(record.enter(true, LEASE, at(72)), None, "the other one tries it");
    assert!(matches!(record.succeeded(slow), Entry::Back { .. }), "an answer is an answer");
}

#[test]
fn a_client_that_leaves_proves_nothing() {
    let mut record = Record::default();
    fail(&mut record, &ONE, at(0));
    // There was no other: its leaving is no reason to try the server.
    let meanwhile = record.enter(false, LEASE, at(1)).unwrap();
    record.left(meanwhile, at(2));
    assert_eq!(record.until(), Some(at(10)));
    let trial = enter(&mut record, at(10));
    record.left(trial, at(12));
    assert!(matches!(record.enter(true, LEASE, at(12)), Some(Entry::Trial { .. })));
}

#[test]
fn what_was_sent_before_says_nothing_afterwards() {
    let mut record = Record::default();
    let [before, also] = [(); 2].map(|()| enter(&mut record, at(0)));
    fail(&mut record, &ONE, at(1));
    let left_out = record;
    assert_eq!(record.failed(before, &ONE, true, at(2)), Change::Nothing);
    assert_eq!(record.succeeded(before), before);
    assert_eq!(record, left_out);
    let trial = enter(&mut record, at(11));
    record.succeeded(trial);
    // It was lost with what made the server fail then.
    assert_eq!(record.failed(also, &ONE, true, at(60)), Change::Nothing);
    assert_eq!(record.until(), None);
}

#[test]
fn an_answer_brings_a_server_back_that_was_asked_because_there_was_no_other() {
    let mut record = Record::default();
    fail(&mut record, &ONE, at(0));
    let [one, other] = [(); 2].map(|()| record.enter(false, LEASE, at(1)).unwrap());
    assert_eq!(record.failed(one, &ONE, true, at(2)), Change::Nothing);
    assert_eq!(record.until(), Some(at(10)));
    assert!(matches!(record.succeeded(other), Entry::Back { .. }));
    assert_eq!(record.until(), None);
}

#[test]
fn a_trial_whose_answer_breaks_off_gained_nothing() {
    let mut record = Record::default();
    let mut now = at(0);
    for _ in 0..3 {
        fail(&mut record, &TERMS, now);
    }
    for span in [20, 40, 80, 80] {
        now = record.until().unwrap();
        let trial = enter(&mut record, now);
        let back = record.succeeded(trial);
        assert_eq!(record.failed(back, &TERMS, true, now), Change::Leaves);
        assert_eq!(record.until(), Some(now + Duration::from_secs(span)));
    }
}

#[test]
fn a_server_that_is_alone_now_returns_when_its_trial_fails() {
    let mut record = Record::default();
    fail(&mut record, &ONE, at(0));
    let trial = enter(&mut record, at(10));
    let never = Terms { max_fails: 0, ..ONE };
    assert_eq!(record.failed(trial, &never, false, at(11)), Change::Returns);
    assert_eq!(record.until(), None);
}

#[test]
fn a_server_that_is_back_grows_into_its_share() {
    let slow = Duration::from_secs(20);
    let weights: Vec<_> = [0, 1, 5, 10, 19, 20, 500].map(|s| ramp(2, Some(at(0)), slow, at(s))).into();
    assert_eq!(weights, [1, 25, 128, 256, 486, 512, 512]);
    assert_eq!(ramp(2, None, slow, at(0)), 512);
    assert_eq!(ramp(2, Some(at(0)), Duration::ZERO, at(0)), 512);
    // A clock that was read a tick too early.
    assert_eq!(ramp(2, Some(at(1)), slow, at(0)), 1);
}

/// A service, its requests, and what must hold whatever happens.
struct Model {
    servers: Vec<Record>,
    /// Server, entry, when it entered, and whether its answer began.
    running: Vec<(usize, Entry, Duration)>,
    terms: Terms,
    now: Duration,
    /// How long each server was last left out, and whether it has been back since.
    spans: Vec<Option<Duration>>,
}

impl Model {
    fn enter(&mut self, random: usize) {
        let now = self.now;
        let is_eligible = |record: &Record| record.until().is_none_or(|until| now >= until);
        let eligible: Vec<_> = (0..self.servers.len()).filter(|index| is_eligible(&self.servers[*index])).collect();
        // Now and then somebody has asked the others already.
        let last_resort = eligible.is_empty() || random.is_multiple_of(7);
        let among = if last_resort { (0..self.servers.len()).collect() } else { eligible };
        let index = among[random % among.len()];
        let entry = self.servers[index].enter(!last_resort, LEASE, now);
        let entry = entry.expect("what was chosen a moment ago can be entered");
        self.running.push((index, entry, now));
    }

    fn fail(&mut self, which: usize) {
        let (index, entry, _) = self.running.swap_remove(which);
        let spare = (0..self.servers.len()).any(|other| other != index && self.servers[other].until().is_none());
        let change = self.servers[index].failed(entry, &self.terms, spare, self.now);
        let span = self.servers[index].until().map(|until| until.saturating_sub(self.now));
        match change {
            Change::Leaves => {
                if matches!(entry, Entry::Ordinary(_)) {
                    assert_eq!(span, Some(self.terms.fail_timeout));
                }
                self.spans[index] = span;
            }
            Change::Stays => {
                let (before, span) = (self.spans[index].unwrap(), span.unwrap());
                assert_eq!(span, (before * 2).min(self.terms.fail_timeout * MOST), "the backoff of what hangs grows");
                self.spans[index] = Some(span);
            }
            Change::Nothing => {}
            Change::Returns => panic!("these terms leave servers out"),
        }
    }

    fn succeed(&mut self, which: usize) {
        let (index, entry, _) = self.running[which];
        let out = self.servers[index].until().is_some();
        let after = self.servers[index].succeeded(entry);
        if out
            && matches!(entry, Entry::Trial { .. } | Entry::Meanwhile(_))
            && entry.round() == self.servers[index].round().wrapping_sub(1)
        {
            assert!(self.servers[index].until().is_none(), "a server that answers returns");
        }
        // Its body may still break off.
        self.running[which].1 = after;
    }

    fn leave(&mut self, which: usize) {
        let (index, entry, _) = self.running.swap_remove(which);
        self.servers[index].left(entry, self.now);
    }

    fn check(&self) {
        assert!(self.servers.iter().any(|record| record.until().is_none()), "all are left out");
        for (index, record) in self.servers.iter().enumerate() {
            let trials = self.running.iter().filter(|(server, entry, _)| {
                matches!(entry, Entry::Trial { ticket, round } if *server == index && *ticket == record.ticket && *round == record.round)
            });
            let trials = trials.count();
            assert!(trials <= 1, "{trials} trials of {index}");
            if let Standing::Tried(_) = record.standing {
                assert_eq!(trials, 1, "{index} is tried by nobody");
            }
            if let Some(until) = record.until() {
                let longest = (self.terms.fail_timeout * MOST).max(LEASE);
                assert!(until <= self.now + longest, "{index} is left out for ever");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_the_rules_hold(
        count in 2_usize..5,
        max_fails in 1_u32..4,
        steps in prop::collection::vec((0_u8..10, any::<usize>(), 0_u64..20_000), 1..300),
    ) {
        let terms = Terms { max_fails, ..TERMS };
        let servers = vec![Record::default(); count];
        let mut model = Model { servers, running: Vec::new(), terms, now: at(0), spans: vec![None; count] };
        for (what, random, passes) in steps {
            let running = model.running.len();
            match what {
                0..=3 => model.enter(random),
                4 => model.now += Duration::from_millis(passes),
                _ if running == 0 => {}
                5 | 6 => model.fail(random % running),
                7 | 8 => model.succeed(random % running),
                _ => model.leave(random % running),
            }
            model.check();
        }
        // Once nothing fails any more, every server is back when its time is over.
        for which in (0..model.running.len()).rev() {
            model.leave(which);
        }
        for index in 0..count {
            model.now = model.now.max(model.servers[index].until().unwrap_or_default());
            let now = model.now;
            let entry = enter(&mut model.servers[index], now);
            model.servers[index].succeeded(entry);
            prop_assert_eq!(model.servers[index].until(), None);
        }
    }
}

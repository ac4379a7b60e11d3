//! The shield before an app's probe: when an answer that is known is given again, when the app is asked, who waits for whom, and when an app that
//! says nothing is covered by what it said last.
//!
//! One [`Known`] stands for one question. At any time at most one ask of it is under way ([`Step::Ask`] is given to one, and to nobody else before
//! the end of that ask was told, or [`GRACE`] beyond its time).
//!
//! Invariant: an answer of the app's is never covered by an older one, a bad one least of all. Only silence is.

use std::time::Duration;

/// An ask whose end was not told this long after its time is taken for lost.
pub const GRACE: Duration = Duration::from_secs(1);

/// For how long answers serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A good answer (2xx) serves this long.
    pub ok: Duration,
    /// Any other answer, or that there was none, serves this long.
    pub fail: Duration,
    /// An app that says nothing is covered by its last answer for this long after that has ceased to serve.
    pub stale: Duration,
    /// A good answer serves until it is [forgotten](Known::forget).
    pub latch: bool,
    /// The longest that an ask may take.
    pub patience: Duration,
}

/// What becomes of somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The last answer serves.
    Fresh,
    /// The last answer was good, and that is for good.
    Latched,
    /// The app said nothing the last time: its last answer covers that.
    Stale,
    /// The app said nothing the last time, and that serves.
    Silent,
    /// The app is being asked: what it says is for everybody.
    Wait,
    /// The app has to be asked.
    Ask,
}

/// What is known about a question. Times are nanoseconds of a clock that does not go back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    /// When the last answer came, and whether it was good.
    answer: Option<(u64, bool)>,
    /// When it was last found that the app says nothing, if it has said nothing since.
    silent: Option<u64>,
    /// Since when the app is being asked.
    asking: Option<u64>,
}

impl Known {
    /// What becomes of somebody who asks at this time. With [`Step::Ask`] the ask begins.
    pub fn step(&mut self, now: u64, terms: &Terms) -> Step {
        if let Some((at, good)) = self.answer {
            if self.is_latched(terms) {
                return Step::Latched;
            }
            let serves = if good { terms.ok } else { terms.fail };
            if self.silent.is_none() && since(at, now) < serves {
                return Step::Fresh;
            }
        }
        if self.silent.is_some_and(|at| since(at, now) < terms.fail) {
            return if self.is_covered(now, terms) { Step::Stale } else { Step::Silent };
        }
        if self.asking.is_some_and(|at| since(at, now) < terms.patience.saturating_add(GRACE)) {
            return Step::Wait;
        }
        self.asking = Some(now);
        Step::Ask
    }

    /// The app has answered.
    pub fn answered(&mut self, now: u64, good: bool) {
        *self = Self { answer: Some((now, good)), silent: None, asking: None };
    }

    /// The app said nothing. `hidden`: that may be covered by what it said before.
    pub fn silent(&mut self, now: u64, hidden: bool) {
        let answer = self.answer.filter(|_| hidden);
        *self = Self { answer, silent: Some(now), asking: None };
    }

    /// The ask that began is none: nobody asks the app.
    pub fn cancelled(&mut self) {
        self.asking = None;
    }

    /// What was known holds no longer: the app is another one. An ask that is under way is still one.
    pub fn forget(&mut self) {
        *self = Self { asking: self.asking, ..Self::default() };
    }

    /// Whether silence is covered by the last answer.
    pub fn is_covered(&self, now: u64, terms: &Terms) -> bool {
        self.answer.is_some_and(|(at, good)| {
            let serves = if good { terms.ok } else { terms.fail };
            since(at, now) < serves.saturating_add(terms.stale) && !terms.stale.is_zero()
        })
    }

    /// The age of the last answer.
    pub fn age(&self, now: u64) -> Duration {
        self.answer.map_or(Duration::ZERO, |(at, _)| since(at, now))
    }

    /// Whether the last answer serves for good.
    pub fn is_latched(&self, terms: &Terms) -> bool {
        terms.latch && self.answer.is_some_and(|(_, good)| good)
    }

    /// Whether the app is being asked.
    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }
}

fn since(at: u64, now: u64) -> Duration {
    Duration::from_nanos(now.saturating_sub(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const TERMS: Terms = Terms {
        ok: Duration::from_secs(1),
        fail: Duration::from_millis(500),
        stale: Duration::ZERO,
        latch: false,
        patience: Duration::from_millis(800),
    };

    #[test]
    fn a_thousand_who_ask_at_once_are_one_ask() {
        let mut known = Known::default();
        assert_eq!(known.step(5 * MS, &TERMS), Step::Ask);
        for at in 5..800 {
            assert_eq!(known.step(at * MS, &TERMS), Step::Wait);
        }
        known.answered(800 * MS, true);
        for at in 800..1800 {
            assert_eq!(
                (known.step(at * MS, &TERMS), known.age(at * MS).as_millis()),
                (Step::Fresh, u128::from(at - 800))
            );
        }
        assert_eq!(known.step(1800 * MS, &TERMS), Step::Ask);
        assert_eq!(known.step(1801 * MS, &TERMS), Step::Wait);
    }

    #[test]
    fn a_bad_answer_serves_for_its_own_time_and_is_never_covered() {
        let terms = Terms { stale: Duration::from_secs(10), ..TERMS };
        let mut known = Known::default();
        known.step(0, &terms);
        known.answered(0, true);
        assert_eq!(known.step(1000 * MS, &terms), Step::Ask);
        known.answered(1001 * MS, false);
        assert_eq!(known.step(1500 * MS, &terms), Step::Fresh);
        assert_eq!(known.step(1501 * MS, &terms), Step::Ask);
    }

    #[test]
    fn silence_is_covered_within_its_bound_and_no_longer() {
        let terms = Terms { stale: Duration::from_secs(2), ..TERMS };
        let mut known = Known::default();
        known.step(0, &terms);
        known.answered(0, true);
        assert_eq!(known.step(1000 * MS, &terms), Step::Ask);
        known.silent(1800 * MS, true);
        assert!(known.is_covered(1800 * MS, &terms));
        assert_eq!((known.step(2000 * MS, &terms), known.age(2000 * MS).as_millis()), (Step::Stale, 2000));
        assert_eq!(known.step(2300 * MS, &terms), Step::Ask, "it is asked again meanwhile");
        known.silent(2990 * MS, true);
        assert_eq!(known.step(2999 * MS, &terms), Step::Stale);
        assert_eq!(known.step(3000 * MS, &terms), Step::Silent, "ok and stale are over");
        assert_eq!(known.step(3490 * MS, &terms), Step::Ask);
        known.answered(3500 * MS, true);
        assert_eq!(known.step(3501 * MS, &terms), Step::Fresh);
    }

    #[test]
    fn without_a_bound_and_after_an_answer_that_is_none_nothing_is_covered() {
        let mut known = Known::default();
        known.answered(0, true);
        known.silent(1, true);
        assert_eq!((known.step(2, &TERMS), known.is_covered(2, &TERMS)), (Step::Silent, false));
        let terms = Terms { stale: Duration::from_secs(10), ..TERMS };
        known.answered(3, true);
        known.silent(4, false);
        assert_eq!((known.step(5, &terms), known.is_covered(5, &terms)), (Step::Silent, false));
    }

    #[test]
    fn terms_of_zero_only_join_those_who_ask_at_the_same_time() {
        let terms = Terms { ok: Duration::ZERO, fail: Duration::ZERO, ..TERMS };
        let mut known = Known::default();
        assert_eq!((known.step(0, &terms), known.step(0, &terms)), (Step::Ask, Step::Wait));
        known.answered(1, true);
        assert_eq!((known.step(1, &terms), known.step(1, &terms)), (Step::Ask, Step::Wait));
        known.silent(2, true);
        assert_eq!(known.step(2, &terms), Step::Ask);
    }

    #[test]
    fn an_ask_that_never_ends_is_lost_and_not_waited_for() {
        let mut known = Known::default();
        assert_eq!(known.step(0, &TERMS), Step::Ask);
        assert_eq!(known.step(1799 * MS, &TERMS), Step::Wait);
        assert_eq!(known.step(1800 * MS, &TERMS), Step::Ask);
        assert_eq!(known.step(1801 * MS, &TERMS), Step::Wait);
    }

    #[test]
    fn an_ask_that_never_began_leaves_everything_as_it_was() {
        let mut known = Known::default();
        known.answered(0, true);
        assert_eq!(known.step(1000 * MS, &TERMS), Step::Ask);
        known.cancelled();
        assert_eq!((known.is_asking(), known.age(1000 * MS)), (false, Duration::from_secs(1)));
        assert_eq!(known.step(1001 * MS, &TERMS), Step::Ask);
    }

    #[test]
    fn what_has_started_has_started_until_the_app_is_another_one() {
        let terms = Terms { latch: true, ..TERMS };
        let mut known = Known::default();
        known.step(0, &terms);
        known.answered(1, false);
        assert_eq!(known.step(2, &terms), Step::Fresh);
        assert_eq!(known.step(501 * MS, &terms), Step::Ask, "a bad answer is not for good");
        known.answered(502 * MS, true);
        assert_eq!(known.step(u64::MAX, &terms), Step::Latched);
        assert_eq!(known.step(u64::MAX, &TERMS), Step::Ask, "terms may change");
        let mut known = Known::default();
        known.answered(1, true);
        known.forget();
        assert_eq!((known.step(2, &terms), known.is_asking()), (Step::Ask, true));
        known.forget();
        assert_eq!(known.step(3, &terms), Step::Wait);
    }
}

//! One answer from what several services say: who counts, from when on, and what becomes of it.
//!
//! What is known about a member changes with observations. Each has a number that grows with time, because many who ask may see the same one: it counts
//! once. The first one decides; after that it takes [`Terms::fall`] failures in a row, or [`Terms::rise`] passes, to turn it.
//!
//! Invariant: a member that was never observed does not pass. Nothing turns it but observations in a row.

mod body;

pub use self::body::{Check, Form, body, form};

/// How many observations in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Failures until a member that passed fails. At least 1.
    pub fall: u32,
    /// Passes until a member that failed passes. At least 1.
    pub rise: u32,
}

/// Whether the whole fails with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It does.
    Required,
    /// It does not: that is told, and no more.
    Optional,
}

/// What is known about a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Whether it passes; `None`: it was never observed.
    passes: Option<bool>,
    /// Observations in a row that speak against that.
    against: u32,
    /// The number of the last observation.
    last: Option<u64>,
}

impl Member {
    /// Whether it passes.
    pub fn passes(&self) -> bool {
        self.passes == Some(true)
    }

    /// Whether it was ever observed.
    pub fn is_known(&self) -> bool {
        self.passes.is_some()
    }

    /// Whether the last observation speaks against what is said, but not often enough.
    pub fn is_turning(&self) -> bool {
        self.against > 0
    }

    /// One more observation, and whether it was a good one. One whose number is not above the last one's is known already, or older. Returns whether the
    /// member passes from here on, where that has changed.
    pub fn observe(&mut self, number: u64, good: bool, terms: Terms) -> Option<bool> {
        if self.last.is_some_and(|last| number <= last) {
            return None;
        }
        self.last = Some(number);
        let needed = match self.passes {
            Some(passes) if passes == good => {
                self.against = 0;
                return None;
            }
            Some(true) => terms.fall,
            Some(false) => terms.rise,
            None => 1,
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        (self.passes, self.against) = (Some(good), 0);
        Some(good)
    }
}

/// What is said about all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything passes.
    Pass,
    /// Everything that is required passes, and something else does not.
    Warn,
    /// Something that is required does not pass.
    Fail,
}

impl Verdict {
    /// Whether whoever asks may rely on it.
    pub fn passes(self) -> bool {
        self != Self::Fail
    }
}

/// What follows from the members. Of none nothing bad is known.
pub fn verdict(members: impl IntoIterator<Item = (Need, bool)>) -> Verdict {
    members.into_iter().fold(Verdict::Pass, |verdict, member| match member {
        (_, true) => verdict,
        (Need::Required, false) => Verdict::Fail,
        (Need::Optional, false) if verdict == Verdict::Fail => verdict,
        (Need::Optional, false) => Verdict::Warn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { fall: 3, rise: 2 };

    /// The places in a row of observations (`+` is a good one) where the member turns.
    fn run(observations: &str, terms: Terms) -> Vec<(usize, bool)> {
        let mut member = Member::default();
        let told = |(index, sign): (usize, char)| Some((index, member.observe(index as u64, sign == '+', terms)?));
        observations.chars().enumerate().filter_map(told).collect()
    }

    #[test]
    fn the_first_observation_decides_and_others_take_as_many_as_the_terms_say() {
        assert_eq!(run("+---", TERMS), [(0, true), (3, false)]);
        assert_eq!(run("-++", TERMS), [(0, false), (2, true)]);
        assert_eq!(run("+---++", TERMS), [(0, true), (3, false), (5, true)]);
    }

    #[test]
    fn a_member_that_flaps_turns_nothing() {
        assert_eq!(run("+--+--+-+-+--+", TERMS), [(0, true)]);
        assert_eq!(run("-+-+-+-+-", TERMS), [(0, false)]);
        let at_once = Terms { fall: 1, rise: 1 };
        assert_eq!(run("+-+", at_once), [(0, true), (1, false), (2, true)]);
    }

    #[test]
    fn an_observation_counts_once_however_many_see_it() {
        let mut member = Member::default();
        assert_eq!(member.observe(7, true, TERMS), Some(true));
        for _ in 0..10 {
            assert_eq!(member.observe(8, false, TERMS), None);
            assert_eq!(member.observe(3, false, TERMS), None, "an older one that comes late");
        }
        assert!(member.passes() && member.is_turning());
        assert_eq!(member.observe(9, false, TERMS), None);
        assert_eq!(member.observe(10, false, TERMS), Some(false));
        assert!(!member.passes() && !member.is_turning());
    }

    #[test]
    fn a_member_that_was_never_observed_does_not_pass() {
        let member = Member::default();
        assert!(!member.passes() && !member.is_known() && !member.is_turning());
    }

    #[test]
    fn what_is_required_decides_and_what_is_optional_is_told() {
        use Need::{Optional, Required};
        for (members, expected) in [
            (&[][..], Verdict::Pass),
            (&[(Required, true), (Optional, true)], Verdict::Pass),
            (&[(Required, true), (Optional, false)], Verdict::Warn),
            (&[(Required, false), (Optional, true)], Verdict::Fail),
            (&[(Required, false), (Optional, false), (Required, true)], Verdict::Fail),
            (&[(Optional, false)], Verdict::Warn),
        ] {
            assert_eq!(verdict(members.iter().copied()), expected, "{members:?}");
        }
        assert!(Verdict::Warn.passes() && !Verdict::Fail.passes());
    }
}

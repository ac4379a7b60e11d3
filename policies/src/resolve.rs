//! How long the addresses of a name are used.
//!
//! An answer is used for the time it is good for, within bounds. From then on it is asked for anew, and the last good answer is used on meanwhile, and for as
//! long as the resolver fails: an outage of the resolver is none of the app. A resolver that says that there is no such name is believed after a
//! while only: names vanish for a moment when what answers for them is restarted.
//!
//! Invariant: no clock. Times are those since an origin that the caller fixes.

use std::time::Duration;

/// No answer is used for less before it is asked for anew, whatever it says: one that is good for nothing would be asked for by every request.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// No answer is used for more, whatever it says.
pub const LONGEST: Duration = Duration::from_secs(300);

/// How much longer an answer is used while it is asked for anew. What nobody has asked for meanwhile may belong to somebody else by now: then requests wait for
/// the new answer.
pub const STALE: Duration = Duration::from_secs(30);

/// How long the last good answer is used after the resolver has said that there is none.
pub const GONE: Duration = Duration::from_secs(30);

/// How soon a resolver is asked again that has failed, or said that there is none, where there is a last good answer.
pub const AGAIN: Duration = Duration::from_secs(5);

/// How soon where there is none, at least; and at most after a "no such name" that says how long it is good for.
pub const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What to do about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Use what is there.
    Fresh,
    /// Use what is there, and ask anew.
    Stale,
    /// Ask, and wait for the answer.
    Wait,
    /// There is nothing, which was found out a moment ago.
    Refused,
}

/// The times of one name. Nothing is known at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    known: bool,
    /// Nobody could be reached at what is known.
    doubted: bool,
    fresh_until: Duration,
    refused_until: Duration,
    /// Since when the resolver says that there is none.
    gone_since: Option<Duration>,
    /// When it was asked last.
    asked: Option<Duration>,
}

impl Lease {
    /// What to do at `now`.
    pub fn look(&self, now: Duration) -> Use {
        if self.known {
            match now {
                _ if self.doubted => Use::Wait,
                _ if now < self.fresh_until => Use::Fresh,
                _ if now < self.fresh_until + STALE => Use::Stale,
                _ => Use::Wait,
            }
        } else if now < self.refused_until {
            Use::Refused
        } else {
            Use::Wait
        }
    }

    /// The resolver is being asked.
    pub fn ask(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// It has answered; the answer is good for `life`.
    pub fn answered(&mut self, life: Duration, now: Duration) {
        let life = life.clamp(SHORTEST, LONGEST);
        *self = Self { known: true, doubted: false, fresh_until: now + life, gone_since: None, ..*self };
    }

    /// It has failed.
    pub fn failed(&mut self, now: Duration) {
        self.doubted = false;
        if self.known {
            self.fresh_until = now + AGAIN;
        } else {
            self.refused_until = now + REFUSED.0;
        }
    }

    /// It says that there is none, which is good for `life`. Whether the last good answer is given up.
    pub fn denied(&mut self, life: Duration, now: Duration) -> bool {
        self.doubted = false;
        let since = *self.gone_since.get_or_insert(now);
        if self.known && now < since + GONE {
            self.fresh_until = now + AGAIN;
            return false;
        }
        self.known = false;
        self.refused_until = now + life.clamp(REFUSED.0, REFUSED.1);
        true
    }

    /// Nobody could be reached at any of the addresses: whoever wants them next waits for an answer, unless there was one a moment ago.
    pub fn distrust(&mut self, now: Duration) {
        self.doubted |= self.asked.is_none_or(|asked| now >= asked + SHORTEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn an_answer_is_used_for_its_time_and_then_asked_for_anew() {
        let mut lease = Lease::default();
        assert_eq!(lease.look(S(0)), Use::Wait);
        lease.answered(S(20), S(100));
        for (at, what) in [(100, Use::Fresh), (119, Use::Fresh), (120, Use::Stale), (149, Use::Stale), (150, Use::Wait)]
        {
            assert_eq!(lease.look(S(at)), what, "{at}");
        }
    }

    #[test]
    fn times_have_bounds() {
        let mut lease = Lease::default();
        lease.answered(S(0), S(0));
        assert_eq!((lease.look(Duration::from_millis(999)), lease.look(S(1))), (Use::Fresh, Use::Stale));
        lease.answered(S(86_400), S(0));
        assert_eq!((lease.look(S(299)), lease.look(S(300))), (Use::Fresh, Use::Stale));
    }

    #[test]
    fn a_resolver_that_fails_takes_nothing_away() {
        let mut lease = Lease::default();
        lease.answered(S(1), S(0));
        for at in (1..3600).step_by(5) {
            assert_eq!(lease.look(S(at)), Use::Stale);
            lease.failed(S(at));
            assert_eq!(lease.look(S(at)), Use::Fresh);
        }
        lease.answered(S(60), S(3600));
        assert_eq!(lease.look(S(3659)), Use::Fresh);
    }

    #[test]
    fn without_an_answer_a_resolver_that_fails_is_not_asked_by_every_request() {
        let mut lease = Lease::default();
        lease.failed(S(10));
        assert_eq!((lease.look(S(10)), lease.look(S(11))), (Use::Refused, Use::Wait));
        assert!(lease.denied(S(3600), S(11)));
        assert_eq!((lease.look(S(15)), lease.look(S(16))), (Use::Refused, Use::Wait));
    }

    #[test]
    fn a_name_that_is_gone_is_believed_to_be_after_a_while() {
        let mut lease = Lease::default();
        lease.answered(S(1), S(0));
        for at in [1, 6, 11, 16, 21, 26] {
            assert!(!lease.denied(S(60), S(at)), "{at}");
            assert_eq!(lease.look(S(at + 4)), Use::Fresh);
        }
        assert!(lease.denied(S(60), S(31)));
        assert_eq!(lease.look(S(31)), Use::Refused);
        // One answer in between, and it is there as before.
        lease.answered(S(1), S(40));
        assert!(!lease.denied(S(60), S(41)));
    }

    #[test]
    fn addresses_that_nobody_answers_at_are_asked_for_anew_but_not_all_the_time() {
        let mut lease = Lease::default();
        lease.ask(S(0));
        lease.answered(S(300), S(0));
        lease.distrust(Duration::from_millis(500));
        assert_eq!(lease.look(S(1)), Use::Fresh);
        lease.distrust(S(100));
        assert_eq!(lease.look(S(100)), Use::Wait);
    }
}

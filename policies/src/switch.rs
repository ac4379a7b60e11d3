//! Moving requests from one slot of a service to another, on evidence: which share of the clients when, when it was good, and when it goes back.
//!
//! A switch has stages. Each gives a share of the clients to the new slot for a time; the last gives it all of them, and its time is the baking time.
//! What was seen decides: too many errors, or a server that is not ready any more, and everything goes back.
//!
//! The ratio of errors is counted over at least [`Tolerance::min_requests`], as if the missing ones had gone well: one error of three requests is no
//! third, and three of three are enough. It is looked at since the beginning of the switch, and over the last [`WINDOW`], so that a release that
//! breaks late is not covered by what went well before.
//!
//! Invariant: a share only grows, until it is over; no stage ends before every server was asked in it and was ready. No clock: time is handed in.

mod checks;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::checks::{Expected, Finding, Refusal, Said, Wrong, is_version, judge};

/// How long errors are looked at by themselves.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Checks of readiness in a row that a server may fail before the switch returns.
pub const UNREADY: u32 = 2;

/// Everything.
pub const WHOLE: u8 = 100;

/// A share of the clients for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// In percent, from 1 to 100.
    pub share: u8,
    /// For how long, before the next one.
    pub time: Duration,
}

/// Why there are no such stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidShares {
    /// One is not from 1 to 100.
    Range(u8),
    /// One is not more than the one before.
    Order(u8, u8),
}

/// The stages that lead through these shares, `step` for each, to everything for `bake`.
///
/// # Errors
/// They are no shares that grow.
pub fn stages(shares: &[u8], step: Duration, bake: Duration) -> Result<Vec<Stage>, InvalidShares> {
    let mut stages: Vec<Stage> = Vec::with_capacity(shares.len() + 1);
    for &share in shares {
        if !(1..=WHOLE).contains(&share) {
            return Err(InvalidShares::Range(share));
        }
        if let Some(before) = stages.last().filter(|before| before.share >= share) {
            return Err(InvalidShares::Order(before.share, share));
        }
        stages.push(Stage { share, time: step });
    }
    stages.retain(|stage| stage.share < WHOLE);
    stages.push(Stage { share: WHOLE, time: bake });
    Ok(stages)
}

/// How many errors are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Errors of a hundred requests that are still good.
    pub percent: u32,
    /// Requests that are counted at least.
    pub min_requests: u64,
}

impl Tolerance {
    /// Whether these are too many.
    pub fn is_exceeded(&self, counts: Counts) -> bool {
        let requests = counts.requests.max(self.min_requests).max(1);
        u128::from(counts.errors) * 100 > u128::from(requests) * u128::from(self.percent)
    }
}

/// Requests, and how many of them went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub requests: u64,
    /// Those that went wrong.
    pub errors: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self { requests: self.requests.saturating_add(more.requests), errors: self.errors.saturating_add(more.errors) }
    }

    /// What came since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
        }
    }
}

/// What is known about whether the servers of the new slot are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Nothing: the app does not answer that.
    Untold,
    /// They are asked, all of them at a time.
    Told {
        /// How many times in a row the worst of them has failed.
        failed: u32,
        /// When the last round began that all of them have passed.
        passed: Option<Duration>,
    },
}

/// Why a switch goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regress {
    /// So many errors.
    Errors(Counts),
    /// A server is not ready any more.
    Unready,
    /// Fewer requests than were required, in all its time.
    Unseen {
        /// So many.
        requests: u64,
        /// As were required at least.
        required: u64,
    },
}

/// What a look at the new slot leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on as it is.
    Stay,
    /// The next stage begins, with this share.
    Share(u8),
    /// Everything goes back to the old slot.
    Return(Regress),
    /// The new slot has everything, and has stood the time.
    Done,
}

/// A switch whose checks have passed.
#[derive(Clone, Debug)]
pub struct Switch {
    stages: Vec<Stage>,
    tolerance: Tolerance,
    /// Requests without which it is not done.
    required: u64,
    at: usize,
    /// When the stage began.
    since: Duration,
    /// What was counted at the beginning.
    begun: Counts,
    /// What another process had seen of it before.
    earlier: Counts,
    /// When the window began, and what was counted then.
    window: (Duration, Counts),
}

impl Switch {
    /// One that begins with the stage `at`, or with the last: not with the first where it goes on after a restart. `counts`: of the new slot, as they
    /// are now.
    pub fn begin(stages: Vec<Stage>, at: usize, tolerance: Tolerance, counts: Counts, now: Duration) -> Self {
        let at = at.min(stages.len().saturating_sub(1));
        let (begun, earlier) = (counts, Counts::default());
        Self { stages, tolerance, required: 0, at, since: now, begun, earlier, window: (now, counts) }
    }

    /// It goes on after another process, which had seen this.
    #[must_use]
    pub fn having_seen(self, earlier: Counts) -> Self {
        Self { earlier, ..self }
    }

    /// It is done only if the new slot was sent so many requests: without any, nothing but its probes speaks for it.
    #[must_use]
    pub fn requiring(self, required: u64) -> Self {
        Self { required, ..self }
    }

    /// The share of the clients that the new slot gets.
    pub fn share(&self) -> u8 {
        self.stages.get(self.at).map_or(WHOLE, |stage| stage.share)
    }

    /// Which stage it is at.
    pub fn stage(&self) -> usize {
        self.at
    }

    /// How long the stage still takes.
    pub fn left(&self, now: Duration) -> Duration {
        let time = self.stages.get(self.at).map_or(Duration::ZERO, |stage| stage.time);
        time.saturating_sub(now.saturating_sub(self.since))
    }

    /// What was counted of the new slot since the beginning, whichever process it was.
    pub fn seen(&self, counts: Counts) -> Counts {
        counts.since(self.begun).and(self.earlier)
    }

    /// Whether a stage may end: all servers have passed a round that began in it. Whoever failed has to pass one first, and so has whoever has not answered
    /// yet: a stage shorter than a probe's timeout would otherwise be over before anybody was heard.
    fn is_passed(&self, ready: Ready) -> bool {
        match ready {
            Ready::Untold => true,
            Ready::Told { failed, passed } => failed == 0 && passed.is_some_and(|passed| passed >= self.since),
        }
    }

    /// What comes next. `counts`: of the new slot; `ready`: its servers.
    pub fn look(&mut self, counts: Counts, ready: Ready, now: Duration) -> Next {
        for seen in [self.seen(counts), counts.since(self.window.1)] {
            if self.tolerance.is_exceeded(seen) {
                return Next::Return(Regress::Errors(seen));
            }
        }
        if matches!(ready, Ready::Told { failed, .. } if failed >= UNREADY) {
            return Next::Return(Regress::Unready);
        }
        if now.saturating_sub(self.window.0) >= WINDOW {
            self.window = (now, counts);
        }
        if !self.left(now).is_zero() || !self.is_passed(ready) {
            return Next::Stay;
        }
        if self.at + 1 >= self.stages.len() {
            let (requests, required) = (self.seen(counts).requests, self.required);
            let enough = requests >= required;
            return if enough { Next::Done } else { Next::Return(Regress::Unseen { requests, required }) };
        }
        self.at += 1;
        self.since = now;
        Next::Share(self.share())
    }
}

/// Whether a client belongs to the new slot while that has this share: who does, does with every larger share. `key` stands for the client, `slot` for the
/// new slot, so that it is not always the same clients who come first.
pub fn moves(key: u64, slot: u64, share: u8) -> bool {
    crate::balance::mix(key ^ slot) % u64::from(WHOLE) < u64::from(share)
}

//! When a server that fails is left out, for how long, and how it comes back.
//!
//! nginx's words and meanings: [`Terms::max_fails`] failures within [`Terms::fail_timeout`] leave a server out for as long. Beyond nginx: a server
//! that fails again when it is tried is left out twice as long, up to [`MOST`] times, and one that is back may be given its share slowly.
//!
//! A request enters a server by an [`Entry`], which says what its outcome can mean: what was sent before a server was left out says nothing about it
//! afterwards, in neither direction. A server whose time is over is tried with one request at a time, until that is answered, failed or left.
//!
//! Invariant: no clock. Moments are durations since an origin that the caller fixes.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// How many times its first span a server is left out at the most.
pub const MOST: u32 = 8;

/// What weights are counted in, so that a part of the smallest weight is a number, too.
pub const WEIGHT: u32 = 256;

/// When a server is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// So many failures; 0: never.
    pub max_fails: u32,
    /// Within this time, and for this time.
    pub fail_timeout: Duration,
}

/// nginx's.
impl Default for Terms {
    fn default() -> Self {
        Self { max_fails: 1, fail_timeout: Duration::from_secs(10) }
    }
}

/// What the outcome of one request can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The server was like any other. The number tells requests that were sent before it was left out or back from those after.
    Ordinary(u16),
    /// The server is left out, and asked because there is no other: an answer brings it back, a failure is nothing new.
    Meanwhile(u16),
    /// The server is tried.
    Trial {
        /// As in [`Entry::Ordinary`].
        round: u16,
        /// Which trial.
        ticket: u32,
    },
    /// The request that brought the server back, and is not over: when it fails after all, nothing was gained.
    Back {
        /// As in [`Entry::Ordinary`].
        round: u16,
        /// How often in a row the server had been left out.
        row: u32,
    },
}

impl Entry {
    fn round(self) -> u16 {
        match self {
            Self::Ordinary(round) | Self::Meanwhile(round) | Self::Trial { round, .. } | Self::Back { round, .. } => {
                round
            }
        }
    }
}

/// How a server stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// It gets its share.
    #[default]
    In,
    /// It is left out, up to this moment.
    Out(Duration),
    /// It is left out, and a request tries it. Whoever comes behind this moment tries it anew.
    Tried(Duration),
}

/// What requests have shown about one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When the first of the failures that count was.
    since: Duration,
    /// How many count.
    fails: u32,
    /// How often in a row it was left out.
    row: u32,
    standing: Standing,
    /// Grows when it is left out, and when it is back.
    round: u16,
    /// Grows with each trial.
    ticket: u32,
}

/// What a failure changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// The server is left out from now on.
    Leaves,
    /// It was left out, and is for longer.
    Stays,
    /// It is not left out any more: nothing leaves it out under these terms.
    Returns,
}

impl Record {
    /// A request is to be sent to the server. `eligible`: because the server seemed to be like any other, or ready for a trial. `lease`: how long a
    /// trial may take before there is another. `None`: the server is left out, and the request can go elsewhere.
    pub fn enter(&mut self, eligible: bool, lease: Duration, now: Duration) -> Option<Entry> {
        match self.standing {
            Standing::In => Some(Entry::Ordinary(self.round)),
            Standing::Out(until) | Standing::Tried(until) if now >= until => {
                self.ticket = self.ticket.wrapping_add(1);
                self.standing = Standing::Tried(now + lease);
                Some(Entry::Trial { round: self.round, ticket: self.ticket })
            }
            Standing::Out(_) | Standing::Tried(_) => (!eligible).then_some(Entry::Meanwhile(self.round)),
        }
    }

    /// The request failed. `spare`: there is another server that is not left out and may be asked; the last one never leaves.
    pub fn failed(&mut self, entry: Entry, terms: &Terms, spare: bool, now: Duration) -> Change {
        if entry.round() != self.round {
            return Change::Nothing;
        }
        match (self.standing, entry) {
            (Standing::In, Entry::Back { row, .. }) if spare && terms.max_fails > 0 => {
                self.row = row;
                self.leave(terms, now);
                Change::Leaves
            }
            (Standing::In, _) => {
                if self.fails == 0 || now.saturating_sub(self.since) >= terms.fail_timeout {
                    (self.since, self.fails) = (now, 0);
                }
                self.fails = self.fails.saturating_add(1);
                if terms.max_fails == 0 || self.fails < terms.max_fails {
                    return Change::Nothing;
                }
                if !spare {
                    self.fails = 0;
                    return Change::Nothing;
                }
                self.leave(terms, now);
                Change::Leaves
            }
            (Standing::Tried(_), Entry::Trial { ticket, .. }) if ticket == self.ticket => {
                if terms.max_fails == 0 {
                    self.come_back();
                    return Change::Returns;
                }
                let round = self.round;
                self.leave(terms, now);
                // The same absence goes on.
                self.round = round;
                Change::Stays
            }
            _ => Change::Nothing,
        }
    }

    /// The request was answered. What a failure of it would mean from now on; [`Entry::Back`]: the server is back.
    pub fn succeeded(&mut self, entry: Entry) -> Entry {
        match (self.standing, entry) {
            (Standing::Out(_) | Standing::Tried(_), Entry::Meanwhile(round) | Entry::Trial { round, .. })
                if round == self.round =>
            {
                let row = self.row;
                self.come_back();
                Entry::Back { round: self.round, row }
            }
            (_, Entry::Back { .. }) => entry,
            _ => Entry::Ordinary(entry.round()),
        }
    }

    /// The request is over, and nobody found out: the next one may.
    pub fn left(&mut self, entry: Entry, now: Duration) {
        if let (Standing::Tried(_), Entry::Trial { ticket, .. }) = (self.standing, entry)
            && ticket == self.ticket
        {
            self.standing = Standing::Out(now);
        }
    }

    /// Up to when it is left out; behind that, it is tried. `None`: it is not.
    pub fn until(&self) -> Option<Duration> {
        match self.standing {
            Standing::In => None,
            Standing::Out(until) | Standing::Tried(until) => Some(until),
        }
    }

    /// See [`Entry::Ordinary`].
    pub fn round(&self) -> u16 {
        self.round
    }

    fn leave(&mut self, terms: &Terms, now: Duration) {
        let times = 1_u32.checked_shl(self.row).unwrap_or(MOST).min(MOST);
        self.row = self.row.saturating_add(1);
        self.fails = 0;
        self.round = self.round.wrapping_add(1);
        self.standing = Standing::Out(now + terms.fail_timeout * times);
    }

    fn come_back(&mut self) {
        (self.fails, self.row) = (0, 0);
        self.round = self.round.wrapping_add(1);
        self.standing = Standing::In;
    }
}

/// What a server of this weight weighs, in [`WEIGHT`]ths, when it came back at `since`: a share that grows evenly over `slow_start`, never nothing.
pub fn ramp(weight: u32, since: Option<Duration>, slow_start: Duration, now: Duration) -> u32 {
    let full = weight.saturating_mul(WEIGHT);
    let Some(passed) = since.map(|since| now.saturating_sub(since)).filter(|passed| *passed < slow_start) else {
        return full;
    };
    let share = u128::from(full) * passed.as_millis() / slow_start.as_millis().max(1);
    u32::try_from(share).unwrap_or(full).clamp(1, full.max(1))
}

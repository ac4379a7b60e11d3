//! What the limits of a request have left to be done: what it has to wait for before it may go on, and what its answer decides.
//!
//! The limits of a process answer at once, in [`super::Limiter::admit`], which neither waits nor allocates for what passes and for what is refused. Where
//! one of them wants the request to wait, the judgement carries a [`Pending`], in a box because that is rare, and `request::wait` waits for what it
//! lists, in one place, while the client is watched. What may come to be waited for is a variant of [`Wait`]; what such a wait needs lies in the variant.
//!
//! Invariants:
//! * A request that is refused while it waits has used up nothing: [`Pending::charged`] says what was charged, and
//!   [`super::Limiter::give_back`] takes it back.
//! * A pending thing that is dropped waits for nothing any more: a client that leaves leaves nothing behind but what it was charged.

use std::time::Duration;

use probegate_policies::limit::Key;

use super::held::Held;
use super::in_flight::Holding;

/// What is left to be done.
#[derive(Debug, Default)]
pub struct Pending {
    /// One after the other, in this order. A delay is the last.
    pub waits: Vec<Wait>,
    /// Places under limits on requests in flight: those it has, and those it waits for.
    pub places: Holding,
    /// What was charged for the request.
    pub charged: Vec<Charge>,
    /// Limits that count it if its answer says so.
    pub held: Vec<Held>,
    /// Limits that would have refused it, if they did more than count: indices into the plan's.
    pub shadows: Vec<usize>,
    /// How long it was delayed in the end; `None`: not at all. Known when the waits are over.
    pub delayed: Option<Duration>,
}

/// One thing that is waited for.
#[derive(Debug)]
pub enum Wait {
    /// What the store says about the limits that gateways share. Before everything else.
    Store(Asked),
    /// The time at which the rate would have let it through: the longest that any of its limits wants.
    Delay {
        /// Index of the limit in the plan.
        limit: usize,
        /// Counted from the moment the request was judged at.
        time: Duration,
    },
}

impl Pending {
    /// Whether a rate has it wait.
    pub fn delays(&self) -> bool {
        self.waits.iter().any(|wait| matches!(wait, Wait::Delay { .. }))
    }

    /// Whether there is something to wait for.
    pub fn waits(&self) -> bool {
        !self.waits.is_empty() || self.places.waits()
    }
}

/// What the store is asked about a request: all of its shared limits.
#[derive(Debug, Default)]
pub struct Asked {
    /// The limits.
    pub limits: Vec<Question>,
    /// Their keys in the store.
    pub keys: Vec<Vec<u8>>,
    /// Those of each: see [`crate::store::redis::SCRIPT`].
    pub arguments: Vec<u64>,
    /// What keys are called by those limits that tell.
    pub labels: Vec<(usize, Box<str>)>,
    /// The worker that asks.
    pub worker: usize,
}

/// One limit that the store is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Index of the limit in the plan.
    pub limit: usize,
    /// The key in the gateway's own tables.
    pub key: Key,
    /// Requests of the key that are under way here, this one included, where answers decide which of them count; `None`: it counts now.
    pub under_way: Option<u64>,
    /// It only counts this request.
    pub spared: bool,
}

/// One request that was charged to a key.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    /// Index of the limit in the plan.
    pub limit: usize,
    /// Whom it was charged to.
    pub key: Key,
    /// What the charge left behind; `None`: it was a moment ago.
    pub left: Option<u64>,
}

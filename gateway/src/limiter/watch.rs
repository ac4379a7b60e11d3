//! What people see of limits: how many requests they have judged, who is over one, and who is near it.
//!
//! Invariants:
//! * Each worker counts for itself. A request that passes with room to spare costs one addition to a cache line of its worker's; only one that is refused, or near it, is
//!   written into a list, under a lock that nobody waits for: while somebody reads the list, the request is left out of it.
//! * The lists are of fixed size. What they call a key is a hash, unless the limit says `show_keys`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use probegate_policies::limit::hot::{Hot, Recent, covered};
use probegate_policies::limit::{Decision, Key, Quota};

use crate::plan::{Limit, Plan};

/// Keys in a list, and in the sum of lists.
pub const KEYS: usize = 64;

/// What a key is called, where the limit allows it.
pub type Label = Option<Box<str>>;

/// A worker that asks limits, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Its number.
    pub worker: usize,
    /// Nanoseconds of the gateway's clock.
    pub now: u64,
}

/// What is known about one limit.
#[derive(Debug)]
pub struct Watch {
    /// One for each worker; they outlive plans.
    shards: Arc<[Shard]>,
    /// Since when the limit is what it is now, in seconds since the epoch.
    since: u64,
    /// What was counted until then.
    before: Counts,
}

/// Aligned, so that no two workers write to one cache line (two lines are fetched at once on some machines).
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    judged: AtomicU64,
    near: AtomicU64,
    over: AtomicU64,
    recent: Mutex<Recent<Label>>,
}

/// Requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That the limit was asked about.
    pub judged: u64,
    /// That it let in with less than a tenth left of what may come at once, or had wait for a place.
    pub near: u64,
    /// That it refused, or would have in shadow mode.
    pub over: u64,
}

/// What people are told.
#[derive(Debug)]
pub struct Seen {
    /// Since when, in seconds since the epoch.
    pub since: u64,
    /// What was counted since then.
    pub counts: Counts,
    /// How much time the list covers, in nanoseconds.
    pub covered: u64,
    /// The keys that were near and over most often.
    pub hot: Hot<Label>,
}

/// For the limits of a plan, in its order, and for as many `workers` as run, whatever the plan says. One that an earlier plan had under this name goes on
/// counting.
pub(super) fn watches(plan: &Plan, workers: usize, earlier: Option<(&Plan, &[Watch])>) -> Vec<Watch> {
    let of = |limit: &Limit| {
        let earlier = earlier.and_then(|(plan, watches)| {
            let index = plan.limits.iter().position(|other| other.name == limit.name)?;
            Some((plan.limits.get(index)?, watches.get(index)?))
        });
        let Some((other, earlier)) = earlier else { return Watch::new(workers) };
        let shards = Arc::clone(&earlier.shards);
        let is_same = limit.quota == other.quota
            && limit.key == other.key
            && (limit.shadow, limit.enforced) == (other.shadow, other.enforced)
            && limit.methods == other.methods
            && limit.show_keys == other.show_keys;
        if is_same {
            return Watch { shards, since: earlier.since, before: earlier.before };
        }
        for shard in &*shards {
            shard.recent().clear();
        }
        let before = total(&shards);
        Watch { shards, since: unix_time(), before }
    };
    plan.limits.iter().map(of).collect()
}

impl Watch {
    fn new(workers: usize) -> Self {
        Self {
            shards: (0..workers.max(1)).map(|_| Shard::default()).collect(),
            since: unix_time(),
            before: Counts::default(),
        }
    }

    /// The limit was asked by this worker, and says this.
    #[inline]
    pub(super) fn judged(
        &self,
        worker: usize,
        (key, quota): (Key, &Quota),
        decision: &Decision,
        now: u64,
        label: impl FnOnce() -> Label,
    ) {
        self.asked(worker);
        if !decision.admitted {
            self.met(worker, key, true, now, label);
        } else if quota.is_near(decision.remaining) {
            self.met(worker, key, false, now, label);
        }
    }

    /// The limit was asked by this worker.
    #[inline]
    pub(super) fn asked(&self, worker: usize) {
        if let Some(shard) = self.shards.get(worker) {
            add(&shard.judged);
        }
    }

    /// A request is over the limit, or near it.
    #[cold]
    pub(super) fn met(&self, worker: usize, key: Key, over: bool, now: u64, label: impl FnOnce() -> Label) {
        let Some(shard) = self.shards.get(worker) else { return };
        add(if over { &shard.over } else { &shard.near });
        // Held only by somebody who reads.
        if let Ok(mut recent) = shard.recent.try_lock() {
            recent.add(key, over, now, label);
        }
    }

    /// What was counted, over all plans.
    pub fn counts(&self) -> Counts {
        total(&self.shards)
    }

    /// What people are told at this moment.
    pub fn seen(&self, now: u64) -> Seen {
        // Copied one by one, so that no worker's is held for long.
        let lists: Vec<Hot<Label>> =
            self.shards.iter().flat_map(|shard| shard.recent().at(now).map(Hot::clone)).collect();
        let Counts { judged, near, over } = self.counts();
        let counts = Counts {
            judged: judged.saturating_sub(self.before.judged),
            near: near.saturating_sub(self.before.near),
            over: over.saturating_sub(self.before.over),
        };
        Seen { since: self.since, counts, covered: covered(now), hot: Hot::sum(KEYS, lists.iter()) }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            judged: AtomicU64::new(0),
            near: AtomicU64::new(0),
            over: AtomicU64::new(0),
            recent: Mutex::new(Recent::new(KEYS)),
        }
    }
}

impl Shard {
    fn recent(&self) -> MutexGuard<'_, Recent<Label>> {
        // A panic leaves a list behind that is short of a key at the worst.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only its worker writes to it.
#[inline]
fn add(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Seconds since the epoch: plans are made rarely.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn total(shards: &[Shard]) -> Counts {
    shards.iter().fold(Counts::default(), |sum, shard| Counts {
        judged: sum.judged.wrapping_add(shard.judged.load(Ordering::Relaxed)),
        near: sum.near.wrapping_add(shard.near.load(Ordering::Relaxed)),
        over: sum.over.wrapping_add(shard.over.load(Ordering::Relaxed)),
    })
}

//! Slots of services while the gateway runs: which one gets a request, and what is counted of each.
//!
//! What a request has to know lies in one word ([`Split`]): the slot that gets the requests, the one that a switch moves them to, and the share that this
//! has. It is replaced as a whole, so that every request sees one state of it, the old or the new one. [`crate::switching`] writes it.
//!
//! Invariant: a service without slots touches nothing here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use probegate_policies::balance;
use probegate_policies::switch::{self, Counts, WHOLE};

use crate::plan::{Plan, Slots as Planned, Upstream};

/// No slot: the service has none, or there is no other one.
const NONE: u8 = u8::MAX;

/// More than slots ever take turns under one plan.
const PLAN: u64 = 1 << 32;

/// Where one request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The slot.
    slot: u8,
    /// The slot that it may be sent to when that one fails it.
    old: u8,
    /// It may be sent there also when it was answered with an error, or not in time: it does no harm twice.
    safe: bool,
}

impl Chosen {
    /// The service has no slots.
    pub const NONE: Self = Self { slot: NONE, old: NONE, safe: false };

    /// The slot.
    pub fn slot(self) -> Option<u8> {
        (self.slot != NONE).then_some(self.slot)
    }

    /// Servers that are not asked, as bits.
    #[inline]
    pub fn others(self, upstream: &Upstream) -> u128 {
        if self.slot == NONE { 0 } else { not_of(upstream, self.slot) }
    }

    /// Whether there is another slot that it may be sent to after an error, or no answer in time.
    #[inline]
    pub fn may_fall_back(self) -> bool {
        self.safe && self.old != NONE
    }

    /// From now on, the other slot is the one: those servers that are not asked then. `None`: there is no other.
    pub fn fall_back(&mut self, upstream: &Upstream) -> Option<u128> {
        if self.old == NONE {
            return None;
        }
        self.slot = self.old;
        self.old = NONE;
        Some(not_of(upstream, self.slot))
    }

    /// Whether there is another slot for what was not sent.
    #[inline]
    pub fn has_other(self) -> bool {
        self.old != NONE
    }
}

fn not_of(upstream: &Upstream, slot: u8) -> u128 {
    upstream.slots.as_ref().map_or(0, |slots| !slots.servers(slot))
}

/// How the requests of a service are split between its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The slot that gets the requests, or got them before the switch that goes on.
    pub from: u8,
    /// The slot that they are moved to; the same where none goes on.
    pub to: u8,
    /// Its share in percent.
    pub percent: u8,
    /// What it fails may be sent to the one before.
    pub retry: bool,
}

impl Share {
    /// One slot gets everything.
    pub fn whole(slot: u8) -> Self {
        Self { from: slot, to: slot, percent: WHOLE, retry: false }
    }

    /// The slot that is asked for probes: the one that gets everything, else the one before.
    pub fn main(self) -> u8 {
        if self.percent >= WHOLE { self.to } else { self.from }
    }

    fn word(self) -> u64 {
        u64::from_le_bytes([self.from, self.to, self.percent, u8::from(self.retry), 0, 0, 0, 0])
    }

    fn of(word: u64) -> Self {
        let [from, to, percent, retry, ..] = word.to_le_bytes();
        Self { from, to, percent, retry: retry != 0 }
    }
}

/// The split of a service in a plan, and its counters.
#[derive(Debug)]
pub struct Split {
    word: AtomicU64,
    /// What stands for each slot where clients are told apart.
    salts: Box<[u64]>,
    counted: Box<[Arc<Counted>]>,
    /// How often the slot that is asked for probes changed: whoever had started may not have.
    turns: Arc<AtomicU64>,
    /// What that begins with: another number for each plan that has another slot there than the plan before.
    base: u64,
}

/// What is counted of a slot. Aligned, so that no two lie in one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counted {
    requests: AtomicU64,
    errors: AtomicU64,
}

impl Counted {
    /// As it is now.
    pub fn get(&self) -> Counts {
        // Errors first: an error must not count before its request.
        let errors = self.errors.load(Ordering::Acquire);
        Counts { requests: self.requests.load(Ordering::Acquire), errors }
    }
}

impl Split {
    /// As it is now. One load.
    #[inline]
    pub fn get(&self) -> Share {
        Share::of(self.word.load(Ordering::Acquire))
    }

    /// From the next request on.
    pub fn set(&self, to: Share) {
        let before = Share::of(self.word.swap(to.word(), Ordering::AcqRel));
        if before.main() != to.main() {
            self.turns.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How often the slot that is asked for probes changed.
    pub fn turns(&self) -> u64 {
        self.base.wrapping_add(self.turns.load(Ordering::Acquire))
    }

    /// Where a request goes. `key`: what stands for its client, asked for only while two slots get requests; who has none stays in the old one. `safe`:
    /// it does no harm twice.
    #[inline]
    pub fn choose(&self, safe: bool, key: impl FnOnce() -> Option<u64>) -> Chosen {
        let share = self.get();
        if share.from == share.to {
            return Chosen { slot: share.to, old: NONE, safe };
        }
        let salt = || self.salts.get(usize::from(share.to)).copied().unwrap_or_default();
        let moves = share.percent >= WHOLE || key().is_some_and(|key| switch::moves(key, salt(), share.percent));
        if !moves {
            return Chosen { slot: share.from, old: NONE, safe };
        }
        Chosen { slot: share.to, old: if share.retry { share.from } else { NONE }, safe }
    }

    /// Where a probe of the service goes.
    pub fn main(&self) -> Chosen {
        Chosen { slot: self.get().main(), old: NONE, safe: false }
    }

    /// What is counted of a slot.
    pub fn counts(&self, slot: u8) -> Counts {
        self.counted.get(usize::from(slot)).map(|counted| counted.get()).unwrap_or_default()
    }

    /// A server of this slot was sent a request; `error`: and did not do its part.
    #[inline]
    pub fn count(&self, slot: u8, error: bool) {
        if let Some(counted) = self.counted.get(usize::from(slot)) {
            counted.requests.fetch_add(1, Ordering::AcqRel);
            if error {
                counted.errors.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// An answer that was counted as good broke off.
    pub fn count_broken(&self, slot: u8) {
        if let Some(counted) = self.counted.get(usize::from(slot)) {
            counted.errors.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// What is kept over plans.
#[derive(Debug, Default)]
pub struct Slots(Mutex<BTreeMap<Box<str>, Kept>>);

#[derive(Debug, Default)]
struct Kept {
    counted: BTreeMap<Box<str>, Arc<Counted>>,
    turns: Arc<AtomicU64>,
    /// The split of the plan before, and the names of its slots.
    last: Option<(Arc<Split>, Vec<Box<str>>)>,
    /// How often a switch ended so.
    ended: BTreeMap<&'static str, u64>,
}

impl Slots {
    /// The splits of a plan's services, in its order, each as `share` says.
    pub fn attach(&self, plan: &Plan, share: impl Fn(&str, &Planned) -> Share) -> Vec<Option<Arc<Split>>> {
        let mut kept = self.kept();
        let split = |service: &str, slots: &Planned| {
            let kept = kept.entry(service.into()).or_default();
            let counted = slots.each.iter().map(|slot| Arc::clone(kept.counted.entry(slot.name.clone()).or_default()));
            let share = share(service, slots);
            let names: Vec<_> = slots.each.iter().map(|slot| slot.name.clone()).collect();
            let base = kept.last.as_ref().map_or(0, |(last, known)| {
                // Also a reload may give everything to another slot.
                let same = known.get(usize::from(last.get().main())) == names.get(usize::from(share.main()));
                if same { last.base } else { last.base.wrapping_add(PLAN) }
            });
            let split = Arc::new(Split {
                word: AtomicU64::new(share.word()),
                counted: counted.collect(),
                salts: slots.each.iter().map(|slot| balance::hash(slot.name.as_bytes())).collect(),
                turns: Arc::clone(&kept.turns),
                base,
            });
            kept.last = Some((Arc::clone(&split), names));
            split
        };
        let mut split = split;
        plan.services
            .iter()
            .map(|service| service.upstream.slots.as_ref().map(|slots| split(&service.name, slots)))
            .collect()
    }

    /// A switch of a service ended.
    pub fn count_end(&self, service: &str, outcome: &'static str) {
        *self.kept().entry(service.into()).or_default().ended.entry(outcome).or_default() += 1;
    }

    /// How often a switch of a service ended so.
    pub fn ends(&self, service: &str, outcome: &str) -> u64 {
        self.kept().get(service).and_then(|kept| kept.ended.get(outcome).copied()).unwrap_or_default()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_word() {
        for share in [
            Share::whole(3),
            Share { from: 0, to: 1, percent: 5, retry: true },
            Share { from: 15, to: 2, percent: 100, retry: false },
        ] {
            assert_eq!(Share::of(share.word()), share);
        }
        assert_eq!(Share { from: 0, to: 1, percent: 99, retry: true }.main(), 0);
        assert_eq!(Share { from: 0, to: 1, percent: 100, retry: true }.main(), 1);
    }
}

//! Limits that several gateways share: what the store is asked for a request, and the ladder down which the request goes when there is no answer.
//!
//! 1. Whoever the store has refused, or has let in as the last one, is remembered until it may pass, and refused without asking (`Shared::refusal`).
//! 2. The store is asked, once for all shared limits of the request ([`super::pending::Asked`]).
//! 3. Without an answer in time, or while the breaker is open, the plan says what happens: the gateway counts alone with its share of the limit (`local`), lets
//!    the request pass (`open`), or refuses it (`closed`).
//!
//! What the store admits is charged to the gateway's own table as well, with its share: when the store goes, clients do not begin anew.
//!
//! Where answers decide whether requests count, the store is asked whether there is room for those under way here, and told later ([`super::late`]).
//!
//! All keys of one request lie in one slot of a cluster, because one script can only reach one. Limits that a request may meet together form a set; where all of a
//! set count by the same key, the slot is that of the key's hash, and the set is spread over the cluster. Where they do not (one counts by client, another by
//! tenant), the whole set lies in one slot, named after the first of its limits.
//!
//! Invariant: a request that one shared limit refuses is charged by none, neither in the store nor here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use probegate_policies::fields::Fields;
use probegate_policies::limit::shared::{Answer, Charge};
use probegate_policies::limit::{Algorithm, Decision, Key, Quota, Seed, SharedKey, Table};
use probegate_policies::now::Now;
use probegate_policies::reason::Reason;

use super::key::feed;
use super::pending::{Asked, Question};
use super::{Asking, Limited, Limiter, shown};
use crate::plan::{Limit, LimitStore, OnFailure, Plan};
use crate::store::Store;
use crate::store::client::Failure;
use crate::store::link::Link;
use crate::store::stats::By;

/// Those who are over a limit at the same time, for each limit. Beyond it, those who may pass soonest are asked for again.
const REMEMBERED: usize = 1 << 16;

/// What there is to know about the shared limits of a plan; each list in the order of [`Plan::limits`].
#[derive(Debug, Default)]
pub(super) struct Shared {
    limits: Vec<Option<Sharing>>,
    /// Requests that were refused without asking, over reloads.
    unasked: Arc<AtomicU64>,
}

/// What there is to know about one.
#[derive(Debug)]
struct Sharing {
    /// What this gateway may let pass alone.
    share: Quota,
    /// What it is called in the store.
    title: Box<str>,
    /// Until when the store refuses whom, as far as it has said so.
    over: Arc<Table>,
    /// Nanoseconds from the last question to its answer.
    way: AtomicU64,
    /// The slot in a cluster; `None`: that of each key.
    slot: Option<Box<str>>,
}

/// What became of a request on shared limits.
#[derive(Debug)]
pub struct Settled {
    /// The limit that the client is told of: see [`Limited`].
    pub limited: Option<Limited>,
    /// The limit that wants the longest delay, and how many nanoseconds that is; 0: none does.
    pub delay: (usize, u64),
    /// Why the request is refused.
    pub refused: Option<Reason>,
    /// Limits in shadow mode that would have refused it.
    pub shadows: Vec<usize>,
}

impl Sharing {
    /// Remembers that the store refuses a key for so long. `heard`: when it has said so, so that whoever comes back when told does not come too early for it.
    fn remember(&self, local: Key, retry_after: u64, now: Now, heard: u64) {
        self.way.store(heard.saturating_sub(now.nanos), Ordering::Relaxed);
        if retry_after > 0 {
            self.over.remember(local, heard.saturating_add(retry_after), heard);
        }
    }
}

impl Shared {
    /// For `plan`. Who is remembered under a limit of the same name that counts the same things stays remembered.
    pub(super) fn new(plan: &Plan, earlier: Option<(&Plan, &Self)>, seed: &Seed) -> Self {
        let unasked = earlier.map(|(_, shared)| Arc::clone(&shared.unasked)).unwrap_or_default();
        let Some(store) = &plan.limit_store else { return Self { limits: Vec::new(), unasked } };
        let limits = plan.limits.iter().enumerate().map(|(index, limit)| {
            limit.shared.then(|| Sharing {
                share: limit.quota.share(store.replicas),
                title: title(limit),
                over: kept(limit, earlier).unwrap_or_else(|| {
                    Arc::new(Table::new(limit.max_keys.min(REMEMBERED), *seed).pausing(std::thread::yield_now))
                }),
                way: AtomicU64::new(0),
                slot: slot(plan, index),
            })
        });
        Self { limits: limits.collect(), unasked }
    }

    fn of(&self, limit: usize) -> Option<&Sharing> {
        self.limits.get(limit)?.as_ref()
    }

    /// What a limit says to whom the store refuses and who may not pass yet. `local` is the key in the gateway's own tables.
    #[inline]
    pub(super) fn refusal(&self, index: usize, quota: &Quota, local: Key, now: Now) -> Option<Decision> {
        // What answers take on their way is not the client's time: the store, by whose clock it may pass by then, is asked. But a store that is slow is not asked
        // for all of a flood.
        let way = self.of(index)?.way.load(Ordering::Relaxed).min(quota.interval() / 2);
        let refusal = self.standing(index, quota, local, now).filter(|refusal| refusal.retry_after > way)?;
        self.unasked.fetch_add(1, Ordering::Relaxed);
        Some(refusal)
    }

    /// The same about a request that is refused anyway.
    #[inline]
    pub(super) fn standing(&self, index: usize, quota: &Quota, local: Key, now: Now) -> Option<Decision> {
        let until = self.of(index)?.over.remembered(local);
        let retry_after = until.checked_sub(now.nanos).filter(|left| *left > 0)?;
        let reset = match quota.algorithm() {
            // The debt of whom the store refuses for so long.
            Algorithm::Gcra => (retry_after + quota.window()).saturating_sub(quota.interval()),
            Algorithm::FixedWindow => retry_after,
        };
        Some(Decision { admitted: false, remaining: 0, reset, retry_after, delay: 0 })
    }

    /// What this gateway may let pass alone, where a limit is shared.
    pub(super) fn share(&self, limit: usize) -> Option<&Quota> {
        self.of(limit).map(|sharing| &sharing.share)
    }

    /// What the store is asked for one limit of a request. `under_way`: as in [`Question`]. Gives the key in the store, where it will be needed once more.
    pub(super) fn ask<F: Fields + ?Sized>(
        &self,
        plan: &Plan,
        (index, local): (usize, Key),
        under_way: Option<u64>,
        asking: &Asking<'_, F>,
        asked: &mut Asked,
    ) -> Option<Vec<u8>> {
        let (sharing, limit, store) = (self.of(index)?, plan.limits.get(index)?, plan.limit_store.as_ref()?);
        let key = shared_key(store, limit, asking);
        let spared = limit.spares(|| key.hundredth());
        asked.limits.push(Question { limit: index, key: local, under_way, spared });
        let name = name(&store.prefix, sharing.slot.as_deref(), &sharing.title, key);
        let again = under_way.map(|_| name.clone());
        asked.keys.push(name);
        let charge = match under_way {
            Some(under_way) => Charge::look(&limit.quota, !spared, under_way, store.replicas),
            None => Charge::of(&limit.quota, !spared),
        };
        asked.arguments.extend(charge.in_windows_of(local).words());
        asked.labels.extend(shown::label(limit, asking).map(|label| (index, label)));
        again
    }
}

/// The memory that an earlier plan had for this limit.
fn kept(limit: &Limit, earlier: Option<(&Plan, &Shared)>) -> Option<Arc<Table>> {
    let (plan, shared) = earlier?;
    let same = |other: &Limit| {
        let alike = (other.shadow, other.enforced) == (limit.shadow, limit.enforced);
        alike && title(other) == title(limit) && other.key == limit.key && other.quota == limit.quota
    };
    let index = plan.limits.iter().position(same)?;
    shared.of(index).map(|sharing| Arc::clone(&sharing.over))
}

/// The slot of the set that a limit belongs to; `None`: all of the set count by the same key.
fn slot(plan: &Plan, index: usize) -> Option<Box<str>> {
    let is_shared = |limit: &&usize| plan.limits.get(**limit).is_some_and(|limit| limit.shared);
    let mut set = vec![index];
    // What a request may meet together: grows until nothing is met any more that is not in it.
    loop {
        let before = set.len();
        for service in &plan.services {
            let own = [&[][..]];
            let routes = service.routes.iter().map(|route| route.limits.as_slice()).chain(own);
            for together in routes.map(|limits| service.limits.iter().chain(limits).filter(is_shared)) {
                if together.clone().any(|limit| set.contains(limit)) {
                    let more: Vec<usize> = together.copied().filter(|limit| !set.contains(limit)).collect();
                    set.extend(more);
                }
            }
        }
        set.sort_unstable();
        set.dedup();
        if set.len() == before {
            break;
        }
    }
    let limits: Vec<&Limit> = set.iter().filter_map(|index| plan.limits.get(*index)).collect();
    let first = limits.first()?;
    if limits.iter().all(|limit| limit.key == first.key) {
        return None;
    }
    limits.iter().map(|limit| &limit.name).min().cloned()
}

/// What a limit is called in the store: `per_client`. Definitions whose states mean different things differ in it, so that each has a bucket of its own: fixed
/// windows say how long they are (`per_client:w3600`), and where answers decide what is counted, it says so (`per_client:answers`).
fn title(limit: &Limit) -> Box<str> {
    let mut title = limit.name.to_string();
    let Charge { period, .. } = Charge::of(&limit.quota, true);
    if period > 0 {
        title.push_str(&format!(":w{period}"));
    }
    if limit.count.is_some() {
        title.push_str(":answers");
    }
    title.into()
}

/// The key in the store: `probegate:{slot}:per_client:0123…`. What stands in braces decides about the slot.
fn name(prefix: &str, slot: Option<&str>, title: &str, key: SharedKey) -> Vec<u8> {
    let key = format!("{:032x}", u128::from_be_bytes(key.0));
    match slot {
        Some(slot) => format!("{prefix}:{{{slot}}}:{title}:{key}"),
        None => format!("{prefix}:{{{key}}}:{title}"),
    }
    .into_bytes()
}

fn shared_key<F: Fields + ?Sized>(store: &LimitStore, limit: &Limit, asking: &Asking<'_, F>) -> SharedKey {
    store.secret.build_key(|key| feed(key, limit, asking))
}

impl Limiter {
    /// Requests that were refused because the store is known to refuse them.
    pub fn unasked(&self) -> u64 {
        self.shared.unasked.load(Ordering::Relaxed)
    }

    /// Asks the store, or does what is done without it. `now`: the moment `at`.
    pub async fn settle(
        &self,
        plan: &Plan,
        store: Option<&Arc<Store>>,
        link: Option<&Link>,
        asked: &Asked,
        (at, now): (Instant, Now),
    ) -> Settled {
        // A plan with shared limits has a store.
        let Some(store) = store else { return self.alone(plan, asked, now) };
        if store.is_asked()
            && let Some(link) = link
        {
            let began = Instant::now();
            match link.ask(&asked.keys, &asked.arguments).await.map(|words| Answer::read(&words, asked.keys.len())) {
                Ok(Some(answer)) if answer.fits(&asked.arguments) => {
                    store.stats.decided(By::Store);
                    let took = u64::try_from(at.elapsed().as_nanos()).unwrap_or(0);
                    return self.told(plan, asked, &answer, now, now.nanos.saturating_add(took));
                }
                Ok(_) => store.failed_with(Failure::Refused, "an answer of another script"),
                // The store has counted it.
                Err(_) => {}
            }
            tracing::debug!(after = ?began.elapsed(), "no answer of the limit store");
        }
        match store.plan().on_failure {
            OnFailure::Local => {
                store.stats.decided(By::Local);
                self.alone(plan, asked, now)
            }
            OnFailure::Open => {
                store.stats.decided(By::Open);
                Settled { limited: None, delay: (0, 0), refused: None, shadows: Vec::new() }
            }
            OnFailure::Closed => {
                store.stats.decided(By::Closed);
                Settled { limited: None, delay: (0, 0), refused: Some(Reason::LimitUnavailable), shadows: Vec::new() }
            }
        }
    }

    /// What follows from an answer of the store. `heard`: when it came.
    fn told(&self, plan: &Plan, asked: &Asked, answer: &Answer, now: Now, heard: u64) -> Settled {
        let mut settled = Settled { limited: None, delay: (0, 0), refused: None, shadows: Vec::new() };
        for (position, question) in asked.limits.iter().enumerate() {
            let Question { limit: index, key, under_way, spared } = question;
            let (Some(limit), Some(sharing)) = (plan.limits.get(*index), self.shared.of(*index)) else { continue };
            let judge = |quantity| answer.decision(position, &limit.quota, quantity);
            let Some(alone) = judge(1) else { continue };
            let decision = limit.beside(under_way.unwrap_or(1), |quantity| judge(quantity).unwrap_or(alone));
            self.watch_asked(asked, *index, (limit, *key), &decision, now);
            match answer.refused {
                // Not only the first: whoever comes back when that one lets him pass is refused by another.
                Some(refused) if refused == position || !spared && !decision.admitted => {
                    sharing.remember(*key, alone.retry_after, now, heard);
                    let this = Limited { limit: *index, decision };
                    let longest = settled.limited.map_or(this, |limited| limited.or_longer(*index, Some(decision)));
                    settled.limited = Some(longest);
                    settled.refused = Some(reason(plan, longest));
                }
                _ if *spared && !decision.admitted => settled.shadows.push(*index),
                Some(_) => {}
                None => {
                    if let Some(table) = self.tables.get(*index).filter(|_| under_way.is_none()) {
                        // Refused or not: it is full then, as it should be.
                        let _ = table.admit(*key, &sharing.share, now);
                    }
                    if !spared {
                        // The next one comes too early for it, whichever limit refuses it.
                        if under_way.is_none() && decision.remaining == 0 {
                            let next = answer.after(position, &limit.quota).map_or(0, |next| next.retry_after);
                            sharing.remember(*key, next, now, heard);
                        }
                        settled.add((*index, limit), decision);
                    }
                }
            }
        }
        settled
    }

    /// A limit of these was asked, and says this.
    fn watch_asked(&self, asked: &Asked, index: usize, (limit, key): (&Limit, Key), decision: &Decision, now: Now) {
        if let Some(watch) = self.watches.get(index) {
            let label = || asked.labels.iter().find(|(of, _)| *of == index).map(|(_, label)| label.clone());
            watch.judged(asked.worker, (key, &limit.quota), decision, now.nanos, label);
        }
    }

    /// Counts alone.
    fn alone(&self, plan: &Plan, asked: &Asked, now: Now) -> Settled {
        let mut settled = Settled { limited: None, delay: (0, 0), refused: None, shadows: Vec::new() };
        for (position, question) in asked.limits.iter().enumerate() {
            let Question { limit: index, key, under_way, spared } = question;
            let (Some(limit), Some(table), Some(sharing)) =
                (plan.limits.get(*index), self.tables.get(*index), self.shared.of(*index))
            else {
                continue;
            };
            let decision = match under_way {
                Some(under_way) => limit.beside(*under_way, |quantity| table.peek(*key, &sharing.share, now, quantity)),
                None => table.admit(*key, &sharing.share, now),
            };
            self.watch_asked(asked, *index, (limit, *key), &decision, now);
            if *spared {
                if !decision.admitted {
                    settled.shadows.push(*index);
                }
                continue;
            }
            if !decision.admitted {
                let charged = asked.limits.iter().take(position);
                let charged =
                    charged.filter(|earlier| earlier.under_way.is_none() && !settled.shadows.contains(&earlier.limit));
                for earlier in charged {
                    if let (Some(table), Some(share)) =
                        (self.tables.get(earlier.limit), self.shared.share(earlier.limit))
                    {
                        table.refund(earlier.key, share);
                    }
                }
                // One that is watched refuses nobody.
                let rest = asked.limits.iter().skip(position + 1).filter(|other| !other.spared);
                let limited = rest.fold(Limited { limit: *index, decision }, |longest, other| {
                    let tables = self.tables.get(other.limit).zip(self.shared.share(other.limit));
                    let peeked = tables.map(|(table, share)| table.peek(other.key, share, now, 1));
                    longest.or_longer(other.limit, peeked)
                });
                return Settled {
                    limited: Some(limited),
                    delay: (0, 0),
                    refused: Some(reason(plan, limited)),
                    shadows: settled.shadows,
                };
            }
            settled.add((*index, limit), decision);
        }
        settled
    }
}

/// Why a request is refused that this limit decided about.
fn reason(plan: &Plan, limited: Limited) -> Reason {
    plan.limits.get(limited.limit).map_or(Reason::LimitExceeded, Limit::reason)
}

impl Settled {
    /// One more limit has admitted the request.
    fn add(&mut self, (index, limit): (usize, &Limit), decision: Decision) {
        Limited::tell(&mut self.limited, limit, Limited { limit: index, decision });
        if decision.delay > self.delay.1 {
            self.delay = (index, decision.delay);
        }
    }
}

#[cfg(test)]
mod tests;

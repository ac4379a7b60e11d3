//! Rate limits of a plan, and the tables that remember clients. Tables outlive plans: a reload forgets nobody.
//!
//! Invariant: [`Limiter::admit`] does not wait, lock or read a clock, and allocates only for what has to wait ([`pending`]).

pub mod pending;
pub mod shared;

use std::sync::Arc;
use std::time::Duration;

use probegate_policies::client::Identity;
use probegate_policies::limit::{Decision, Key, Seed, Table};
use probegate_policies::now::Now;

use self::pending::{Asked, Charge, Pending, Wait};
use self::shared::Shared;
use crate::plan::{Limit, LimitKey, Plan};

/// The limits of one plan with their tables, in the order of [`Plan::limits`].
#[derive(Debug)]
pub struct Limiter {
    tables: Vec<Arc<Table>>,
    shared: Shared,
}

/// What limits count a request by.
#[derive(Debug)]
pub struct Asking<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// Who asks.
    pub identity: &'a Identity,
    /// When.
    pub now: Now,
}

/// What a list of limits says about a request.
#[derive(Debug, Default)]
pub struct Admission {
    /// The decision that counts; `None`: no limit counts the request.
    pub limited: Option<Limited>,
    /// What has to be waited for before an admitted request goes on.
    pub pending: Option<Box<Pending>>,
}

/// The limit that decided, and how.
#[derive(Clone, Copy, Debug)]
pub struct Limited {
    /// The one that refused, or the one with the least left. An index into [`Plan::limits`].
    pub limit: usize,
    /// Its decision.
    pub decision: Decision,
}

impl Limiter {
    /// Tables for `plan`. A limit that an earlier plan had under the same name, counting the same things, keeps its table.
    pub fn new(plan: &Plan, earlier: Option<(&Plan, &Self)>, seed: &Seed) -> Self {
        let kept = |limit: &Limit| {
            let (plan, limiter) = earlier?;
            let same =
                |other: &&Limit| other.name == limit.name && other.key == limit.key && other.max_keys == limit.max_keys;
            let index = plan.limits.iter().position(|other| same(&other))?;
            limiter.tables.get(index).map(Arc::clone)
        };
        let new = |limit: &Limit| Arc::new(Table::new(limit.max_keys, *seed).pausing(std::thread::yield_now));
        let table = |limit: &Limit| kept(limit).unwrap_or_else(|| new(limit));
        let shared = Shared::new(plan, earlier.map(|(plan, limiter)| (plan, &limiter.shared)), seed);
        Self { tables: plan.limits.iter().map(table).collect(), shared }
    }

    /// Charges a request to every limit in `limits` that counts it: all of them, or none where one refuses (nginx's rule for several `limit_req`).
    pub fn admit(&self, plan: &Plan, limits: impl Iterator<Item = usize> + Clone, asking: &Asking<'_>) -> Admission {
        let counted = limits.filter_map(|index| {
            let limit = plan.limits.get(index).filter(|limit| limit.counts(asking.method))?;
            Some((index, limit, self.tables.get(index)?))
        });
        let mut tightest: Option<Limited> = None;
        let mut delay = (0, 0);
        let mut is_shared = false;
        let own = counted.clone().filter(|(_, limit, _)| !limit.shared);
        for (index, limit, table) in counted.clone() {
            let key_of = key(table, limit, asking);
            let decision = if limit.shared {
                is_shared = true;
                match self.shared.refusal(index, &limit.quota, key_of, asking.now) {
                    Some(refusal) => refusal,
                    None => continue,
                }
            } else {
                table.admit(key_of, &limit.quota, asking.now)
            };
            if !decision.admitted {
                for (earlier, limit, table) in own.take_while(|(earlier, _, _)| *earlier != index) {
                    debug_assert_ne!(earlier, index);
                    table.refund(key(table, limit, asking), &limit.quota);
                }
                return Admission { limited: Some(Limited { limit: index, decision }), pending: None };
            }
            if tightest.is_none_or(|limited| decision.remaining < limited.decision.remaining) {
                tightest = Some(Limited { limit: index, decision });
            }
            if decision.delay > delay.1 {
                delay = (index, decision.delay);
            }
        }
        let mut admission = Admission { limited: tightest, pending: None };
        if delay.1 > 0 || is_shared {
            let charged = own.map(|(index, limit, table)| Charge { limit: index, key: key(table, limit, asking) });
            let delay = (delay.1 > 0).then(|| Wait::Delay { limit: delay.0, time: Duration::from_nanos(delay.1) });
            let mut pending = Pending { charged: charged.collect(), ..Pending::default() };
            if is_shared {
                let mut asked = Asked::default();
                for (index, limit, table) in counted.filter(|(_, limit, _)| limit.shared) {
                    self.shared.ask(plan, index, key(table, limit, asking), asking, &mut asked);
                }
                pending.waits.push(Wait::Store(asked));
            }
            pending.waits.extend(delay);
            admission.pending = Some(Box::new(pending));
        }
        admission
    }

    /// Takes back what was charged for a request that is refused after all.
    pub fn give_back(&self, plan: &Plan, charged: &[Charge]) {
        for charge in charged {
            if let (Some(limit), Some(table)) = (plan.limits.get(charge.limit), self.tables.get(charge.limit)) {
                table.refund(charge.key, &limit.quota);
            }
        }
    }

    /// The tables, in the order of the plan's limits.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }
}

fn key(table: &Table, limit: &Limit, asking: &Asking<'_>) -> Key {
    match limit.key {
        LimitKey::ClientIp { v4_prefix, v6_prefix } => table.client_key(asking.identity, v4_prefix, v6_prefix),
    }
}

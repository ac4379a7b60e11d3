//! Rate limits of a plan, and the tables that remember clients. Tables outlive plans: a reload forgets nobody.

use std::sync::Arc;

use probegate_policies::client::Identity;
use probegate_policies::limit::{Decision, Key, Seed, Table};
use probegate_policies::now::Now;

use crate::plan::{Limit, LimitKey, Plan};

/// The limits of one plan with their tables, in the order of [`Plan::limits`].
#[derive(Debug)]
pub struct Limiter {
    tables: Vec<Arc<Table>>,
}

/// What a list of limits says about a request.
#[derive(Clone, Copy, Debug)]
pub struct Limited {
    /// The limit that decided: the one that refused, or the one with the least left. An index into [`Plan::limits`].
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
        let table = |limit: &Limit| kept(limit).unwrap_or_else(|| Arc::new(Table::new(limit.max_keys, *seed)));
        Self { tables: plan.limits.iter().map(table).collect() }
    }

    /// Charges a request to every limit in `limits` that counts its method: all of them, or none where one refuses
    /// (nginx's rule for several `limit_req`).
    pub fn admit(
        &self,
        plan: &Plan,
        limits: impl Iterator<Item = usize> + Clone,
        method: &[u8],
        identity: &Identity,
        now: Now,
    ) -> Option<Limited> {
        let counted = limits.filter_map(|index| {
            let limit = plan.limits.get(index)?;
            let counts = limit.methods.is_empty() || limit.methods.iter().any(|counted| counted.as_bytes() == method);
            counts.then_some((index, limit, self.tables.get(index)?))
        });
        let mut tightest: Option<Limited> = None;
        for (index, limit, table) in counted.clone() {
            let decision = table.admit(key(table, limit, identity), &limit.quota, now);
            if !decision.admitted {
                for (earlier, limit, table) in counted.clone().take_while(|(earlier, _, _)| *earlier != index) {
                    debug_assert_ne!(earlier, index);
                    table.refund(key(table, limit, identity), &limit.quota);
                }
                return Some(Limited { limit: index, decision });
            }
            if tightest.is_none_or(|limited| decision.remaining < limited.decision.remaining) {
                tightest = Some(Limited { limit: index, decision });
            }
        }
        tightest
    }

    /// The tables, in the order of the plan's limits.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }
}

fn key(table: &Table, limit: &Limit, identity: &Identity) -> Key {
    match limit.key {
        LimitKey::ClientIp { v4_prefix, v6_prefix } => table.client_key(identity, v4_prefix, v6_prefix),
    }
}

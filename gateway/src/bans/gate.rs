//! What requests meet: whether they are kept out, and what they add to their client's account.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use probegate_policies::ban::{Cause, Client, Offence};
use probegate_policies::client::Identity;
use probegate_policies::ip::IpSet;
use probegate_policies::now::Now;

use super::jail::Jail;
use super::{Change, Shared};
use crate::plan::{BanPolicy, Deny, Plan};
use crate::state::unix_time;

/// The bans of one plan, and those by hand.
#[derive(Debug)]
pub struct Gate {
    /// In the plan's order.
    jails: Box<[Arc<Jail>]>,
    by_hand: Arc<Jail>,
    shared: Arc<Shared>,
}

/// A request of a client that is banned. Small, as every judgement has room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// By which policy, as an index into the plan's; `None`: by hand.
    pub policy: Option<u16>,
    /// Seconds until its end, at least one.
    pub left: u32,
    /// It passes all the same.
    pub shadow: bool,
    /// What the client sees.
    pub deny: Deny,
}

/// Why a client is never banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// Trusted proxies speak for others.
    Proxy,
    /// It is this machine.
    Own,
    /// It is in this network.
    Network(Box<str>),
}

impl fmt::Display for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy => f.write_str("a trusted proxy, which speaks for others"),
            Self::Own => f.write_str("an address of this machine, or of a neighbour in its network of 64 bits"),
            Self::Network(name) => write!(f, "in network `{name}`"),
        }
    }
}

impl Gate {
    pub(super) fn new(jails: Box<[Arc<Jail>]>, by_hand: Arc<Jail>, shared: Arc<Shared>) -> Self {
        Self { jails, by_hand, shared }
    }

    /// The bans of the plan's policies, in its order.
    pub fn jails(&self) -> &[Arc<Jail>] {
        &self.jails
    }

    /// Whether a client is banned from a service. One load for each policy while nobody is banned.
    #[inline]
    pub fn find(&self, plan: &Plan, service: usize, identity: &Identity, unix: u64) -> Option<Hit> {
        if self.by_hand.doors().is_empty() && self.jails.iter().all(|jail| jail.doors().is_empty()) {
            return None;
        }
        self.look(plan, service, identity, unix)
    }

    fn look(&self, plan: &Plan, service: usize, identity: &Identity, unix: u64) -> Option<Hit> {
        let client = Client::of(identity.known()?)?;
        let until = |jail: &Jail| {
            let left = jail.doors().until(client)?.checked_sub(unix).filter(|&left| left > 0)?;
            Some(u32::try_from(left).unwrap_or(u32::MAX))
        };
        if let Some(left) = until(&self.by_hand) {
            return Some(Hit { policy: None, left, shadow: false, deny: Deny::Forbidden });
        }
        let mut tried = None;
        for (index, (jail, policy)) in (0..).zip(self.jails.iter().zip(&plan.bans)) {
            if jail.doors().is_empty() || !policy.covers(Some(service)) {
                continue;
            }
            if let Some(left) = until(jail) {
                let hit = Hit { policy: Some(index), left, shadow: policy.shadow, deny: policy.deny };
                if !policy.shadow {
                    return Some(hit);
                }
                tried.get_or_insert(hit);
            }
        }
        tried
    }

    /// Counts a request that was refused, or would have been.
    pub fn met(&self, hit: &Hit) {
        let jail = hit.policy.map_or(Some(&self.by_hand), |index| self.jails.get(usize::from(index)));
        if let Some(jail) = jail {
            jail.stats().refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an offence with every policy that `counts` it. `text`: what was asked for, for people.
    pub fn offend(
        &self,
        plan: &Plan,
        client: Client,
        offence: Offence,
        counts: impl Fn(&BanPolicy) -> bool,
        now: Now,
        text: impl Fn() -> Box<str>,
    ) {
        for (jail, policy) in self.jails.iter().zip(&plan.bans) {
            if !policy.offences.contains(offence)
                || !counts(policy)
                // What ran when it was banned, and in shadow whatever comes after.
                || jail.doors().until(client).is_some_and(|until| until > now.unix)
                || self.exempt(plan, Some(policy), client).is_some()
            {
                continue;
            }
            if !jail.offend(client, now) {
                continue;
            }
            let cause = Cause { offence: Some(offence), text: text() };
            let lifts = self.shared.lifts();
            let ban = jail.pronounce(client, cause, lifts.at(client, now.unix), now.unix);
            drop(lifts);
            let Some(ban) = ban else { continue };
            self.shared.changes.fetch_add(1, Ordering::Relaxed);
            let told = || Change::Ban { policy: policy.name.clone(), shadow: policy.shadow, client, ban: ban.clone() };
            self.shared.outbox.put(told);
            let (name, seconds) = (&*policy.name, ban.until - ban.since);
            let (client, last) = (client.to_string(), &*ban.cause.text);
            if policy.shadow {
                tracing::info!(policy = name, client, seconds, count = ban.count, last, "client would be banned");
            } else {
                tracing::warn!(policy = name, client, seconds, count = ban.count, last, "client is banned");
            }
        }
    }

    /// Why a client is never banned; `None`: it may be. A network of which any address may not be is left alone as a whole. `policy`: `None` for a ban
    /// by hand.
    pub fn exempt(&self, plan: &Plan, policy: Option<&BanPolicy>, client: Client) -> Option<Exempt> {
        let (network, behind) = (client.network(), client.translated());
        let touches = |set: &IpSet| set.touches(&network) || behind.is_some_and(|behind| set.touches(&behind));
        let mut senders = plan.listeners.iter().filter_map(|listener| listener.proxy.as_ref());
        if touches(plan.client.trusted()) || senders.any(|senders| touches(&senders.from)) {
            return Some(Exempt::Proxy);
        }
        if touches(&self.shared.own.load()) {
            return Some(Exempt::Own);
        }
        let of_policy = policy.into_iter().flat_map(|policy| &policy.except);
        let except = of_policy.map(|(name, set)| (&**name, &**set)).chain([("internal", &*plan.internal)]);
        except.filter(|(_, set)| touches(set)).map(|(name, _)| Exempt::Network(name.into())).next()
    }

    /// Lets those out who may not be banned by this plan. Whoever was banned by hand although inside stays.
    pub fn release(&self, plan: &Plan) {
        let now = unix_time();
        for (jail, policy) in self.jails.iter().zip(&plan.bans) {
            let count = jail.lift_where(|client| self.exempt(plan, Some(policy), client).is_some(), now);
            if count > 0 {
                self.shared.changes.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    policy = &*policy.name,
                    count,
                    "bans are lifted: these clients may not be banned any more"
                );
            }
        }
        let inside = |client| matches!(self.exempt(plan, None, client), Some(Exempt::Proxy | Exempt::Own));
        let count = self.by_hand.lift_where(inside, now);
        if count > 0 {
            self.shared.changes.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(count, "bans by hand are lifted: these clients may not be banned any more");
        }
    }
}

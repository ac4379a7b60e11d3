//! What other gateways have told of bans, and what they are told of those here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use probegate_policies::ban::Client;

use super::{Bans, Change, Exempt, Jail, file};
use crate::plan::BY_HAND;
use crate::state::Active;

impl Bans {
    /// Another gateway has told this, for the first time or once more. Whether it changed anything here.
    pub(super) fn heard(&self, active: &Active, change: Change, now: u64) -> bool {
        let is_news = self.lifts().note(&change, now);
        let changed = match change {
            Change::Ban { policy, shadow, client, ban } => {
                let (jail, policy) = if *policy == *BY_HAND {
                    (self.by_hand(), None)
                } else {
                    let jails = active.plan.bans.iter().zip(active.bans.jails());
                    // One that this plan has not, or has in another mode, is heard of again when a plan has it.
                    let mut jails = jails.filter(|(known, _)| known.name == policy && known.shadow == shadow);
                    let Some((policy, jail)) = jails.next() else { return false };
                    (&**jail, Some(policy))
                };
                let never = match active.bans.exempt(&active.plan, policy, client) {
                    // Whoever is inside was banned by somebody who meant it.
                    Some(Exempt::Network(_)) => policy.is_some(),
                    Some(Exempt::Proxy | Exempt::Own) => true,
                    None => false,
                };
                let until = ban.until;
                let taken = !never && jail.merge(client, ban, now);
                if taken && until > now {
                    let (name, client) = (policy.map_or(BY_HAND, |policy| &*policy.name), client.to_string());
                    tracing::info!(policy = name, client, seconds = until - now, "client is banned by another gateway");
                }
                taken
            }
            Change::Lift { client, at } => {
                let lifted = self.lift_before(client, at, is_news, now);
                if lifted > 0 {
                    let client = file::named(client);
                    tracing::info!(client, lifted, "bans are lifted by another gateway");
                }
                lifted > 0
            }
        };
        if changed || is_news {
            self.shared.changes.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    /// Lifts what was pronounced until then and, where that is news, forgets what those clients did. How many bans were in force.
    fn lift_before(&self, client: Option<Client>, at: u64, is_news: bool, now: u64) -> usize {
        let jails: Vec<_> = {
            let mut kept = self.kept();
            kept.unread.lift_before(client, at);
            kept.jails.values().map(Arc::clone).collect()
        };
        jails.iter().chain([&self.by_hand]).map(|jail| jail.lift_before(client, at, is_news, now)).sum()
    }

    /// All bans, those that are over and remembered as well: the next one is measured by them.
    pub(super) fn known(&self, active: &Active) -> Vec<Change> {
        let jails = active.plan.bans.iter().zip(active.bans.jails());
        let jails = jails.map(|(policy, jail)| (&*policy.name, &**jail)).chain([(BY_HAND, self.by_hand())]);
        let of = |(name, jail): (&str, &Jail)| -> Vec<Change> {
            let (policy, shadow): (Box<str>, _) = (name.into(), jail.is_shadow());
            let bans = jail.written().into_iter();
            bans.map(|(client, ban)| Change::Ban { policy: policy.clone(), shadow, client, ban }).collect()
        };
        jails.flat_map(of).collect()
    }
}

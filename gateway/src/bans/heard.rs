//! What other gateways have told of bans.

use probegate_policies::ban::{AHEAD, Client};

use super::{Bans, Change, Exempt, file};
use crate::plan::BY_HAND;
use crate::state::Active;

impl Bans {
    /// A gateway has told this, for the first time or once more; it may have been this one. Whether it changed anything here.
    pub(super) fn heard(&self, active: &Active, change: Change, now: u64) -> bool {
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
                let taken = !never && {
                    let lifts = self.shared.lifts();
                    lifts.at(client, now) < Some(ban.since) && jail.merge(client, ban, now)
                };
                if taken && until > now {
                    let (name, client) = (policy.map_or(BY_HAND, |policy| &*policy.name), client.to_string());
                    tracing::info!(policy = name, client, seconds = until - now, "client is banned by another gateway");
                }
                taken
            }
            Change::Lift { client, at } => {
                if at > now.saturating_add(AHEAD) || !self.shared.lifts().lift(client, at, now) {
                    return false;
                }
                let lifted = self.lift_before(client, at, now);
                // The lift itself is news.
                self.changed();
                if lifted > 0 {
                    let client = file::named(client);
                    tracing::info!(client, lifted, "bans are lifted by another gateway");
                }
                lifted > 0
            }
        };
        if changed {
            self.changed();
        }
        changed
    }

    /// Lifts what was pronounced until then, and forgets what those clients did. How many bans were in force.
    pub(super) fn lift_before(&self, client: Option<Client>, at: u64, now: u64) -> usize {
        self.jails().iter().map(|jail| jail.lift_before(client, at, now)).sum::<usize>()
    }
}

//! Which bans have to do with a request, and what it could add to them.

use probegate_policies::ban::Client;

use super::Out;
use crate::plan::{BanPolicy, Plan};
use crate::request::judge::{Judgement, Part};

impl Out {
    /// A line for every ban that may keep the client out. Who is banned only the running gateway knows.
    pub(super) fn bans(&mut self, plan: &Plan, judgement: &Judgement<'_>) {
        let Some(service) = judgement.service else { return };
        for policy in plan.bans.iter().filter(|policy| policy.covers(Some(service))) {
            let at = self.at(policy.origin.line);
            self.line("ban", &format!("`{}`{at}: {}", policy.name, text(plan, policy, judgement)));
        }
    }
}

fn text(plan: &Plan, policy: &BanPolicy, judgement: &Judgement<'_>) -> String {
    if matches!(judgement.part, Part::Probe(_) | Part::Aggregate(_)) {
        return "not asked: probes have rules of their own, and what they are asked is no offence".to_owned();
    }
    let Some(client) = judgement.identity.known() else {
        return "not asked: nobody knows the client, and nobody else is banned for it".to_owned();
    };
    let Some(client) = Client::of(client) else { return format!("never: {client} is nobody's address on a network") };
    let network = client.network();
    if plan.client.trusted().touches(&network) {
        return format!("never: {client} is a trusted proxy");
    }
    if let Some((name, _)) = policy.except.iter().find(|(_, set)| set.touches(&network)) {
        return format!("never: {client} is in network `{name}`");
    }
    let word = if policy.shadow { "would keep" } else { "keeps" };
    format!(
        "{word} {client} out after {} offences in {} s ({}), the first time for {} s{}; `probegate ban why` knows whether it does",
        policy.max_offences,
        policy.window.as_secs(),
        policy.offences,
        policy.escalation.seconds(0),
        if policy.shadow { " (shadow)" } else { "" },
    )
}

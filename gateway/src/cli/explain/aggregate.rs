//! `explain`: whom an aggregate asks, and what its client gets to see.

use probegate_policies::access::{Permit, Rule};
use probegate_policies::aggregate::{Need, Terms};

use super::Out;
use crate::plan::{AggregateSource, Plan};

impl Out {
    /// What is done for a client that may ask. `lets_in`: whether a rule lets it in.
    pub(super) fn aggregate(&mut self, plan: &Plan, index: usize, permit: &Permit, lets_in: impl Fn(&Rule) -> bool) {
        let Some(aggregate) = plan.aggregates.get(index) else { return };
        for need in [Need::Required, Need::Optional] {
            let members = aggregate.members.iter().filter(|member| member.need == need);
            let names: Vec<_> =
                members.filter_map(|member| plan.services.get(member.service)).map(|service| &*service.name).collect();
            let what = if need == Need::Required { "required" } else { "optional" };
            if !names.is_empty() {
                self.line(what, &names.join(", "));
            }
        }
        let text = match aggregate.source {
            AggregateSource::Probes { timeout, terms: Terms { fall, rise } } => format!(
                "for `{}`, each from behind its shield, within {timeout:?} together: one fails after {fall} failures in a row, passes after {rise}",
                aggregate.kind.name()
            ),
            AggregateSource::Checks { up: 0 } => {
                "nobody: a service passes while the checks find one of its servers up".to_owned()
            }
            AggregateSource::Checks { up } => {
                format!("nobody: a service passes while the checks find {up}% of its servers up")
            }
        };
        self.line("asked", &text);
        let compared: Vec<_> = aggregate.one_version.iter().filter_map(|&index| plan.services.get(index)).collect();
        if !compared.is_empty() {
            let names: Vec<_> = compared.iter().map(|service| &*service.name).collect();
            self.line("versions", &format!("all servers that get requests have to run one: {}", names.join(", ")));
        }
        if aggregate.gateway {
            self.line("gateway", "it fails while the gateway itself is not ready");
        }
        let sees = aggregate.details.as_ref().is_some_and(lets_in);
        self.line("details", if sees { "this client sees the services" } else { "this client sees no services" });
        let mut text = "passes: the gateway answers".to_owned();
        if let Some((set, slot)) = permit.slot() {
            text.push_str(&format!(" (token `{set}`, slot `{slot}`)"));
        }
        self.line("verdict", &text);
    }
}

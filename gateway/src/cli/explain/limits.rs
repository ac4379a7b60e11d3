//! Which limits count a request, and how.

use super::Out;
use crate::plan::{Delay, Limit, Plan};
use crate::request::judge::{Judgement, Part};

impl Out {
    /// A line for every limit that counts the request.
    pub(super) fn limits(&mut self, plan: &Plan, judgement: &Judgement<'_>, method: &[u8]) {
        // Where the judgement ended before, no limit was asked.
        if judgement.limited.is_none() && judgement.pending.is_none() {
            return;
        }
        let Some(service) = judgement.service.and_then(|index| plan.services.get(index)) else { return };
        let route = match judgement.part {
            Part::Route(index) => service.routes.get(index),
            Part::Rest | Part::Probe(_) => None,
        };
        let added = route.into_iter().flat_map(|route| &route.limits).filter(|limit| !service.limits.contains(limit));
        let limits = service.limits.iter().chain(added).filter_map(|&index| plan.limits.get(index));
        for limit in limits.filter(|limit| limit.counts(method)) {
            let at = self.at(limit.origin.line);
            self.line("limit", &format!("`{}`{at}: {}", limit.name, text(limit)));
        }
    }
}

fn text(limit: &Limit) -> String {
    let left = limit.quota.limit() - 1;
    let mut text = format!("counts this request by {}: {}, burst {left}", limit.key, limit.rate);
    if limit.delay != Delay::None {
        text.push_str(&format!(", delay {}", limit.delay));
    }
    if limit.shared {
        text.push_str(", counted in `limit_store` for all gateways together");
    }
    text.push_str(&format!("; a new client has {left} left after it"));
    text
}

//! Which limits count a request, and how.

use probegate_policies::limit::Algorithm;

use super::{Out, Watched};
use crate::plan::{Delay, Limit, Plan};

impl Out {
    /// A line for every limit that counts the request.
    pub(super) fn limits(&mut self, plan: &Plan, watched: &Watched, method: &[u8]) {
        let limits = watched.limits.iter().filter_map(|&index| plan.limits.get(index));
        for limit in limits.filter(|limit| limit.counts(method)) {
            let at = self.at(limit.origin.line);
            self.line("limit", &format!("`{}`{at}: {}", limit.name, text(limit)));
        }
    }
}

fn text(limit: &Limit) -> String {
    let left = limit.quota.limit() - 1;
    let Some(rate) = limit.rate else { return in_flight(limit) };
    let mut text = format!("counts this request by {}: {rate}", limit.key);
    match limit.quota.algorithm() {
        Algorithm::Gcra => text.push_str(&format!(", burst {left}")),
        Algorithm::FixedWindow => text.push_str(" in fixed windows"),
    }
    if limit.delay != Delay::None {
        text.push_str(&format!(", delay {}", limit.delay));
    }
    if limit.shared {
        text.push_str(", counted in `limit_store` for all gateways together");
    }
    if let Some(count) = &limit.count {
        let statuses: Vec<_> = count.status.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", if it is answered {}", statuses.join(" or ")));
    }
    if limit.shadow {
        text.push_str("; in shadow mode: it refuses nobody");
        return text;
    }
    if limit.enforced < 100 {
        text.push_str(&format!("; for {} % of its keys: others are only counted", limit.enforced));
    }
    text.push_str(&format!("; a new client has {left} left after it"));
    text
}

fn in_flight(limit: &Limit) -> String {
    let mut text =
        format!("counts this request by {} while it is in flight: {} at a time", limit.key, limit.quota.limit());
    if let Some(terms) = limit.in_flight.filter(|terms| terms.queue > 0) {
        text.push_str(&format!(", {} more wait for {:?} at the most", terms.queue, terms.timeout));
    }
    if limit.shadow {
        text.push_str("; in shadow mode: it refuses nobody");
        return text;
    }
    text.push_str(&format!("; beyond that, {} ({})", limit.reason().status(), limit.reason().label()));
    text
}

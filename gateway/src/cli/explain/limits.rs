//! Which limits count a request, and how.

use probegate_policies::limit::Algorithm;

use super::{Out, Watched};
use crate::plan::{Delay, Limit, Plan};

impl Out {
    /// A line for every limit that counts the request.
    pub(super) fn limits(&mut self, plan: &Plan, watched: &Watched, method: &[u8]) {
        let limits = watched.limits.iter().filter_map(|(index, called)| Some((plan.limits.get(*index)?, called)));
        for (limit, called) in limits.filter(|(limit, _)| limit.counts(method)) {
            let at = self.at(limit.origin.line);
            let whom = format!("counts this request by {}, as `{called}`", limit.key);
            let text = if limit.rate.is_some() { rate(limit) } else { in_flight(limit) };
            self.line("limit", &format!("`{}`{at}: {whom}{text}", limit.name));
        }
    }
}

fn rate(limit: &Limit) -> String {
    let left = limit.quota.limit() - 1;
    let mut text = limit.rate.map(|rate| format!(": {rate}")).unwrap_or_default();
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
    if limit.key.is_about_clients() {
        text.push_str(&format!("; a new client has {left} left after it"));
    } else {
        text.push_str(&format!("; the first request leaves {left} for all clients together"));
    }
    beyond(limit, &mut text);
    text
}

fn in_flight(limit: &Limit) -> String {
    let mut text = format!(" while it is in flight: {} at a time", limit.quota.limit());
    if let Some(terms) = limit.in_flight.filter(|terms| terms.queue > 0) {
        text.push_str(&format!(", {} more wait for {:?} at the most", terms.queue, terms.timeout));
    }
    if limit.shadow {
        text.push_str("; in shadow mode: it refuses nobody");
        return text;
    }
    beyond(limit, &mut text);
    text
}

/// What whoever it refuses is told.
fn beyond(limit: &Limit, text: &mut String) {
    text.push_str(&format!("; beyond that, {} ({})", limit.reason().status(), limit.reason().label()));
}

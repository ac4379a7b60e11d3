//! `explain`: whose request it is, and which part of that it meets.

use super::Out;
use crate::plan::{Plan, Probe, Service};
use crate::request::judge::{Judgement, Part};

/// Paths that are named in the place of one at which nothing is.
const HINTS: usize = 5;

impl Out {
    /// The service and its part. `any_host`: the listener serves probes, whatever the host is.
    pub(super) fn place(&mut self, plan: &Plan, judgement: &Judgement<'_>, host: &[u8], any_host: bool) {
        let host = String::from_utf8_lossy(host).into_owned();
        let by = if any_host { "whatever the host is".to_owned() } else { format!("for host `{host}`") };
        if let Part::Aggregate(index) = judgement.part
            && let Some(aggregate) = plan.aggregates.get(index)
        {
            self.line("service", &format!("none: an aggregate answers {by}"));
            let text =
                format!("aggregate `{}` at `{}`{}", aggregate.name, aggregate.path, self.at(aggregate.origin.line));
            self.line("part", &text);
            return;
        }
        let Some(service) = judgement.service.and_then(|index| plan.services.get(index)) else {
            if judgement.path.is_some() && any_host {
                self.line(
                    "service",
                    &format!("none: this listener serves probes, and there is none here{}", meant(plan, judgement)),
                );
            } else if judgement.path.is_some() {
                self.line("service", &format!("none answers {by}"));
            }
            return;
        };
        self.line("service", &format!("`{}` answers {by}{}", service.name, self.at(service.origin.line)));
        if let Some(resolver) = &service.upstream.resolver {
            let asked: Vec<_> = resolver.iter().map(ToString::to_string).collect();
            self.line("names", &format!("of servers are asked for at {}", asked.join(", ")));
        }
        if let Some(check) = &service.upstream.health {
            self.line("checks", &check.to_string());
        }
        let text = part(service, judgement.part).map(|(text, line)| format!("{text}{}", self.at(line)));
        self.line("part", text.as_deref().unwrap_or("no probe and no route: no rule of its own"));
    }
}

/// Where the probes are found that other listeners have at this path, or at this path behind their host.
fn meant(plan: &Plan, judgement: &Judgement<'_>) -> String {
    let Some(path) = judgement.path.as_ref().map(|path| path.path) else { return String::new() };
    let probes = plan.services.iter().flat_map(|service| service.probes.iter().map(move |probe| (service, probe)));
    let is_meant = |probe: &Probe| probe.path.as_bytes() == path || probe.kind.default_path().as_bytes() == path;
    let found = probes.filter(|(_, probe)| is_meant(probe)).take(HINTS);
    let found: Vec<_> = found.map(|(service, probe)| format!("`/{}/{}`", service.name, probe.kind.name())).collect();
    if found.is_empty() { String::new() } else { format!("; by the names of services: {}", found.join(", ")) }
}

fn part(service: &Service, part: Part) -> Option<(String, u32)> {
    match part {
        Part::Probe(index) => service
            .probes
            .get(index)
            .map(|probe| (format!("probe `{}` at `{}`", probe.kind.name(), probe.path), probe.origin.line)),
        Part::Route(index) => {
            service.routes.get(index).map(|route| (format!("route `{}`", route.path), route.origin.line))
        }
        Part::Rest | Part::Aggregate(_) => None,
    }
}

//! What is counted of the slots of services.

use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, family, gauge};
use crate::plan::{Service, Slots};
use crate::slots::Split;
use crate::state::{Active, State};
use crate::switching::Outcome;

/// Everything about the slots of the plan in force.
pub(super) fn collect(state: &State, active: &Active) -> [MetricFamily; 4] {
    let services: Vec<(&Service, &Slots, &Split)> = active
        .plan
        .services
        .iter()
        .zip(&active.servers)
        .filter_map(|(service, servers)| Some((service, service.upstream.slots.as_deref()?, &**servers.split()?)))
        .collect();
    let (mut shares, mut requests, mut errors, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (service, slots, split) in services {
        let share = split.get();
        for (index, slot) in (0_u8..).zip(&slots.each) {
            let labels = || vec![("service", service.name.to_string()), ("slot", slot.name.to_string())];
            let percent = match index {
                _ if index == share.to => share.percent,
                _ if index == share.from => 100 - share.percent,
                _ => 0,
            };
            shares.push(gauge(labels(), f64::from(percent) / 100.0));
            let counts = split.counts(index);
            requests.push(counter(labels(), counts.requests));
            errors.push(counter(labels(), counts.errors));
        }
        for outcome in Outcome::ALL.map(Outcome::word) {
            let labels = vec![("service", service.name.to_string()), ("outcome", outcome.to_owned())];
            ends.push(counter(labels, state.slots.ends(&service.name, outcome)));
        }
    }
    [
        family(
            "probegate_slot_share",
            "The share of its service's clients that a slot gets.",
            MetricType::GAUGE,
            shares,
        ),
        family("probegate_slot_requests_total", "Requests that a slot was sent.", MetricType::COUNTER, requests),
        family(
            "probegate_slot_errors_total",
            "Requests that a slot answered with 5xx, or not at all.",
            MetricType::COUNTER,
            errors,
        ),
        family("probegate_switches_total", "Switches that ended, by how.", MetricType::COUNTER, ends),
    ]
}

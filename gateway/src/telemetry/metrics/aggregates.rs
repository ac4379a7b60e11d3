//! What is known about aggregates, without asking anybody.

use prometheus::proto::{MetricFamily, MetricType};

use super::families::{family, gauge};
use crate::aggregates::{Board, Standing, conclude, gateway, is_pending, standings};
use crate::state::{Active, State};

/// Whether aggregates pass, and each of their services.
pub(super) fn collect(state: &State, active: &Active) -> [MetricFamily; 2] {
    let (mut all, mut each) = (Vec::new(), Vec::new());
    for (index, aggregate) in active.plan.aggregates.iter().enumerate() {
        let standings = standings(active, index);
        let name = || ("aggregate", aggregate.name.to_string());
        let versions = active.aggregates.get(index).map(Board::versions).unwrap_or_default();
        let own = gateway(aggregate, active, state);
        if standings.iter().all(Standing::is_unknown) {
            // Nobody has asked: what nobody wants to know shall wake nobody either.
            continue;
        }
        let verdict = conclude(aggregate, &standings, &versions, own);
        // Nor does a service wake anybody that a reload has brought, and that nobody has asked yet.
        if !is_pending(verdict, standings.iter().chain(&versions).chain(&own)) {
            all.push(gauge(vec![name()], f64::from(u8::from(verdict.passes()))));
        }
        for (member, standing) in aggregate.members.iter().zip(&standings).filter(|(_, known)| !known.is_unknown()) {
            let Some(service) = active.plan.services.get(member.service) else { continue };
            let labels = vec![name(), ("service", service.name.to_string())];
            each.push(gauge(labels, f64::from(u8::from(standing.passes))));
        }
    }
    let all_help =
        "Whether an aggregate passes, as far as it is known; not there before somebody has asked about all of it.";
    let each_help =
        "Whether a service passes in an aggregate, as far as it is known; not there before somebody has asked.";
    [
        family("probegate_aggregate_passing", all_help, MetricType::GAUGE, all),
        family("probegate_aggregate_service_passing", each_help, MetricType::GAUGE, each),
    ]
}

//! What is counted of the servers of services.

use std::collections::HashMap;

use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, family, float, gauge};
use crate::plan::Service;
use crate::readiness;
use crate::servers::{Servers, Site};
use crate::state::{Active, State};

/// Each server of the plan in force.
fn each(active: &Active) -> impl Iterator<Item = (&Service, &Servers, &Site)> {
    let services = active.plan.services.iter().zip(&active.servers);
    services.flat_map(|(service, servers)| servers.sites().iter().map(move |site| (service, &**servers, site)))
}

/// The labels of a server, in every family the same, so that queries may join them. The slot is empty where the service has none.
fn labels(service: &Service, site: &Site) -> Vec<(&'static str, String)> {
    let slot = || service.upstream.slots.as_ref()?.get(site.slot?).map(|slot| slot.name.to_string());
    let slot = slot().unwrap_or_default();
    vec![("service", service.name.to_string()), ("server", site.label.to_string()), ("slot", slot)]
}

/// One value for each server that has one.
pub(super) fn one_each(active: &Active, name: &str, help: &str, value: impl Fn(&Site) -> Option<f64>) -> MetricFamily {
    let metrics = each(active).filter_map(|(service, _, site)| Some(gauge(labels(service, site), value(site)?)));
    family(name, help, MetricType::GAUGE, metrics.collect())
}

/// Checks of servers, those that are in the plan no more included: their slot is empty.
pub(super) fn checks(state: &State, active: &Active) -> MetricFamily {
    let known: HashMap<_, _> =
        each(active).map(|(service, _, site)| ((&*service.name, &*site.label), labels(service, site))).collect();
    let counted = state.health.all().into_iter().flat_map(|(service, server, report)| {
        let labels = known.get(&(&*service, &*server)).cloned().unwrap_or_else(|| {
            vec![("service", service.to_string()), ("server", server.to_string()), ("slot", String::new())]
        });
        [("passed", report.passed), ("failed", report.failed)]
            .map(|(result, count)| counter([&labels[..], &[("result", result.to_owned())]].concat(), count))
    });
    let help = "Checks of servers, by result.";
    family("probegate_upstream_checks_total", help, MetricType::COUNTER, counted.collect())
}

/// Everything about the servers of the plan in force.
pub(super) fn collect(active: &Active) -> Vec<MetricFamily> {
    let counted = |name: &str, help: &str, of: &dyn Fn(&Site) -> u64| {
        let each = each(active).map(|(service, _, site)| counter(labels(service, site), of(site)));
        family(name, help, MetricType::COUNTER, each.collect())
    };
    let shown = |name: &str, help: &str, of: &dyn Fn(&Site) -> u64| {
        let each = each(active).map(|(service, _, site)| gauge(labels(service, site), float(of(site))));
        family(name, help, MetricType::GAUGE, each.collect())
    };
    let waiting = active
        .servers
        .iter()
        .filter(|servers| servers.is_bounded())
        .map(|servers| gauge(vec![("service", servers.service().to_owned())], float(servers.waiting() as u64)));
    let in_turn = each(active).map(|(service, servers, site)| {
        gauge(labels(service, site), f64::from(u8::from(readiness::is_in_turn(servers, site))))
    });
    vec![
        family(
            "probegate_upstream_server_in_turn",
            "Whether a server is in a slot that gets requests; all are where a service has no slots.",
            MetricType::GAUGE,
            in_turn.collect(),
        ),
        counted(
            "probegate_upstream_requests_total",
            "Requests sent to a server, those sent again included.",
            &|site| site.state.sent(),
        ),
        counted("probegate_upstream_failures_total", "Requests that a server failed.", &|site| site.state.failures()),
        counted("probegate_upstream_ejections_total", "How often a server was left out because it failed.", &|site| {
            site.state.ejections()
        }),
        shown("probegate_upstream_in_flight", "Requests that a server is at, tunnels included.", &|site| {
            site.state.in_flight()
        }),
        shown("probegate_upstream_ejected", "Whether a server is left out because it failed.", &|site| {
            u64::from(site.state.is_ejected())
        }),
        family(
            "probegate_upstream_queue",
            "Requests that wait for a server with `max_in_flight`.",
            MetricType::GAUGE,
            waiting.collect(),
        ),
    ]
}

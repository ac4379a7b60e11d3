//! What is counted of the servers of services.

use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, family, float, gauge};
use crate::readiness;
use crate::servers::{Servers, Site};
use crate::state::Active;

/// Everything about the servers of the plan in force.
pub(super) fn collect(active: &Active) -> Vec<MetricFamily> {
    let labels = |servers: &Servers, site: &Site| {
        vec![("service", servers.service().to_owned()), ("server", site.label.to_string())]
    };
    let counted = |name: &str, help: &str, of: &dyn Fn(&Site) -> u64| {
        let each = active
            .servers
            .iter()
            .flat_map(|servers| servers.sites().iter().map(move |site| counter(labels(servers, site), of(site))));
        family(name, help, MetricType::COUNTER, each.collect())
    };
    let shown = |name: &str, help: &str, of: &dyn Fn(&Site) -> u64| {
        let each = active
            .servers
            .iter()
            .flat_map(|servers| servers.sites().iter().map(move |site| gauge(labels(servers, site), float(of(site)))));
        family(name, help, MetricType::GAUGE, each.collect())
    };
    let waiting = active
        .servers
        .iter()
        .filter(|servers| servers.is_bounded())
        .map(|servers| gauge(vec![("service", servers.service().to_owned())], float(servers.waiting() as u64)));
    let in_turn = active.servers.iter().flat_map(|servers| {
        let is_in_turn = |site| f64::from(u8::from(readiness::is_in_turn(servers, site)));
        servers.sites().iter().map(move |site| gauge(labels(servers, site), is_in_turn(site)))
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

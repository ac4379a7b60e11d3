//! Connections of the admin listener, counted.

use std::sync::atomic::Ordering;

use prometheus::proto::{MetricFamily, MetricType};

use super::families::{counter, family, float, gauge};
use crate::local::crowd::Counts;

pub(super) fn families(counts: &Counts) -> [MetricFamily; 3] {
    let [open, turned_away, hurried] =
        [&counts.open, &counts.turned_away, &counts.hurried].map(|count| count.load(Ordering::Relaxed));
    [
        family(
            "probegate_admin_connections",
            "Open connections to the admin listener and its socket.",
            MetricType::GAUGE,
            vec![gauge(vec![], float(open))],
        ),
        family(
            "probegate_admin_connections_refused_total",
            "Connections to the admin listener that were turned away because too many were open.",
            MetricType::COUNTER,
            vec![counter(vec![], turned_away)],
        ),
        family(
            "probegate_admin_connections_idle_ended_total",
            "Connections to the admin listener that waited for a request, ended to make room for others.",
            MetricType::COUNTER,
            vec![counter(vec![], hurried)],
        ),
    ]
}

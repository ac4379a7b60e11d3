//! What is counted of probes, and of the shields before them.

use std::sync::PoisonError;

use prometheus::proto::{MetricFamily, MetricType};

use super::Metrics;
use super::families::{counter, family};
use crate::shields::Source;
use crate::state::Active;

/// What apps said to their probes, whoever asked: aggregates as well.
pub(super) fn results(active: &Active) -> MetricFamily {
    let services = active.plan.services.iter().zip(&active.histories);
    let probes = services.flat_map(|(service, of)| {
        service
            .probes
            .iter()
            .zip(of)
            .filter_map(move |(probe, history)| Some((service, probe, history.as_ref()?.counts())))
    });
    let results = probes.flat_map(|(service, probe, counts)| {
        [("passed", counts.passed), ("failed", counts.failed)].map(|(result, count)| {
            let labels = [("service", &*service.name), ("probe", probe.kind.name()), ("result", result)];
            counter(labels.map(|(label, value)| (label, value.to_owned())).to_vec(), count)
        })
    });
    family(
        "probegate_probe_results_total",
        "What apps said to their probes when they were asked by those who are known or make nothing up.",
        MetricType::COUNTER,
        results.collect(),
    )
}

/// What became of probes, where answers came from, and how often apps were asked.
pub(super) fn collect(metrics: &Metrics) -> [MetricFamily; 3] {
    let services = metrics.services.lock().unwrap_or_else(PoisonError::into_inner);
    let outcomes = services.iter().flat_map(|(service, stats)| {
        stats.probes().map(move |(kind, outcome, count)| {
            let labels = [("service", &**service), ("probe", kind.name()), ("outcome", outcome)];
            counter(labels.map(|(label, value)| (label, value.to_owned())).to_vec(), count)
        })
    });
    let shields = metrics.shields.lock().unwrap_or_else(PoisonError::into_inner);
    let labels = |service: &str, probe: &str| vec![("service", service.to_owned()), ("probe", probe.to_owned())];
    let answers = shields.iter().flat_map(|((service, probe), counts)| {
        Source::ALL.into_iter().map(move |source| {
            let mut labels = labels(service, probe);
            labels.push(("source", source.label().to_owned()));
            counter(labels, counts.of(source))
        })
    });
    let asks = shields.iter().map(|((service, probe), counts)| counter(labels(service, probe), counts.asks()));
    [
        family(
            "probegate_probe_outcomes_total",
            "Probe requests by what became of them.",
            MetricType::COUNTER,
            outcomes.collect(),
        ),
        family(
            "probegate_probe_answers_total",
            "Answers to probes from behind their shields, by where they came from.",
            MetricType::COUNTER,
            answers.collect(),
        ),
        family(
            "probegate_probe_asks_total",
            "How often apps were asked for probes that have a shield.",
            MetricType::COUNTER,
            asks.collect(),
        ),
    ]
}

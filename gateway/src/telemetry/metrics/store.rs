//! What is counted of the store of shared limits.

use probegate_policies::breaker::Breaking;
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use super::families::{counter, family, float, gauge};
use crate::state::Active;
use crate::store::Store;

/// Everything about the store of the plan in force; nothing where it has none.
pub(super) fn families(active: &Active) -> Vec<MetricFamily> {
    let Some(store) = &active.store else { return Vec::new() };
    let stats = &store.stats;
    let failures = stats.failures().map(|(kind, count)| counter(vec![("reason", kind.label().to_owned())], count));
    let decisions =
        stats.decisions().map(|(by, count)| (by.label(), count)).chain([("memory", active.limiter.unasked())]);
    let decisions = decisions.map(|(by, count)| counter(vec![("by", by.to_owned())], count));
    let state = store.breaker();
    let states = [("closed", Breaking::Closed), ("half_open", Breaking::Trying), ("open", Breaking::Open)];
    let states = states.map(|(word, is)| gauge(vec![("state", word.to_owned())], f64::from(u8::from(state == is))));
    let one =
        |name: &str, help: &str, count: u64| family(name, help, MetricType::COUNTER, vec![counter(vec![], count)]);
    vec![
        family(
            "probegate_limit_store_call_duration_seconds",
            "How long the limit store took to answer.",
            MetricType::HISTOGRAM,
            vec![histogram(store)],
        ),
        family(
            "probegate_limit_store_failures_total",
            "Calls and attempts to connect to the limit store that failed, by reason.",
            MetricType::COUNTER,
            failures.collect(),
        ),
        family(
            "probegate_limit_store_decisions_total",
            "Requests on shared limits by who decided about them.",
            MetricType::COUNTER,
            decisions.collect(),
        ),
        family(
            "probegate_limit_store_breaker",
            "Whether the limit store is asked (closed), tried (half_open), or not asked (open).",
            MetricType::GAUGE,
            states.to_vec(),
        ),
        one(
            "probegate_limit_store_breaker_opened_total",
            "How often the limit store failed so much that it was not asked any more.",
            stats.openings(),
        ),
    ]
}

fn histogram(store: &Store) -> Metric {
    let buckets = store.stats.buckets().map(|(micros, below)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(float(micros) / 1e6);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(store.stats.answers());
    histogram.set_sample_sum(store.stats.seconds());
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

//! What was counted lately: rates and latencies, for people who look now.
//!
//! The thread of the admin listener reads the counters of all services every other second, and keeps what it has read for five minutes. Workers know
//! nothing of it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state::{State, unix_time};
use crate::telemetry::access_log::Decision;
use crate::telemetry::metrics::{BOUNDS, ServiceStats};

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(2);

/// How many readings are kept.
const LENGTH: usize = 151;

/// The windows that rates are told for.
const WINDOWS: [(&str, Duration); 2] = [("10s", Duration::from_secs(10)), ("1m", Duration::from_secs(60))];

/// The counters of one service.
#[derive(Clone, Debug, Default)]
struct Counts {
    requests: u64,
    /// Answers of the 5xx class, and those that nobody got because the app failed.
    errors: u64,
    /// Requests that were kept out.
    refused: u64,
    received: u64,
    sent: u64,
    /// At or below each bound.
    buckets: Box<[u64]>,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    unix: u64,
    services: Vec<(Box<str>, Counts)>,
}

/// The readings.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<VecDeque<Reading>>);

impl Pulse {
    /// Reads the counters if it is time to.
    pub(super) fn beat(&self, state: &State) {
        let now = Instant::now();
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.back().is_some_and(|last| now.saturating_duration_since(last.at) < INTERVAL) {
            return;
        }
        if readings.len() >= LENGTH {
            readings.pop_front();
        }
        readings.push_back(Reading::now(state));
    }

    /// The traffic of a service, up to now. `series`: with one point for each reading.
    pub(super) fn traffic(&self, service: &str, stats: &ServiceStats, series: bool) -> Value {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, last) = (Instant::now(), Counts::of(stats));
        let find = |reading: &Reading| reading.find(service).cloned();
        let windows = WINDOWS.into_iter().map(|(name, window)| {
            // The latest reading that is old enough, or the oldest one there is.
            let old = readings.iter().rev().find(|reading| now.saturating_duration_since(reading.at) >= window);
            let value = old.or_else(|| readings.front()).map_or(Value::Null, |old| {
                // A service that was not there then has counted nothing.
                let first = find(old).unwrap_or_default();
                rates(&first, &last, now.saturating_duration_since(old.at))
            });
            (name.to_owned(), value)
        });
        let mut told = json!({
            "requests": last.requests,
            "errors": last.errors,
            "refused": last.refused,
            "received_bytes": last.received,
            "sent_bytes": last.sent,
            "windows": windows.collect::<serde_json::Map<_, _>>(),
        });
        if series && let Some(fields) = told.as_object_mut() {
            let pairs = readings.iter().zip(readings.iter().skip(1));
            let points = pairs.map(|(from, to)| {
                let (first, last) = (find(from).unwrap_or_default(), find(to).unwrap_or_default());
                let mut point = rates(&first, &last, to.at.saturating_duration_since(from.at));
                if let Some(point) = point.as_object_mut() {
                    point.insert("time".to_owned(), to.unix.into());
                }
                point
            });
            fields.insert("series".to_owned(), points.collect());
        }
        told
    }
}

impl Reading {
    fn now(state: &State) -> Self {
        let active = state.active();
        let named = active.plan.services.iter().map(|service| service.name.clone());
        let services = named.zip(active.stats.iter().map(|stats| Counts::of(stats)));
        let unserved = (Box::default(), Counts::of(state.metrics.unserved()));
        Self { at: Instant::now(), unix: unix_time(), services: services.chain([unserved]).collect() }
    }

    fn find(&self, service: &str) -> Option<&Counts> {
        self.services.iter().find(|(name, _)| **name == *service).map(|(_, counts)| counts)
    }
}

impl Counts {
    fn of(stats: &ServiceStats) -> Self {
        let statuses: Vec<_> = stats.statuses().collect();
        let sum = |range: std::ops::Range<usize>| {
            statuses.iter().filter(|(status, _)| range.contains(status)).map(|(_, count)| count).sum()
        };
        let kept_out = |decision: &Decision| matches!(decision, Decision::Deny | Decision::Limit | Decision::Refuse);
        Self {
            requests: sum(0..1000),
            errors: sum(500..600),
            refused: stats.decisions().filter(|(decision, _)| kept_out(decision)).map(|(_, count)| count).sum(),
            received: stats.received(),
            sent: stats.sent(),
            buckets: stats.buckets().into(),
        }
    }
}

/// What happened between two readings.
#[expect(clippy::cast_precision_loss, reason = "rates, for people")]
fn rates(first: &Counts, last: &Counts, time: Duration) -> Value {
    let seconds = time.as_secs_f64().max(0.001);
    let requests = last.requests.saturating_sub(first.requests);
    let rate = |last: u64, first: u64| round(last.saturating_sub(first) as f64 / seconds);
    let errors = last.errors.saturating_sub(first.errors);
    let below: Vec<u64> = last
        .buckets
        .iter()
        .enumerate()
        .map(|(index, last)| last.saturating_sub(first.buckets.get(index).copied().unwrap_or_default()))
        .collect();
    json!({
        "requests_per_second": rate(last.requests, first.requests),
        "errors_per_second": rate(last.errors, first.errors),
        "refused_per_second": rate(last.refused, first.refused),
        "received_bytes_per_second": rate(last.received, first.received),
        "sent_bytes_per_second": rate(last.sent, first.sent),
        "error_ratio": if requests == 0 { Value::Null } else { round(errors as f64 / requests as f64).into() },
        "latency_ms": {
            "p50": quantile(&below, 0.5),
            "p90": quantile(&below, 0.9),
            "p99": quantile(&below, 0.99),
        },
    })
}

/// The latency, in milliseconds, that this part of the requests did not exceed, as well as the histogram tells. `below`: requests at or below each bound.
#[expect(clippy::cast_precision_loss, reason = "an estimate, for people")]
fn quantile(below: &[u64], part: f64) -> Option<f64> {
    let total = *below.last()?;
    if total == 0 {
        return None;
    }
    let wanted = part * total as f64;
    let index = below.iter().position(|&count| count as f64 >= wanted)?;
    let at = |index: Option<usize>| {
        let count = index.and_then(|index| below.get(index)).copied().unwrap_or_default();
        let bound = index.and_then(|index| BOUNDS.get(index)).copied().unwrap_or_default();
        (count as f64, bound as f64 / 1000.0)
    };
    let ((less, from), (more, to)) = (at(index.checked_sub(1)), at(Some(index)));
    // As if those between two bounds lay evenly.
    let share = if more > less { (wanted - less) / (more - less) } else { 1.0 };
    Some(round(from + (to - from) * share))
}

/// To four places.
fn round(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(number: Option<f64>, to: f64) {
        assert!(number.is_some_and(|number| (number - to).abs() < 0.001), "{number:?} is not {to}");
    }

    #[test]
    fn quantiles_lie_between_the_bounds_of_the_histogram() {
        let mut below = vec![0; BOUNDS.len()];
        assert_eq!(quantile(&below, 0.5), None);
        // Up to 2.5 ms there are 10, and up to 5 ms 20.
        below[1..].fill(10);
        below[2..].fill(20);
        close(quantile(&below, 0.25), 1.75);
        close(quantile(&below, 0.5), 2.5);
        close(quantile(&below, 0.75), 3.75);
        close(quantile(&below, 1.0), 5.0);
    }

    #[test]
    fn rates_are_about_the_time_between() {
        let first = Counts { requests: 100, errors: 1, ..Counts::default() };
        let last = Counts { requests: 150, errors: 6, refused: 2, ..Counts::default() };
        let told = rates(&first, &last, Duration::from_secs(10));
        assert_eq!(told["requests_per_second"], 5.0);
        assert_eq!((&told["errors_per_second"], &told["error_ratio"]), (&0.5.into(), &0.1.into()));
        assert_eq!((&told["refused_per_second"], &told["latency_ms"]["p50"]), (&0.2.into(), &Value::Null));
        assert_eq!(rates(&last, &last, Duration::from_secs(10))["error_ratio"], Value::Null);
    }
}

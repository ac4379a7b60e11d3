//! The counters as Prometheus sees them.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use probegate_policies::probe::ProbeKind;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::shard::{BOUNDS, ServiceStats};
use super::{Metrics, UNKNOWN_REASONS, aggregates, bans, limits, local, servers, shields, slots, store};
use crate::acme::Acme;
use crate::readiness;
use crate::servers::Health;
use crate::state::State;
use crate::telemetry::diagnostics;

/// A label (empty: none), its value, and a count.
type Counted = (&'static str, String, u64);

/// Everything that is counted.
pub(super) fn collect(metrics: &Metrics, state: &State) -> Vec<MetricFamily> {
    let active = state.active();
    let services = metrics.services.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let none: Box<str> = "".into();
    let all = || services.iter().map(|(name, stats)| (name, &**stats)).chain([(&none, metrics.unserved())]);
    let each = |name: &str, help: &str, of: &dyn Fn(&ServiceStats) -> Vec<Counted>| {
        let metrics = all().flat_map(|(service, stats)| {
            of(stats).into_iter().map(move |(label, value, count)| {
                let mut labels = vec![("service", service.to_string())];
                if !label.is_empty() {
                    labels.push((label, value));
                }
                counter(labels, count)
            })
        });
        family(name, help, MetricType::COUNTER, metrics.collect())
    };
    let total =
        |name: &str, help: &str, count: u64| family(name, help, MetricType::COUNTER, vec![counter(vec![], count)]);
    let mut families = vec![
        each("probegate_requests_total", "Requests by the status the client saw.", &|stats| {
            stats.statuses().map(|(status, count)| ("code", status.to_string(), count)).collect()
        }),
        each("probegate_decisions_total", "Requests by what became of them.", &|stats| {
            stats.decisions().map(|(decision, count)| ("decision", decision.label().to_owned(), count)).collect()
        }),
        each("probegate_refusals_total", "Requests that were refused or failed, by reason.", &|stats| {
            stats.reasons().map(|(reason, count)| ("reason", reason.label().to_owned(), count)).collect()
        }),
        each("probegate_probe_requests_total", "Probe requests by probe.", &|stats| {
            let all: Vec<_> = stats.probes().collect();
            let count = |kind| all.iter().filter(|(known, _, _)| *known == kind).map(|(_, _, count)| count).sum();
            ProbeKind::ALL.map(|kind| ("probe", kind.name().to_owned(), count(kind))).to_vec()
        }),
        each("probegate_received_bytes_total", "Bytes received from clients, heads and bodies.", &|stats| {
            vec![("", String::new(), stats.received())]
        }),
        each("probegate_sent_bytes_total", "Bytes of body sent to clients.", &|stats| {
            vec![("", String::new(), stats.sent())]
        }),
        each("probegate_upstream_retries_total", "Requests that were sent more than once.", &|stats| {
            vec![("", String::new(), stats.retried())]
        }),
        family(
            "probegate_request_duration_seconds",
            "From the first byte of a request to the end of its answer.",
            MetricType::HISTOGRAM,
            all().map(|(service, stats)| histogram(service, stats)).collect(),
        ),
        family(
            "probegate_client_identity_unknown_total",
            "Requests whose client could not be established, by reason.",
            MetricType::COUNTER,
            UNKNOWN_REASONS
                .iter()
                .zip(&metrics.identity_unknown)
                .map(|(reason, count)| counter(vec![("reason", (*reason).to_owned())], count.load(Ordering::Relaxed)))
                .collect(),
        ),
        family(
            "probegate_buffered_bytes",
            "Bodies that wait: requests for their end, answers for their clients.",
            MetricType::GAUGE,
            ["memory", "disk"]
                .into_iter()
                .zip(<[u64; 2]>::from(state.spools.held()))
                .map(|(place, bytes)| gauge(vec![("place", place.to_owned())], float(bytes)))
                .collect(),
        ),
        family(
            "probegate_connections",
            "Open client connections.",
            MetricType::GAUGE,
            vec![gauge(vec![], float_signed(metrics.connections.load(Ordering::Relaxed)))],
        ),
        total(
            "probegate_connections_accepted_total",
            "Client connections accepted.",
            metrics.accepted.load(Ordering::Relaxed),
        ),
        total(
            "probegate_accept_failures_total",
            "Connections that could not be accepted.",
            metrics.accept_failures.load(Ordering::Relaxed),
        ),
        total(
            "probegate_connections_idle_ended_total",
            "Idle client connections ended early to make room for others.",
            metrics.idle_ended.load(Ordering::Relaxed),
        ),
        total(
            "probegate_reloads_total",
            "Configurations put in force by a reload.",
            metrics.reloads.load(Ordering::Relaxed),
        ),
        total(
            "probegate_reload_failures_total",
            "Reloads refused; the configuration before stayed in force.",
            metrics.reload_failures.load(Ordering::Relaxed),
        ),
        total(
            "probegate_access_log_dropped_total",
            "Access-log lines lost because the target was too slow.",
            state.access_log.dropped(),
        ),
        total(
            "probegate_diagnostics_dropped_total",
            "Diagnostics lines lost because standard error was too slow.",
            diagnostics::dropped(),
        ),
        family(
            "probegate_config_loaded_timestamp_seconds",
            "When the configuration in force was loaded.",
            MetricType::GAUGE,
            vec![gauge(vec![], float(metrics.loaded_at.load(Ordering::Relaxed)))],
        ),
        family(
            "probegate_config_last_reload_successful",
            "Whether the last reload put a configuration in force; 1 before the first.",
            MetricType::GAUGE,
            vec![gauge(vec![], f64::from(u8::from(!metrics.reload_failing.load(Ordering::Relaxed))))],
        ),
        family(
            "probegate_audit_failing",
            "Whether changes can not be written to the file of admin.audit.",
            MetricType::GAUGE,
            (active.plan.audit.iter())
                .map(|_| gauge(vec![], f64::from(u8::from(metrics.audit_failing.load(Ordering::Relaxed)))))
                .collect(),
        ),
        family(
            "probegate_ready",
            "Whether the gateway is ready, as its own /readyz says.",
            MetricType::GAUGE,
            vec![gauge(vec![], f64::from(u8::from(readiness::reasons(state, &active).is_empty())))],
        ),
        family(
            "probegate_build_info",
            "Version of the gateway.",
            MetricType::GAUGE,
            vec![gauge(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
        ),
    ];
    families.extend(servers::collect(&active));
    families.extend(shields::collect(metrics));
    families.push(shields::results(&active));
    families.extend(aggregates::collect(state, &active));
    families.extend(slots::collect(state, &active));
    families.extend(acme(&state.acme));
    families.push(family(
        "probegate_maintenance",
        "Whether a service is in maintenance.",
        MetricType::GAUGE,
        (active.plan.services.iter().enumerate())
            .map(|(index, service)| {
                let on = active.in_maintenance(index).is_some();
                gauge(vec![("service", service.name.to_string())], f64::from(u8::from(on)))
            })
            .collect(),
    ));
    families.push(servers::one_each(
        &active,
        "probegate_upstream_server_drained",
        "Whether a server gets no new requests.",
        |site| Some(f64::from(u8::from(site.state.is_drained()))),
    ));
    families.push(servers::one_each(
        &active,
        "probegate_upstream_server_up",
        "Whether the checks of a server pass.",
        |site| {
            let health = site.state.health();
            (health != Health::Unknown).then(|| f64::from(u8::from(health == Health::Up)))
        },
    ));
    families.push(servers::checks(state, &active));
    families.push(total(
        "probegate_switch_changes_total",
        "How often a switch was turned: maintenance, or a drained server.",
        state.switches.changes(),
    ));
    families.push(family(
        "probegate_certificate_expiry_timestamp_seconds",
        "When a certificate ends to be valid, by the first name in it.",
        MetricType::GAUGE,
        state
            .tls
            .store
            .expiries()
            .into_iter()
            .map(|(name, at)| gauge(vec![("name", name.into())], float(at)))
            .collect(),
    ));
    if active.tls.iter().any(Option::is_some) {
        let handshakes = state.tls.handshakes().map(|(version, resumed, count)| {
            counter(vec![("version", version.to_owned()), ("resumed", resumed.to_string())], count)
        });
        families.push(family(
            "probegate_tls_handshakes_total",
            "TLS handshakes that succeeded, by version and whether a session was resumed.",
            MetricType::COUNTER,
            handshakes.collect(),
        ));
        let failures = state.tls.reload_failures.load(Ordering::Relaxed);
        families.push(total(
            "probegate_certificate_reload_failures_total",
            "Changed certificate files that could not be used; the certificate before stayed in force.",
            failures,
        ));
    }
    families.extend(local::families(&metrics.local));
    families.extend(limits::families(&active));
    families.extend(store::families(&active));
    families.extend(bans::families(state, &active));
    families.retain(|family| !family.get_metric().is_empty());
    families
}

/// What became of orders for certificates; nothing before the first one.
fn acme(acme: &Acme) -> [MetricFamily; 3] {
    let [issued, failed, last, failing] =
        [&acme.issued, &acme.failed, &acme.last_failure, &acme.failing].map(|counter| counter.load(Ordering::Relaxed));
    let ordered = |result: &str, count| counter(vec![("result", result.to_owned())], count);
    let results =
        if issued + failed == 0 { vec![] } else { vec![ordered("issued", issued), ordered("failed", failed)] };
    let failing = if results.is_empty() { vec![] } else { vec![gauge(vec![], float(failing))] };
    [
        family(
            "probegate_acme_failing",
            "Certificates whose last order failed, and that none succeeded since.",
            MetricType::GAUGE,
            failing,
        ),
        family("probegate_acme_orders_total", "Orders for certificates.", MetricType::COUNTER, results),
        family(
            "probegate_acme_last_failure_timestamp_seconds",
            "When an order for a certificate failed last.",
            MetricType::GAUGE,
            if last == 0 { vec![] } else { vec![gauge(vec![], float(last))] },
        ),
    ]
}

pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn counter(labels: Vec<(&str, String)>, count: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(count));
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(labels: Vec<(&str, String)>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_gauge(gauge);
    metric
}

fn histogram(service: &str, stats: &ServiceStats) -> Metric {
    let count = stats.statuses().map(|(_, count)| count).sum();
    let buckets = BOUNDS.iter().zip(stats.buckets()).map(|(bound, below)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(float(*bound) / 1e6);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(stats.seconds());
    let mut metric = Metric::from_label(pairs(vec![("service", service.to_owned())]));
    metric.set_histogram(histogram);
    metric
}

fn pairs(labels: Vec<(&str, String)>) -> Vec<LabelPair> {
    labels
        .into_iter()
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value);
            pair
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus counts in doubles")]
fn float_signed(count: i64) -> f64 {
    count as f64
}

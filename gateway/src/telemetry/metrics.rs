//! Metrics. Every worker counts in a shard of its own; a scrape adds the shards up.
//!
//! Labels come from closed sets only: names in the configuration, statuses, and the reasons of this program. Nothing that a client
//! sends becomes a label. The `prometheus` crate models and writes the result; its label vectors are not used on the path of a
//! request (they hash and lock, and may merge two label sets).

mod aggregates;
mod bans;
mod families;
mod limits;
mod local;
mod servers;
mod shard;
mod shields;
mod slots;
mod store;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use probegate_policies::client::UnknownReason;
use probegate_policies::probe::ProbeKind;
use prometheus::{Encoder, TextEncoder};

pub use limits::{LimitStats, Waiting};
pub use shard::{BOUNDS, Sample, ServiceStats};

use crate::local::crowd;
use crate::shields::Counts;
use crate::state::State;
use crate::telemetry::denials::Denials;
use crate::telemetry::history::Histories;

/// The counters of the gateway.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    /// When counting began; all clocks of the workers count from here as well.
    pub origin: Instant,
    /// By service name. Locked when plans change and at scrapes only.
    services: Mutex<BTreeMap<Box<str>, Arc<ServiceStats>>>,
    /// Requests that belong to no service.
    unserved: Arc<ServiceStats>,
    /// By limit name. Locked when plans change only.
    limited: Mutex<BTreeMap<Box<str>, Arc<LimitStats>>>,
    /// By service and probe. Locked when plans change and at scrapes only.
    shields: Mutex<BTreeMap<ProbeName, Arc<Counts>>>,
    identity_unknown: [AtomicU64; 3],
    /// The last requests that were refused.
    pub denials: Denials,
    /// What apps have said to their probes lately.
    pub histories: Histories,
    /// Client connections that are open.
    pub connections: AtomicI64,
    /// Listening sockets that the workers accept on.
    pub accepting: AtomicI64,
    /// Client connections that were accepted.
    pub accepted: AtomicU64,
    /// Requests that panicked are counted by reason; this counts failures to accept.
    pub accept_failures: AtomicU64,
    /// Idle connections that were ended early to make room.
    pub idle_ended: AtomicU64,
    /// Connections of the admin listener.
    pub local: Arc<crowd::Counts>,
    /// Reloads that put a new configuration in force.
    pub reloads: AtomicU64,
    /// Reloads that were refused.
    pub reload_failures: AtomicU64,
    /// Whether the last reload was refused.
    pub reload_failing: AtomicBool,
    /// Whether the last change could not be written down where the configuration says (`admin.audit`).
    pub audit_failing: Arc<AtomicBool>,
    /// When the configuration in force was loaded, in seconds since the epoch.
    pub loaded_at: AtomicU64,
}

/// A probe, by its service and its own name.
type ProbeName = (Box<str>, &'static str);

const UNKNOWN_REASONS: [&str; 3] = ["missing", "malformed", "too_long"];

impl Metrics {
    /// Counters for this many workers.
    pub fn new(workers: usize) -> Self {
        let origin = Instant::now();
        Self {
            workers,
            services: Mutex::default(),
            unserved: Arc::new(ServiceStats::new(workers)),
            limited: Mutex::default(),
            shields: Mutex::default(),
            identity_unknown: Default::default(),
            denials: Denials::new(workers, origin),
            origin,
            histories: Histories::default(),
            connections: AtomicI64::new(0),
            accepting: AtomicI64::new(0),
            accepted: AtomicU64::new(0),
            accept_failures: AtomicU64::new(0),
            idle_ended: AtomicU64::new(0),
            local: Arc::default(),
            reloads: AtomicU64::new(0),
            reload_failures: AtomicU64::new(0),
            reload_failing: AtomicBool::new(false),
            audit_failing: Arc::default(),
            loaded_at: AtomicU64::new(crate::state::unix_time()),
        }
    }

    /// How many workers count here, at least one.
    pub fn workers(&self) -> usize {
        self.workers.max(1)
    }

    /// The counters of a service. A service that an earlier plan had keeps counting where it stopped.
    pub fn service(&self, name: &str) -> Arc<ServiceStats> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(services.entry(name.into()).or_insert_with(|| Arc::new(ServiceStats::new(self.workers))))
    }

    /// The counters of requests that belong to no service.
    pub fn unserved(&self) -> &ServiceStats {
        &self.unserved
    }

    /// A client could not be identified.
    pub fn identity_unknown(&self, reason: UnknownReason) {
        let index = UNKNOWN_REASONS.iter().position(|label| *label == reason.label());
        if let Some(counter) = index.and_then(|index| self.identity_unknown.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters of a limit. One that an earlier plan had keeps counting where it stopped.
    pub fn limit(&self, name: &str) -> Arc<LimitStats> {
        let mut limited = self.limited.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(limited.entry(name.into()).or_default())
    }

    /// The counters of a shield. A probe that had one in an earlier plan keeps counting where it stopped.
    pub fn shield(&self, service: &str, probe: ProbeKind) -> Arc<Counts> {
        let mut shields = self.shields.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shields.entry((service.into(), probe.name())).or_default())
    }

    /// Everything, in the text format of Prometheus.
    pub fn render(&self, state: &State) -> Vec<u8> {
        let mut families = families::collect(self, state);
        let process = prometheus::Registry::new();
        // Memory, descriptors and CPU of this process, where the system tells them.
        let collector = prometheus::process_collector::ProcessCollector::for_self();
        if process.register(Box::new(collector)).is_ok() {
            families.extend(process.gather());
        }
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "metrics can not be written");
        }
        text
    }
}

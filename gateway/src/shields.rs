//! The shields before the probes of a plan: what apps have answered, who is being asked, and how often which of it happened.
//!
//! Shared by all workers. A shield outlives a reload where the question is the same: the probe as it is put to the app, the app's servers, and what
//! the service changes about requests. How long answers serve may change meanwhile.

mod flight;
mod kept;
mod question;
mod room;
mod shield;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use secrecy::ExposeSecret as _;

pub use self::flight::{Asked, Flight, Landed};
pub use self::kept::{Kept, LARGEST};
pub use self::question::Question;
pub use self::room::{Alone, Asker};
pub use self::shield::{Flying, Found, Looked, Shield, Told};
use crate::plan::{Plan, Probe, ProbeForward, Serve, Service};
use crate::telemetry::metrics::Metrics;

/// Where the answer to a probe came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It was known.
    Hit,
    /// The app was asked for it.
    Miss,
    /// The app was being asked for somebody else.
    Coalesced,
    /// It is the app's last one, because it says nothing now.
    Stale,
    /// It was good once, and that is for good.
    Latched,
    /// The app was asked for nobody else.
    Bypass,
}

impl Source {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Hit, Self::Miss, Self::Coalesced, Self::Stale, Self::Latched, Self::Bypass];

    /// In `X-Probe-Cache`, in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Stale => "stale",
            Self::Latched => "latched",
            Self::Bypass => "bypass",
        }
    }
}

/// How often which of it happened to one probe. A probe keeps its counters over reloads.
#[derive(Debug, Default)]
pub struct Counts {
    answers: [AtomicU64; Source::ALL.len()],
    asks: AtomicU64,
}

impl Counts {
    /// Once more.
    pub fn add(&self, source: Source) {
        if let Some(counter) = self.answers.get(source as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often this happened.
    pub fn of(&self, source: Source) -> u64 {
        self.answers.get(source as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// The app is asked once more.
    pub fn asks_app(&self) {
        self.asks.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the app was asked.
    pub fn asks(&self) -> u64 {
        self.asks.load(Ordering::Relaxed)
    }
}

/// The shields of a plan.
#[derive(Debug, Default)]
pub struct Shields(Vec<Vec<Option<Arc<Shield>>>>);

impl Shields {
    /// The shields for `plan`; `before` are those of an earlier one. `origin` is the zero of their clock.
    pub fn new(plan: &Plan, before: Option<(&Plan, &Self)>, metrics: &Metrics, origin: Instant) -> Self {
        let of = |service: &Service, probe: &Probe| {
            let forward = shielded(probe)?;
            let fingerprint = fingerprint(service, forward);
            let earlier = before.and_then(|(plan, shields)| {
                let at = plan.services.iter().position(|known| known.name == service.name)?;
                let known = plan.services.get(at).filter(|known| known.handling.edits == service.handling.edits)?;
                let index = known.probes.iter().position(|known| known.kind == probe.kind)?;
                shields.of(at, index).filter(|shield| shield.fingerprint() == fingerprint)
            });
            let counts = || metrics.shield(&service.name, probe.kind);
            Some(earlier.map_or_else(|| Arc::new(Shield::new(fingerprint, counts(), origin)), Arc::clone))
        };
        Self(
            plan.services
                .iter()
                .map(|service| service.probes.iter().map(|probe| of(service, probe)).collect())
                .collect(),
        )
    }

    /// The shield before a probe; `None`: the app is asked by everybody.
    pub fn of(&self, service: usize, probe: usize) -> Option<&Arc<Shield>> {
        self.0.get(service)?.get(probe)?.as_ref()
    }
}

/// How a probe is put to the app, where there is a shield before it.
fn shielded(probe: &Probe) -> Option<&ProbeForward> {
    match &probe.serve {
        Serve::Forward(forward) if forward.cache.is_some() => Some(forward),
        Serve::Forward(_) | Serve::Answer(_) => None,
    }
}

/// Stands for all that the answer depends on, besides what the service changes about requests.
fn fingerprint(service: &Service, forward: &ProbeForward) -> u64 {
    let ProbeForward { path, host, own: _, token, timeout: _, cache: _, query } = forward;
    let mut hasher = DefaultHasher::new();
    (path, host, query).hash(&mut hasher);
    if let Some(token) = token {
        (&token.field, token.secret.expose_secret()).hash(&mut hasher);
    }
    for server in &service.upstream.servers {
        server.key.hash(&mut hasher);
    }
    hasher.finish()
}

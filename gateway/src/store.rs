//! The store of limits that several gateways share: Redis or Valkey, asked once for each request that meets such limits.
//!
//! * One script, one round trip: all shared limits of a request are charged in it, or none ([`redis::SCRIPT`]). The clock is the store's.
//! * Each worker has a connection of its own ([`link`]): a connection belongs to the event loop that drives it, and so no request waits for another thread to
//!   wake up, neither on its way there nor back. What a worker's requests ask at the same time shares that connection without waiting for each other.
//! * A request waits for the store for [`LimitStore::timeout`] at the most. When it fails, the request goes down the ladder of `limiter::shared`.
//! * The breaker is one for the process. While it is open nobody asks, and one worker at a time tries whether the store is back. Each change is one line in the log.
//!
//! Invariant: that the store is gone is neither an error of a request nor a reason not to start.

pub mod client;
mod cluster;
mod dial;
pub mod link;
mod pem;
pub mod redis;
pub mod stats;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use probegate_policies::breaker::{Breaker, Breaking, FAILURE, UNREACHABLE};

use self::client::{Client, Failed, Failure};
use self::redis::Script;
use self::stats::Stats;
use crate::plan::{LimitStore, OnFailure};

/// What each call of a trial may take at least, when the breaker is half open.
const TRIAL: Duration = Duration::from_millis(250);

/// Calls of one trial. One of them has to be answered as soon as a request would need it; a busy processor alone must not keep the breaker open.
const TRIALS: u32 = 3;

/// The store of a plan, for all workers.
#[derive(Debug)]
pub struct Store {
    plan: LimitStore,
    tls: Option<Arc<rustls::ClientConfig>>,
    script: Script,
    breaker: Breaker,
    /// The zero of the breaker's clock.
    origin: Instant,
    /// The sentinel that answered last.
    sentinel: AtomicUsize,
    /// Workers that are connected.
    connected: AtomicUsize,
    /// What happened, over reloads.
    pub stats: Arc<Stats>,
}

impl Store {
    /// The store of a plan. One that an earlier plan had with the same words keeps its connections; any keeps its counters.
    pub fn new(plan: Option<&LimitStore>, earlier: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let plan = plan?;
        if let Some(earlier) = earlier.filter(|earlier| earlier.plan.fingerprint == plan.fingerprint) {
            return Some(Arc::clone(earlier));
        }
        Some(Arc::new(Self {
            plan: plan.clone(),
            tls: plan.tls.as_ref().and_then(dial::config).map(Arc::new),
            script: Script::default(),
            breaker: Breaker::default(),
            origin: Instant::now(),
            sentinel: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            stats: earlier.map(|earlier| Arc::clone(&earlier.stats)).unwrap_or_default(),
        }))
    }

    /// Its plan.
    pub fn plan(&self) -> &LimitStore {
        &self.plan
    }

    /// Whether it is asked at all.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.breaker.is_closed()
    }

    /// What the breaker says.
    pub fn breaker(&self) -> Breaking {
        self.breaker.state()
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// Nobody is there, or nobody lets the gateway in.
    pub async fn connect(&self) -> Result<Box<dyn Client>, Failed> {
        redis::connect(&self.plan, self.tls.as_ref(), &self.script, &self.sentinel).await
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A call was answered.
    fn succeeded(&self, took: Duration) {
        self.stats.answered(took);
        self.breaker.succeeded();
    }

    /// A call failed, or an attempt to connect.
    fn failed(&self, failed: &Failed) {
        self.stats.failed(failed.kind);
        let weight = if failed.kind == Failure::Unreachable { UNREACHABLE } else { FAILURE };
        if self.breaker.failed(weight, self.now()) {
            self.stats.opened();
            let instead = match self.plan.on_failure {
                OnFailure::Local => format!("each gateway counts alone, with 1/{} of the limit", self.plan.replicas),
                OnFailure::Open => "requests on shared limits pass uncounted".to_owned(),
                OnFailure::Closed => "requests on shared limits are refused".to_owned(),
            };
            tracing::warn!(reason = failed.kind.label(), error = %failed, "the limit store is not asked any more: {instead}");
        }
    }

    /// A worker can not connect. Where another one is connected, the store is there, and this one goes on alone.
    fn unconnected(&self, failed: &Failed) {
        if self.connected.load(Ordering::Relaxed) == 0 {
            self.failed(failed);
        } else {
            self.stats.failed(failed.kind);
        }
    }

    /// A connection broke. Where another worker has one, that is no word about the store; whoever breaks is still counted.
    fn lost(&self, failed: &Failed) {
        if self.connected.load(Ordering::Relaxed) <= 1 {
            self.failed(failed);
        } else {
            self.stats.failed(failed.kind);
        }
    }

    /// The same, in words.
    pub fn failed_with(&self, kind: Failure, text: &str) {
        self.failed(&Failed { kind, text: text.to_owned() });
    }

    /// What each call of a trial may take: never less than a request waits, which decides whether it has succeeded.
    fn trial(&self) -> Duration {
        TRIAL.max(self.plan.timeout)
    }

    /// Whether it is up to the caller to try whether the store is back.
    fn is_due(&self) -> bool {
        let patience = u64::try_from((self.trial() * (TRIALS + 1)).as_nanos()).unwrap_or(u64::MAX);
        self.breaker.is_due(self.now(), patience)
    }

    /// What became of a trial.
    fn tried(&self, succeeded: bool) {
        if self.breaker.tried(succeeded, self.now()) {
            tracing::info!("the limit store is asked again");
        }
    }
}

//! The counters of one service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use probegate_policies::probe::ProbeKind;
use probegate_policies::reason::Reason;

use crate::telemetry::access_log::Decision;

/// Upper bounds of the latency histogram in microseconds: 1 ms to 60 s.
pub const BOUNDS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

const STATUSES: usize = 500;

/// What became of a request for a probe, as its number and its label.
const OUTCOMES: [&str; 5] = ["passed", "failed", "denied", "left", "busy"];

/// Which of [`OUTCOMES`]: whoever was not let in was denied; of the others, only success passes. Whoever left before the answer, or found no place for a
/// question of its own, has heard nothing of the app: anybody can do both at will.
fn outcome(sample: &Sample) -> usize {
    match (sample.decision, sample.reason) {
        (Decision::Deny | Decision::Refuse | Decision::Limit, _) => 2,
        (_, Some(Reason::ClientClosed)) => 3,
        (_, Some(Reason::ProbeBusy)) => 4,
        _ => usize::from(!(200..300).contains(&sample.status)),
    }
}

/// What is counted of one request.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The status the client saw.
    pub status: u16,
    /// What became of it.
    pub decision: Decision,
    /// Why it was refused or failed.
    pub reason: Option<Reason>,
    /// How long it took.
    pub duration: Duration,
    /// Bytes received.
    pub received: u64,
    /// Bytes of body sent.
    pub sent: u64,
    /// Which probe it was.
    pub probe: Option<ProbeKind>,
    /// The app was asked twice.
    pub retried: bool,
}

/// Counters of a service, a shard for every worker.
#[derive(Debug)]
pub struct ServiceStats {
    shards: Box<[Shard]>,
}

/// Aligned, so that no two workers write to one cache line (two lines are fetched at once on some machines).
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    statuses: Box<[AtomicU64]>,
    decisions: [AtomicU64; Decision::ALL.len()],
    reasons: Box<[AtomicU64]>,
    probes: [[AtomicU64; OUTCOMES.len()]; ProbeKind::ALL.len()],
    buckets: [AtomicU64; BOUNDS.len()],
    micros: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    retried: AtomicU64,
}

impl Default for Shard {
    fn default() -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            statuses: zeros(STATUSES),
            decisions: Default::default(),
            reasons: zeros(Reason::ALL.len()),
            probes: Default::default(),
            buckets: Default::default(),
            micros: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        }
    }
}

impl ServiceStats {
    /// Counters for this many workers.
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers.max(1)).map(|_| Shard::default()).collect() }
    }

    /// Counts a request that `worker` served.
    pub fn record(&self, worker: usize, sample: &Sample) {
        let Some(shard) = self.shards.get(worker).or_else(|| self.shards.first()) else {
            return;
        };
        let micros = u64::try_from(sample.duration.as_micros()).unwrap_or(u64::MAX);
        add(shard.statuses.get(usize::from(sample.status.saturating_sub(100))), 1);
        add(shard.decisions.get(sample.decision as usize), 1);
        if let Some(reason) = sample.reason {
            add(shard.reasons.get(reason as usize), 1);
        }
        if let Some(probe) = sample.probe {
            add(shard.probes.get(probe as usize).and_then(|counters| counters.get(outcome(sample))), 1);
        }
        add(BOUNDS.iter().position(|bound| micros <= *bound).and_then(|index| shard.buckets.get(index)), 1);
        add(Some(&shard.micros), micros);
        add(Some(&shard.received), sample.received);
        add(Some(&shard.sent), sample.sent);
        if sample.retried {
            add(Some(&shard.retried), 1);
        }
    }

    /// Statuses that clients saw, and how often.
    pub fn statuses(&self) -> impl Iterator<Item = (usize, u64)> {
        (0..STATUSES)
            .map(|index| (index + 100, self.sum(|shard| shard.statuses.get(index))))
            .filter(|(_, count)| *count > 0)
    }

    /// What became of requests, and how often.
    pub fn decisions(&self) -> impl Iterator<Item = (Decision, u64)> {
        Decision::ALL.into_iter().map(|decision| (decision, self.sum(|shard| shard.decisions.get(decision as usize))))
    }

    pub(super) fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .iter()
            .map(|reason| (*reason, self.sum(|shard| shard.reasons.get(*reason as usize))))
            .filter(|(_, count)| *count > 0)
    }

    /// Requests for probes, by what became of them.
    pub fn probes(&self) -> impl Iterator<Item = (ProbeKind, &'static str, u64)> {
        ProbeKind::ALL.into_iter().flat_map(move |kind| {
            let count = move |outcome| self.sum(|shard| shard.probes.get(kind as usize)?.get(outcome));
            OUTCOMES.into_iter().enumerate().map(move |(index, label)| (kind, label, count(index)))
        })
    }

    /// Cumulative counts below each bound.
    pub fn buckets(&self) -> Vec<u64> {
        let counts = (0..BOUNDS.len()).map(|index| self.sum(|shard| shard.buckets.get(index)));
        counts
            .scan(0, |below, count| {
                *below += count;
                Some(*below)
            })
            .collect()
    }

    pub(super) fn seconds(&self) -> f64 {
        Duration::from_micros(self.sum(|shard| Some(&shard.micros))).as_secs_f64()
    }

    /// Bytes received.
    pub fn received(&self) -> u64 {
        self.sum(|shard| Some(&shard.received))
    }

    /// Bytes of body sent.
    pub fn sent(&self) -> u64 {
        self.sum(|shard| Some(&shard.sent))
    }

    pub(super) fn retried(&self) -> u64 {
        self.sum(|shard| Some(&shard.retried))
    }

    fn sum<'a>(&'a self, counter: impl Fn(&'a Shard) -> Option<&'a AtomicU64>) -> u64 {
        self.shards.iter().filter_map(counter).map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

/// A shard has one writer, so an addition is a load and a store: no locked instruction.
fn add(counter: Option<&AtomicU64>, amount: u64) {
    if let Some(counter) = counter {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

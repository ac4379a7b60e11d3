//! What is known about one server, shared by all workers and kept over reloads.
//!
//! Everything a choice looks at is an atomic number of its own: readers never wait. A choice that was made on numbers that were true a moment ago
//! is as good as any.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use probegate_policies::ejection::{Entry, Record};

/// What active checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Nothing (yet).
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not: it gets no requests.
    Down,
}

/// Where the milliseconds in a mark begin.
const ROUND: u32 = u16::BITS;

/// One server. Aligned, so that no two of them lie in one cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServerState {
    /// Requests that it is at, where somebody has to know.
    pub(super) in_flight: AtomicU32,
    /// What readers need of `record`, written under its lock: milliseconds since the origin up to which it is left out, 0 when it is not, and in the lowest
    /// 16 bits the record's round.
    mark: AtomicU64,
    health: AtomicU8,
    drained: AtomicBool,
    /// Milliseconds since the origin at which it came back; 0: it never went.
    pub(super) back_since: AtomicU64,
    /// Touched when a request failed, and when a server is back.
    record: Mutex<Record>,
    pub(super) failures: AtomicU64,
    pub(super) ejections: AtomicU64,
    /// How often nobody was there.
    pub(super) gone: AtomicU64,
    shards: Box<[Shard]>,
}

/// What one worker counts.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    sent: AtomicU64,
    ended: AtomicU64,
}

impl ServerState {
    /// A server that nothing is known about.
    pub(super) fn new(workers: usize) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            mark: AtomicU64::new(0),
            health: AtomicU8::new(Health::Unknown as u8),
            drained: AtomicBool::new(false),
            back_since: AtomicU64::new(0),
            record: Mutex::default(),
            failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            shards: (0..workers.max(1)).map(|_| Shard::default()).collect(),
        }
    }

    /// Whether it may get requests like any other: not drained, not down, not left out. `now`: since the origin.
    pub fn is_eligible(&self, now: Duration) -> bool {
        self.may_be_asked() && !self.is_left_out(now)
    }

    /// Whether it may get a request at all: neither drained nor down.
    pub fn may_be_asked(&self) -> bool {
        !self.is_drained() && self.health() != Health::Down
    }

    /// Whether requests failed, and the time for which it is left out has not passed.
    pub fn is_left_out(&self, now: Duration) -> bool {
        let until = self.mark.load(Ordering::Relaxed) >> ROUND;
        until != 0 && millis(now) < until
    }

    /// For how long it is left out.
    pub(super) fn left_out_for(&self, now: Duration) -> Duration {
        Duration::from_millis(self.mark.load(Ordering::Relaxed) >> ROUND).saturating_sub(now)
    }

    /// Whether requests failed, and none has succeeded since.
    pub fn is_ejected(&self) -> bool {
        self.mark.load(Ordering::Relaxed) >> ROUND != 0
    }

    /// A request enters; as [`Record::enter`]. Locks only where the server is left out.
    pub(super) fn enter(&self, eligible: bool, lease: Duration, now: Duration) -> Option<Entry> {
        let mark = self.mark.load(Ordering::Relaxed);
        if mark >> ROUND == 0 {
            return u16::try_from(mark & u64::from(u16::MAX)).ok().map(Entry::Ordinary);
        }
        self.change(|record| record.enter(eligible, lease, now))
    }

    /// A request is over, and nobody found out.
    pub(super) fn left(&self, entry: Entry, now: Duration) {
        if matches!(entry, Entry::Trial { .. }) {
            self.change(|record| record.left(entry, now));
        }
    }

    /// Changes what is known from requests.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut record);
        // Up, so that nobody is told that the time is over before it is.
        let until = record.until().map_or(0, |until| millis(until + Duration::from_nanos(999_999)));
        self.mark.store(until << ROUND | u64::from(record.round()), Ordering::Relaxed);
        changed
    }

    /// What active checks say.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            1 => Health::Up,
            2 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Whether it gets no new requests because somebody wants it so. What it is at goes on.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Requests that it is at: what was sent to it and has not come to an end.
    pub fn in_flight(&self) -> u64 {
        // What has ended first: what ends while this adds up must not count as more than was sent.
        let ended = self.sum(|shard| &shard.ended);
        self.sent().saturating_sub(ended)
    }

    /// Requests that were sent to it, those sent again included.
    pub fn sent(&self) -> u64 {
        self.sum(|shard| &shard.sent)
    }

    /// Requests that it failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How often it was left out.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// What active checks say from now on. Whether it changed. Only [`super::Servers`] calls this: it knows who waits.
    pub(super) fn set_health(&self, health: Health) -> bool {
        self.health.swap(health as u8, Ordering::Relaxed) != health as u8
    }

    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::Relaxed) != drained
    }

    /// When it came back, for [`probegate_policies::ejection::ramp`].
    pub(super) fn back_since(&self) -> Option<Duration> {
        Some(self.back_since.load(Ordering::Relaxed)).filter(|at| *at != 0).map(Duration::from_millis)
    }

    /// It is back, and gets its share slowly.
    pub(super) fn begin_slowly(&self, now: Duration) {
        self.back_since.store(millis(now), Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, worker: usize) {
        self.count(worker, |shard| &shard.sent);
    }

    pub(super) fn count_ended(&self, worker: usize) {
        self.count(worker, |shard| &shard.ended);
    }

    /// A shard has one writer, so an addition is a load and a store: no locked instruction.
    fn count(&self, worker: usize, counter: impl Fn(&Shard) -> &AtomicU64) {
        if let Some(counter) = self.shards.get(worker).or_else(|| self.shards.first()).map(counter) {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(counter).map(|counter| counter.load(Ordering::Acquire)).sum()
    }
}

/// Milliseconds since the origin, never 0, which stands for "never".
pub(super) fn millis(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1)
}

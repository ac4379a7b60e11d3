//! What apps have said to their probes lately: a ring for each probe, over all workers.
//!
//! Written when an app was asked and only then: what is answered from behind the shield, or by the gateway, passes by here. So a lock for a moment is
//! nothing beside the exchange with the app that came before it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use probegate_policies::reason::Reason;

use crate::plan::{Plan, Serve};
use crate::shields::Source;

/// Answers of one probe that are remembered.
pub const LENGTH: usize = 120;

/// One time that an app was asked.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When it answered, in milliseconds since the epoch.
    pub at: u64,
    /// Its status; `None`: it said nothing.
    pub status: Option<u16>,
    /// Why there is no answer.
    pub reason: Option<Reason>,
    /// How long that took.
    pub took: Duration,
    /// Whom it was asked for: everybody who waited behind the shield (`miss`), or one client alone (`bypass`).
    pub source: Source,
    /// The server that was asked last.
    pub server: Option<Box<str>>,
}

impl Heard {
    /// Whether it did its part.
    pub fn is_good(&self) -> bool {
        self.reason.is_none() && self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

/// What one app has said to one probe.
#[derive(Debug, Default)]
pub struct History(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    ring: VecDeque<Heard>,
    /// The latest that tells how the app is.
    settled: Option<Heard>,
    /// Since when those are as they are, in milliseconds since the epoch.
    since: u64,
    /// How many of those there were ever.
    counts: Counts,
}

/// How often an app passed and failed a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// With 2xx.
    pub passed: u64,
    /// With anything else, or without an answer.
    pub failed: u64,
}

impl History {
    /// Remembers one more. The time is now. `settles`: it tells how the app is. What it says to strangers who make up questions does not: they would
    /// have it fail at will.
    pub fn add(&self, mut heard: Heard, settles: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        heard.at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if settles {
            let good = heard.is_good();
            if told.settled.as_ref().is_none_or(|last| last.is_good() != good) {
                told.since = heard.at;
            }
            let count = if good { &mut told.counts.passed } else { &mut told.counts.failed };
            *count += 1;
            told.settled = Some(heard.clone());
        }
        if told.ring.len() >= LENGTH {
            told.ring.pop_front();
        }
        told.ring.push_back(heard);
    }

    /// The latest, the oldest of them first.
    pub fn last(&self, most: usize) -> Vec<Heard> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = told.ring.len().saturating_sub(most);
        told.ring.iter().skip(skip).cloned().collect()
    }

    /// The latest that tells how the app is, and since when those are good or bad as it is (milliseconds since the epoch).
    pub fn settled(&self) -> Option<(Heard, u64)> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some((told.settled.clone()?, told.since))
    }

    /// How many of those there were ever.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts
    }
}

/// The histories of probes, by service and probe. A probe keeps its own over reloads.
#[derive(Debug, Default)]
pub struct Histories(Mutex<BTreeMap<Name, Arc<History>>>);

/// A probe, by its service and its own name.
type Name = (Box<str>, &'static str);

impl Histories {
    /// Those of a plan, by service and probe; `None`: the gateway answers. Others are forgotten.
    pub fn attach(&self, plan: &Plan) -> Vec<Vec<Option<Arc<History>>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *known);
        let mut all = Vec::with_capacity(plan.services.len());
        for service in &plan.services {
            let mut of = Vec::with_capacity(service.probes.len());
            for probe in &service.probes {
                let forwarded = matches!(probe.serve, Serve::Forward(_));
                of.push(forwarded.then(|| {
                    let name = (service.name.clone(), probe.kind.name());
                    let history = before.remove(&name).unwrap_or_default();
                    known.insert(name, Arc::clone(&history));
                    history
                }));
            }
            all.push(of);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(status: Option<u16>, reason: Option<Reason>) -> Heard {
        Heard { at: 0, status, reason, took: Duration::ZERO, source: Source::Miss, server: None }
    }

    #[test]
    fn the_latest_stay_and_a_turn_is_remembered() {
        let history = History::default();
        for _ in 0..LENGTH + 5 {
            history.add(heard(Some(200), None), true);
        }
        let all = history.last(usize::MAX);
        let good = history.settled().unwrap().1;
        assert_eq!(all.len(), LENGTH);
        assert!(all.iter().all(Heard::is_good) && good > 0 && good <= all[0].at);
        history.add(heard(Some(406), None), false);
        assert!(history.settled().unwrap().0.is_good(), "a question that somebody made up");
        history.add(heard(None, Some(Reason::UpstreamTimeout)), true);
        let three = history.last(3);
        assert_eq!(three.iter().map(Heard::is_good).collect::<Vec<_>>(), [true, false, false]);
        let bad = history.settled().unwrap().1;
        assert_eq!(bad, three[2].at);
        history.add(heard(Some(503), None), true);
        assert_eq!(history.settled().unwrap().1, bad, "bad as before");
        assert_eq!(history.counts(), Counts { passed: LENGTH as u64 + 5, failed: 2 });
        assert!(!heard(Some(200), Some(Reason::UpstreamInvalid)).is_good());
    }
}

//! What is known about the services of aggregates: how each of them did when it was asked last, and what was said about that.
//!
//! Shared by all workers. What is known outlives a reload, by the names of the aggregate and of the service.
//!
//! Invariant: nobody is asked here. Whoever asks tells what was seen ([`Board::tell`]); checks of servers tell by themselves.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use probegate_policies::aggregate::{Member, Need, Verdict, verdict};
use probegate_policies::reason::Reason;
use probegate_policies::version::Agreement;

use crate::plan::{Aggregate, AggregateSource, Plan};
use crate::readiness;
use crate::servers::{Health, Servers, Site};
use crate::state::{Active, State};
use crate::versions::Fleet;

/// The name under which the gateway itself is told among services.
pub const GATEWAY: &str = Aggregate::GATEWAY;

/// What an observation found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The service answered with this status.
    Status(u16),
    /// It did not answer, for this reason.
    Reason(Reason),
    /// It passes again, but not often enough yet.
    Recovering,
    /// Too few of its servers are up.
    ServersDown,
    /// Nobody has asked it yet.
    Unknown,
    /// Its servers do not run one version, or the gateway is not ready: in one word.
    Word(&'static str),
}

impl Why {
    /// In answers and logs.
    pub fn label(self) -> Cow<'static, str> {
        match self {
            Self::Status(status) => format!("status_{status}").into(),
            Self::Reason(reason) => reason.label().into(),
            Self::Recovering => "recovering".into(),
            Self::ServersDown => "servers_down".into(),
            Self::Unknown => "unknown".into(),
            Self::Word(word) => word.into(),
        }
    }
}

/// An observation: its number, and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Grows with time, and is the same for all who see the same.
    pub number: u64,
    /// What it found.
    pub found: Result<(), Why>,
}

/// What is said about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it passes.
    pub passes: bool,
    /// What the last observation found wrong.
    pub why: Option<Why>,
}

impl Standing {
    /// Whether nobody has asked yet.
    pub fn is_unknown(&self) -> bool {
        self.why == Some(Why::Unknown)
    }
}

/// What is known about the services of a plan's aggregates, in the plan's order.
#[derive(Debug, Default)]
pub struct Aggregates(Vec<Board>);

impl Aggregates {
    /// For `plan`; `before` are those of an earlier one.
    pub fn new(plan: &Plan, before: Option<(&Plan, &Self)>) -> Self {
        let board = |aggregate: &Aggregate| {
            let earlier = before.and_then(|(plan, boards)| {
                boards.0.get(plan.aggregates.iter().position(|known| known.name == aggregate.name)?)
            });
            Board::new(plan, aggregate, earlier)
        };
        Self(plan.aggregates.iter().map(board).collect())
    }

    /// What is known about the services of one of them.
    pub fn get(&self, index: usize) -> Option<&Board> {
        self.0.get(index)
    }
}

/// What is known about the services of one aggregate.
#[derive(Debug)]
pub struct Board {
    /// In the order of its members. Locked for a moment by everybody who asks.
    entries: Mutex<Vec<Entry>>,
    /// What was found last about versions, by service, in the order of [`Aggregate::one_version`].
    versions: Mutex<Vec<(Arc<str>, Standing)>>,
    /// What was said last about all of them, as a number; 0: nothing.
    said: AtomicU8,
    /// When that was, in seconds since the epoch; 0: never.
    asked: AtomicU64,
}

/// What is known about one service.
#[derive(Clone, Debug)]
struct Entry {
    service: Arc<str>,
    member: Member,
    why: Option<Why>,
}

impl Board {
    fn new(plan: &Plan, aggregate: &Aggregate, earlier: Option<&Self>) -> Self {
        let known = earlier.map(|earlier| earlier.lock().clone()).unwrap_or_default();
        let entries = aggregate.members.iter().map(|member| {
            let name = plan.services.get(member.service).map_or("", |service| &service.name);
            let known = known.iter().find(|known| *known.service == *name);
            known.cloned().unwrap_or_else(|| Entry { service: name.into(), member: Member::default(), why: None })
        });
        let said = earlier.map_or(0, |earlier| earlier.said.load(Ordering::Relaxed));
        let asked = AtomicU64::new(earlier.and_then(Self::asked).unwrap_or_default());
        let unknown = Standing { passes: false, why: Some(Why::Unknown) };
        let known = earlier.map(|earlier| earlier.compared().clone()).unwrap_or_default();
        let versions = aggregate.one_version.iter().map(|&service| {
            let name = plan.services.get(service).map_or("", |service| &service.name);
            let known = known.iter().find(|(service, _)| **service == *name);
            known.cloned().unwrap_or_else(|| (name.into(), unknown))
        });
        let versions = Mutex::new(versions.collect());
        Self { entries: Mutex::new(entries.collect()), versions, said: AtomicU8::new(said), asked }
    }

    /// Takes what was seen, in the order of the members (`None`: nothing), and tells what is said from here on. Whoever turns is logged.
    pub fn tell(&self, aggregate: &Aggregate, seen: &[Option<Seen>]) -> Vec<Standing> {
        let AggregateSource::Probes { terms, .. } = aggregate.source else { return Vec::new() };
        let (mut entries, mut turned) = (self.lock(), Vec::new());
        for (entry, seen) in entries.iter_mut().zip(seen) {
            let Some(Seen { number, found }) = *seen else { continue };
            let known = entry.member;
            let turn = entry.member.observe(number, found.is_ok(), terms);
            if entry.member != known {
                entry.why = found.err();
            }
            turned.extend(turn.map(|passes| (Arc::clone(&entry.service), passes, entry.why)));
        }
        let standings = entries.iter().map(Entry::standing).collect();
        drop(entries);
        for (service, passes, why) in turned {
            if passes {
                tracing::info!(aggregate = &*aggregate.name, service = &*service, "service passes");
            } else {
                let why = why.map_or_else(|| "".into(), Why::label);
                tracing::warn!(aggregate = &*aggregate.name, service = &*service, why = &*why, "service does not pass");
            }
        }
        standings
    }

    /// Takes what was found about versions, in the order of [`Aggregate::one_version`].
    pub fn compare(&self, found: Vec<Standing>) {
        for ((_, standing), found) in self.compared().iter_mut().zip(found) {
            *standing = found;
        }
    }

    /// What was found last about versions, in the order of [`Aggregate::one_version`].
    pub fn versions(&self) -> Vec<Standing> {
        self.compared().iter().map(|(_, standing)| *standing).collect()
    }

    /// When somebody asked last, in seconds since the epoch.
    pub fn asked(&self) -> Option<u64> {
        Some(self.asked.load(Ordering::Relaxed)).filter(|&at| at > 0)
    }

    /// Remembers what is said about all of them at this time; logs it where that is something else than before.
    pub fn say(&self, aggregate: &Aggregate, verdict: Verdict, unix: u64) {
        self.asked.store(unix, Ordering::Relaxed);
        let number = match verdict {
            Verdict::Pass => 1,
            Verdict::Warn => 2,
            Verdict::Fail => 3,
        };
        let before = self.said.swap(number, Ordering::Relaxed);
        if (before == 3) != (number == 3) {
            if number == 3 {
                tracing::warn!(aggregate = &*aggregate.name, "aggregate fails");
            } else if before != 0 {
                tracing::info!(aggregate = &*aggregate.name, "aggregate passes");
            }
        }
    }

    fn compared(&self) -> MutexGuard<'_, Vec<(Arc<str>, Standing)>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn standing(&self) -> Standing {
        let passes = self.member.passes();
        let why = match self.why {
            None if !self.member.is_known() => Some(Why::Unknown),
            None if !passes => Some(Why::Recovering),
            why => why,
        };
        Standing { passes, why }
    }
}

/// What is said about the services of an aggregate, as far as it is known without asking anybody, in the order of its members.
pub fn standings(active: &Active, index: usize) -> Vec<Standing> {
    let Some(aggregate) = active.plan.aggregates.get(index) else { return Vec::new() };
    match aggregate.source {
        AggregateSource::Probes { .. } => active
            .aggregates
            .get(index)
            .map_or_else(Vec::new, |board| board.lock().iter().map(Entry::standing).collect()),
        AggregateSource::Checks { up } => {
            let servers = aggregate.members.iter().map(|member| active.servers.get(member.service));
            servers.map(|servers| checked(servers.map(|servers| &**servers), up)).collect()
        }
    }
}

/// What follows for all of them. `standings`: in the order of the members; `versions`: in the order of [`Aggregate::one_version`]; `own`: about the gateway.
pub fn conclude(
    aggregate: &Aggregate,
    standings: &[Standing],
    versions: &[Standing],
    own: Option<Standing>,
) -> Verdict {
    let members = aggregate.members.iter().zip(standings).map(|(member, standing)| (member.need, standing.passes));
    verdict(members.chain(versions.iter().copied().chain(own).map(|standing| (Need::Required, standing.passes))))
}

/// Whether nothing speaks against it but that nobody has asked yet, about some of `parts`.
pub fn is_pending<'a>(verdict: Verdict, parts: impl IntoIterator<Item = &'a Standing>) -> bool {
    verdict == Verdict::Fail && parts.into_iter().all(|part| part.passes || part.is_unknown())
}

/// What is said about the gateway itself; `None`: nothing.
pub fn gateway(aggregate: &Aggregate, active: &Active, state: &State) -> Option<Standing> {
    aggregate.gateway.then(|| {
        let wrong = readiness::reasons(state, active).first().map(|wrong| Why::Word(wrong.reason));
        Standing { passes: wrong.is_none(), why: wrong }
    })
}

/// What is said about the versions of a service; `None`: nobody could be asked in time.
pub fn compared(fleet: Option<&Fleet>) -> Standing {
    let agreement = fleet.map_or(Agreement::Unknown, Fleet::agreement);
    let why = readiness::differing(agreement).map(Why::Word);
    Standing { passes: why.is_none(), why }
}

/// What the checks of its servers say about a service. One that was not checked yet, or is drained, is not up.
fn checked(servers: Option<&Servers>, up: u32) -> Standing {
    let in_turn = |servers: &'_ Servers| {
        let sites = servers.sites().iter().filter(|site| readiness::is_in_turn(servers, site));
        let passes = |site: &&Site| site.state.health() == Health::Up && !site.state.is_drained();
        (sites.clone().count(), sites.filter(passes).count())
    };
    let (all, passing) = servers.map(in_turn).unwrap_or_default();
    let passes = passing > 0 && passing * 100 >= all * up as usize;
    Standing { passes, why: (!passes).then_some(Why::ServersDown) }
}

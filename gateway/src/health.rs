//! Active checks: servers are asked whether they do their part, whether or not a client asks them anything.
//!
//! Once for the whole process, by a thread of its own with connections of its own, so that checks compete with no request. What they find is written
//! where every worker looks ([`crate::servers::Servers::set_health`]).
//!
//! A check belongs to a server of a service and to what it asks. A reload that changes neither leaves it running, with all it knows; one that changes
//! either begins anew, at once, with a server that nothing is known about. Nobody is checked once the listeners are closed.
//!
//! Invariant: a server is down because of checks that failed, and for no other reason.

pub(crate) mod check;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use probegate_policies::health::{self, Record, Verdict};
use probegate_policies::reason::Reason;
use tokio::task::{JoinHandle, LocalSet};

use self::check::Failed;
use crate::servers::Health;
use crate::state::{Active, State};
use crate::upstream::Pools;
use crate::wire::deadline::{Deadlines, TICK};

/// How often a new plan is looked for while nothing is checked.
const IDLE: Duration = Duration::from_millis(500);

/// What checks have found, for people.
#[derive(Debug, Default)]
pub struct Reports {
    /// By service and label of the server.
    found: Mutex<BTreeMap<Name, Report>>,
}

/// A server, by its service and its label.
type Name = (Box<str>, Box<str>);

/// What the checks of one server have found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Checks that passed.
    pub passed: u64,
    /// Checks that failed.
    pub failed: u64,
    /// Why the last one failed; `None`: it passed.
    pub why: Option<String>,
}

impl Reports {
    /// What was found about a server; `None`: nothing, or nobody checks it.
    pub fn of(&self, service: &str, server: &str) -> Option<Report> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&(service.into(), server.into())).cloned()
    }

    /// All that was found, by service and server.
    pub fn all(&self) -> Vec<(Box<str>, Box<str>, Report)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().map(|((service, server), report)| (service.clone(), server.clone(), report.clone())).collect()
    }

    fn add(&self, (service, server): (&str, &str), outcome: Result<(), Failed>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let report = found.entry((service.into(), server.into())).or_default();
        match outcome {
            Ok(()) => report.passed += 1,
            Err(_) => report.failed += 1,
        }
        report.why = outcome.err().map(|why| why.to_string());
    }

    /// Forgets what is not checked any more. Counters must not come back with other values, so those that stay are kept as they are.
    fn keep(&self, kept: impl Fn(&str, &str) -> bool) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|(service, server), _| kept(service, server));
    }
}

/// Starts the thread. It ends with the state, and when the listeners are closed or a new process has them.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start(state: &Arc<State>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = Arc::downgrade(state);
    let thread = std::thread::Builder::new().name("health".to_owned());
    thread.spawn(move || LocalSet::new().block_on(&runtime, supervise(&state))).map(drop)
}

/// Which check: the service, the key of the server, and what is asked.
type Key = (Box<str>, u64, u64);

/// Follows the plans in force.
async fn supervise(state: &Weak<State>) {
    let deadlines = Deadlines::new(Instant::now());
    let pools = Rc::new(Pools::new(0, Rc::clone(&deadlines)));
    let mut running: HashMap<Key, JoinHandle<()>> = HashMap::new();
    let mut generation = 0;
    loop {
        let Some(state) = state.upgrade().filter(|state| !state.is_closing() && !state.is_handed_over()) else { break };
        if generation != state.generation() {
            generation = state.generation();
            follow(&state, &pools, &deadlines, &mut running);
        }
        drop(state);
        tokio::time::sleep(if running.is_empty() { IDLE } else { TICK }).await;
        let now = Instant::now();
        deadlines.sweep(now);
        pools.sweep(now);
    }
    for task in running.into_values() {
        task.abort();
    }
}

/// Starts what the plan in force asks for, and ends what it does not.
fn follow(
    state: &Arc<State>,
    pools: &Rc<Pools>,
    deadlines: &Rc<Deadlines>,
    running: &mut HashMap<Key, JoinHandle<()>>,
) {
    let active = state.active();
    let mut before = std::mem::take(running);
    for (service, servers) in active.plan.services.iter().zip(&active.servers) {
        for (index, server) in service.upstream.servers.iter().enumerate() {
            let Some(check) = &service.upstream.health else {
                servers.set_health(index, Health::Unknown);
                continue;
            };
            let key = (service.name.clone(), server.key, check.fingerprint);
            let task = before.remove(&key).filter(|task| !task.is_finished()).unwrap_or_else(|| {
                servers.set_health(index, Health::Unknown);
                let watch = Watch {
                    key: key.clone(),
                    state: Arc::downgrade(state),
                    pools: Rc::clone(pools),
                    deadlines: Rc::clone(deadlines),
                };
                tokio::task::spawn_local(watch.run())
            });
            running.insert(key, task);
        }
    }
    for task in before.into_values() {
        task.abort();
    }
    state.health.keep(|service, server| {
        let mut services = active.plan.services.iter();
        let found = services.find(|known| &*known.name == service && known.upstream.health.is_some());
        found.is_some_and(|found| found.upstream.servers.iter().any(|known| &*known.label == server))
    });
}

/// The checks of one server.
struct Watch {
    key: Key,
    state: Weak<State>,
    pools: Rc<Pools>,
    deadlines: Rc<Deadlines>,
}

impl Watch {
    async fn run(self) {
        let mut record = Record::default();
        let deadline = self.deadlines.slot();
        while let Some((state, active)) = self.state.upgrade().map(|state| (Arc::clone(&state), state.active())) {
            // The plan may be another one than at the start; what the check depends on is the same.
            let Some((service, index)) = self.find(&active) else { return };
            let Some(service) = active.plan.services.get(service) else { return };
            let (Some(check), Some(server)) = (&service.upstream.health, service.upstream.servers.get(index)) else {
                return;
            };
            let (begun, interval) = (Instant::now(), check.interval);
            // What ends the gateway must not wait for a check.
            drop(state);
            let outcome = check::run(&self.pools, &service.upstream, index, check, &deadline).await;
            // What this gateway lacks itself says nothing about the server.
            let told = outcome != Err(Failed::Reason(Reason::UpstreamBusy));
            if outcome == Err(Failed::Reason(Reason::UpstreamUnreachable))
                && let Some((at, index)) = self.find(&active)
                && let Some(servers) = active.servers.get(at)
            {
                servers.was_gone(index);
            }
            let verdict = if told { record.add(outcome.is_ok(), check.terms) } else { None };
            let Some(state) = self.state.upgrade() else { return };
            state.health.add((&service.name, &server.label), outcome);
            if let Some(verdict) = verdict {
                self.tell(&state, verdict, &service.name, &server.label, outcome);
            }
            drop((state, active));
            let pause = health::pause(interval, fastrand::u64(..));
            tokio::time::sleep(pause.saturating_sub(begun.elapsed()).max(Duration::from_millis(1))).await;
        }
    }

    /// Index of the service in this plan, and of the server in it.
    fn find(&self, active: &Active) -> Option<(usize, usize)> {
        let (name, key, _) = &self.key;
        let service = active.plan.services.iter().position(|service| service.name == *name)?;
        let servers = &active.plan.services.get(service)?.upstream.servers;
        Some((service, servers.iter().position(|server| server.key == *key)?))
    }

    fn tell(&self, state: &State, verdict: Verdict, service: &str, server: &str, outcome: Result<(), Failed>) {
        let health = match verdict {
            Verdict::Unknown => Health::Unknown,
            Verdict::Up => Health::Up,
            Verdict::Down => Health::Down,
        };
        // Of the plan in force now: who waits for a place, waits there.
        let active = state.active();
        if let Some((at, index)) = self.find(&active)
            && let Some(servers) = active.servers.get(at)
        {
            servers.set_health(index, health);
        }
        match outcome {
            Ok(()) => tracing::info!(service, server, "server is up"),
            Err(why) => tracing::warn!(service, server, %why, "server is down"),
        }
    }
}

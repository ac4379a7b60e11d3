//! Switches from one slot of a service to another: started by a command, carried out by a thread of their own, and remembered until the next one.
//!
//! What is decided lies in [`probegate_policies::switch`]. What requests look at lies in [`crate::slots`]. What must survive the process lies in
//! [`crate::switches`]: a switch that has moved something goes on after a restart, with the stage that it was at, which begins anew, and with what
//! was seen of it until it was written. One that only asked is forgotten: nothing has moved.
//!
//! Invariant: what has moved is written with the move, and only by the process in charge ([`crate::switches::Switches::hold`]).

mod ask;
mod ready;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use probegate_policies::switch::{self, Counts, InvalidShares, Stage, Tolerance};
use tokio::task::LocalSet;

use crate::plan::Slots;
use crate::state::{Active, State};
use crate::switches::Underway;
use crate::upstream::Pools;
use crate::wire::deadline::{Deadlines, TICK};

/// Lines that are kept of a switch; the oldest go first.
const LINES: usize = 1000;

/// How a switch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new slot has everything, and has stood the time.
    Done,
    /// A check did not pass: nothing has moved.
    Refused,
    /// It went wrong: everything is back.
    Returned,
    /// Somebody wanted it: everything is back.
    Aborted,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Returned, Self::Aborted];

    /// In a word: a metric label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Returned => "returned",
            Self::Aborted => "aborted",
        }
    }
}

/// What is wanted of a switch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Shares, and how long each lasts.
    pub stages: Vec<Stage>,
    /// How many errors are too many.
    pub tolerance: Tolerance,
    /// Requests without which it goes back at its end.
    pub required: u64,
    /// Requests with idempotent methods that fail are sent to the old slot.
    pub retry: bool,
    /// The version that the new slot has to be.
    pub version: Option<Box<str>>,
    /// Nothing is asked before it moves.
    pub force: bool,
}

/// The stages that shares such as `5,25` mean, `step` for each of them, and `bake` for everything.
///
/// # Errors
/// What is wrong with them.
pub fn stages(shares: &str, step: Duration, bake: Duration) -> Result<Vec<Stage>, String> {
    let none = |share: &str| format!("`{share}` in `percent` is no share from 1 to 100");
    let each = shares.split(',').map(|text| text.trim().trim_end_matches('%').parse::<u8>().map_err(|_| none(text)));
    let each = each.collect::<Result<Vec<_>, _>>()?;
    switch::stages(&each, step, bake).map_err(|why| match why {
        InvalidShares::Range(share) => none(&share.to_string()),
        InvalidShares::Order(one, next) => format!("`percent` has to grow, and {next} comes behind {one}"),
    })
}

/// Where a switch is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// The servers are asked.
    Checking,
    /// The new slot has this share, for so long.
    Moving {
        /// In percent.
        share: u8,
        /// Until the next stage, or the end.
        left: Duration,
        /// What was seen of it.
        seen: Counts,
    },
    /// It is over.
    Ended(Outcome, String),
}

/// One thing that was seen or done.
#[derive(Clone, Debug)]
pub struct Line {
    /// Milliseconds since the epoch.
    pub at: u64,
    /// What.
    pub text: String,
}

/// One switch, from its beginning to the next one's.
#[derive(Debug)]
pub struct Run {
    /// What tells it from others.
    pub id: Box<str>,
    /// The service.
    pub service: Box<str>,
    /// Where requests come from.
    pub from: Box<str>,
    /// Where they go.
    pub to: Box<str>,
    /// What is wanted; `None`: it goes on after a restart.
    wanted: Option<Wanted>,
    abort: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    claimed: bool,
    phase: Phase,
    /// What was counted of the slot by this process when the phase began to be.
    counted: Counts,
    /// What is seen of it is everything since it began: no process before has taken any of it along.
    whole: bool,
    /// How many lines there were before those that are kept.
    before: usize,
    lines: Vec<Line>,
}

impl Run {
    fn new(id: Box<str>, service: &str, from: &str, to: &str, wanted: Option<Wanted>) -> Arc<Self> {
        let told = Told {
            claimed: false,
            phase: Phase::Checking,
            counted: Counts::default(),
            whole: false,
            before: 0,
            lines: Vec::new(),
        };
        Arc::new(Self {
            id,
            service: service.into(),
            from: from.into(),
            to: to.into(),
            wanted,
            abort: AtomicBool::new(false),
            told: Mutex::new(told),
        })
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.told().phase.clone()
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.told().phase, Phase::Ended(..))
    }

    /// The lines behind the first `since`, and how many there are in all.
    pub fn lines(&self, since: usize) -> (Vec<Line>, usize) {
        let told = self.told();
        let lines = told.lines.iter().skip(since.saturating_sub(told.before)).cloned().collect();
        (lines, told.before + told.lines.len())
    }

    /// Everything is to go back.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    /// Whether anything is to move: else it is only asked which version runs.
    pub fn moves(&self) -> bool {
        self.from != self.to
    }

    fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    fn say(&self, text: String) {
        tracing::info!(service = &*self.service, slot = &*self.to, "switch: {text}");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut told = self.told();
        if told.lines.len() >= LINES {
            told.lines.remove(0);
            told.before += 1;
        }
        told.lines.push(Line { at, text });
    }

    fn is_at(&self, phase: Phase) {
        self.told().phase = phase;
    }

    /// As [`Run::is_at`], for what goes on: with what was `counted` when it was looked at.
    fn moves_on(&self, phase: Phase, counted: Counts) {
        let mut told = self.told();
        (told.phase, told.counted) = (phase, counted);
    }

    fn is_whole(&self, whole: bool) {
        self.told().whole = whole;
    }

    /// What was seen of the new slot until now, also what has ended since anybody has looked, and whether that is everything. `None`: it does not move.
    fn seen(&self, counted: Counts) -> Option<(Counts, bool)> {
        let told = self.told();
        let Phase::Moving { seen, .. } = told.phase else { return None };
        Some((seen.and(counted.since(told.counted)), told.whole))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last switch of each service.
#[derive(Debug, Default)]
pub struct Runs(Mutex<BTreeMap<Box<str>, Arc<Run>>>);

/// Why a switch does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwilling {
    /// The slot has the requests already.
    There,
    /// Another one goes on, to this slot.
    Busy(Box<str>),
}

impl Runs {
    /// The last one of a service.
    pub fn of(&self, service: &str) -> Option<Arc<Run>> {
        self.all().get(service).cloned()
    }

    /// Begins one; to the slot that has the requests, where a version is expected: it moves nothing, and asks. Whoever calls this has leave to ([`crate::switches::Switches::hold`]).
    ///
    /// # Errors
    /// Why it does not begin.
    pub fn begin(
        &self,
        state: &State,
        (service, slots): (&str, &Slots),
        to: &str,
        wanted: Wanted,
    ) -> Result<Arc<Run>, Unwilling> {
        let mut all = self.all();
        if let Some(run) = all.get(service).filter(|run| !run.is_over()) {
            return Err(Unwilling::Busy(run.to.clone()));
        }
        let kept = state.switches.slots(service);
        if let Some(switch) = &kept.switch {
            return Err(Unwilling::Busy(switch.to.clone()));
        }
        let from = slots.get(kept.share(slots).to).map_or("", |slot| &*slot.name);
        // Whoever expects a version is told whether it is that.
        if from == to && (wanted.force || wanted.version.is_none()) {
            return Err(Unwilling::There);
        }
        let id = format!("{:016x}", fastrand::u64(..)).into();
        let run = Run::new(id, service, from, to, Some(wanted));
        all.insert(service.into(), Arc::clone(&run));
        Ok(run)
    }

    /// One that another process, or this one before, has begun.
    fn resume(&self, service: &str, switch: &Underway) {
        let mut all = self.all();
        if all.get(service).is_some_and(|run| !run.is_over() || run.id == switch.id) {
            return;
        }
        all.insert(service.into(), Run::new(switch.id.clone(), service, &switch.from, &switch.to, None));
    }

    /// Those that nobody carries out yet.
    fn claim(&self) -> Vec<Arc<Run>> {
        let mut all: Vec<_> = self.all().values().cloned().collect();
        all.retain(|run| !std::mem::replace(&mut run.told().claimed, true));
        all
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Arc<Run>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread. It ends with the state, and when the listeners are closed or a new process has them.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start(state: &Arc<State>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = Arc::downgrade(state);
    let thread = std::thread::Builder::new().name("switch".to_owned());
    thread.spawn(move || LocalSet::new().block_on(&runtime, supervise(&state))).map(drop)
}

/// Writes down what was seen until now by switches that go on, for the process that goes on with them. `last`: nothing is seen here any more. Why it will
/// not survive this process.
pub fn keep_seen(state: &State, last: bool) -> Option<String> {
    // Where another process takes over, it is that one's to write.
    let _held = state.switches.hold()?;
    let runs: Vec<_> = state.runs.all().values().cloned().collect();
    let seen = |run: &Arc<Run>| {
        let (seen, whole) = run.seen(run::counts(state, run))?;
        Some((run.id.clone(), seen, whole && last))
    };
    state.switches.keep_seen(&runs.iter().filter_map(seen).collect::<Vec<_>>())
}

/// What every run uses.
#[derive(Clone, Debug)]
struct Means {
    state: Weak<State>,
    pools: Rc<Pools>,
    deadlines: Rc<Deadlines>,
}

/// How often a new switch is looked for while none goes on.
const IDLE: Duration = Duration::from_millis(200);

async fn supervise(state: &Weak<State>) {
    let deadlines = Deadlines::new(Instant::now());
    let pools = Rc::new(Pools::new(0, Rc::clone(&deadlines)));
    let means = Means { state: Weak::clone(state), pools, deadlines };
    let mut running: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    loop {
        let Some(state) = state.upgrade().filter(|state| !state.is_closing() && !state.is_handed_over()) else { break };
        // Not before the file is this process's own.
        if state.is_open() {
            for (service, switch) in state.switches.underway() {
                state.runs.resume(&service, &switch);
            }
            for run in state.runs.claim() {
                running.push(tokio::task::spawn_local(run::run(means.clone(), run)));
            }
        }
        drop(state);
        running.retain(|task| !task.is_finished());
        tokio::time::sleep(if running.is_empty() { IDLE } else { TICK }).await;
        let now = Instant::now();
        means.deadlines.sweep(now);
        means.pools.sweep(now);
    }
    for task in running {
        task.abort();
    }
}

/// The service of a plan with its slots, and what is known about its servers.
fn find<'a>(
    active: &'a Active,
    service: &str,
) -> Option<(&'a crate::plan::Service, &'a Slots, &'a Arc<crate::servers::Servers>)> {
    let mut services = active.plan.services.iter().zip(&active.servers);
    let (service, servers) = services.find(|(known, _)| &*known.name == service)?;
    Some((service, service.upstream.slots.as_deref()?, servers))
}

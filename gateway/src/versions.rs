//! The versions of all servers of a service, side by side: each is asked on its own, by the gateway itself.
//!
//! Whoever asks is told by a thread of its own, which starts with the first question. It asks the servers of a service all at once, those who ask meanwhile wait
//! for the same answer, and it serves for [`SERVES`]: however many ask, a server gets one question in that time.
//!
//! Invariant: a server is asked as its health checks ask it, with the token and the host of the probe `version`, and nothing that a client sent.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use probegate_policies::probe::ProbeKind;
use probegate_policies::reason::Reason;
use probegate_policies::version::{Agreement, Told, agreement, together};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};

use crate::health::check::Question;
use crate::plan::{ProbeForward, Serve, Service};
use crate::readiness;
use crate::state::{State, unix_time};
use crate::upstream::Pools;
use crate::wire::deadline::{Deadlines, TICK};

/// How long an answer serves.
pub const SERVES: Duration = Duration::from_secs(1);

/// Characters of a value that are kept.
const LONGEST: usize = 200;

/// What is known about the servers of services, and who waits for more.
#[derive(Debug, Default)]
pub struct Versions {
    /// By service. Locked for a moment.
    book: Mutex<HashMap<Box<str>, Entry>>,
    /// The thread; `None`: the system gives none.
    inbox: OnceLock<Option<mpsc::UnboundedSender<Box<str>>>>,
}

/// What is known about a service.
#[derive(Debug, Default)]
struct Entry {
    /// What was told last: when, and under the plan with which number.
    told: Option<(Instant, u64, Arc<Fleet>)>,
    /// Those who wait for the answer, while it is asked.
    waiting: Option<Vec<oneshot::Sender<Arc<Fleet>>>>,
}

/// What the servers of a service said.
#[derive(Debug)]
pub struct Fleet {
    /// The service.
    pub service: Box<str>,
    /// When they were asked, in seconds since the epoch.
    pub asked: u64,
    /// Each of them, in the order of the plan; none where there is no app, or no probe `version` that the app answers.
    pub servers: Vec<Seen>,
}

/// What one server said.
#[derive(Debug)]
pub struct Seen {
    /// As written in the configuration.
    pub server: Box<str>,
    /// The index of its slot, where there are slots.
    pub slot: Option<u8>,
    /// Whether it gets requests: it is neither drained nor down, nor in a slot that gets none.
    pub serves: bool,
    /// Its version, or why there is none.
    pub told: Result<Told, String>,
}

impl Fleet {
    /// Whether all servers that get requests run the same. Slots are there to differ: while two of them get requests, the servers of each are compared.
    pub fn agreement(&self) -> Agreement {
        let serving = || self.servers.iter().filter(|seen| seen.serves);
        let slots: BTreeSet<_> = serving().map(|seen| seen.slot).collect();
        let own = |slot| serving().filter(move |seen| seen.slot == slot).map(|seen| seen.told.as_ref().ok());
        together(slots.into_iter().map(|slot| agreement(own(slot))))
    }
}

/// Whether the servers of a service can be asked for their versions.
pub fn is_told(service: &Service) -> bool {
    forwarded(service).is_some()
}

/// Asks for the versions of a service. An error comes where nobody can be asked: the system gives no thread, or the process ends.
pub fn ask(state: &Arc<State>, service: &str) -> oneshot::Receiver<Arc<Fleet>> {
    let (tell, told) = oneshot::channel();
    let fresh = with(state, service, |entry| match fresh(state, entry) {
        Some(fleet) => Some((fleet, tell)),
        None => {
            entry.waiting.get_or_insert_default().push(tell);
            None
        }
    });
    if let Some((fleet, tell)) = fresh {
        // Nobody may wait any more.
        tell.send(fleet).ok();
    }
    told
}

/// What is known about the versions of a service at this moment, and whether that is all there is to know. Where it is not, they are asked, and whoever looks
/// again finds more.
pub fn look(state: &Arc<State>, service: &str) -> (Option<Arc<Fleet>>, bool) {
    with(state, service, |entry| match fresh(state, entry) {
        Some(fleet) => (Some(fleet), true),
        None => {
            entry.waiting.get_or_insert_default();
            (entry.told.as_ref().map(|(.., fleet)| Arc::clone(fleet)), false)
        }
    })
}

fn fresh(state: &State, entry: &Entry) -> Option<Arc<Fleet>> {
    let (at, plan, fleet) = entry.told.as_ref()?;
    (at.elapsed() < SERVES && *plan == state.generation()).then(|| Arc::clone(fleet))
}

/// Looks at what is known about a service; where somebody waits afterwards and nobody asks, it is asked.
fn with<T>(state: &Arc<State>, service: &str, look: impl FnOnce(&mut Entry) -> T) -> T {
    let mut book = state.versions.lock();
    let entry = book.entry(service.into()).or_default();
    let was_asked = entry.waiting.is_some();
    let found = look(entry);
    if entry.waiting.is_some() && !was_asked {
        let inbox = state.versions.inbox.get_or_init(|| start(state));
        if inbox.as_ref().is_none_or(|inbox| inbox.send(service.into()).is_err()) {
            // Whoever waits notices that there is nobody.
            entry.waiting = None;
        }
    }
    found
}

impl Versions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, plan: u64, fleet: Fleet) {
        let fleet = Arc::new(fleet);
        let mut book = self.lock();
        let entry = book.entry(fleet.service.clone()).or_default();
        entry.told = Some((Instant::now(), plan, Arc::clone(&fleet)));
        for tell in entry.waiting.take().into_iter().flatten() {
            tell.send(Arc::clone(&fleet)).ok();
        }
    }
}

fn start(state: &Arc<State>) -> Option<mpsc::UnboundedSender<Box<str>>> {
    let (outbox, inbox) = mpsc::unbounded_channel();
    let state = Arc::downgrade(state);
    let started = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let thread = std::thread::Builder::new().name("versions".to_owned());
        thread.spawn(move || LocalSet::new().block_on(&runtime, serve(state, inbox)))
    });
    match started {
        Ok(_) => Some(outbox),
        Err(error) => {
            tracing::error!(%error, "versions can not be asked for");
            None
        }
    }
}

async fn serve(state: Weak<State>, mut inbox: mpsc::UnboundedReceiver<Box<str>>) {
    let deadlines = Deadlines::new(Instant::now());
    let pools = Rc::new(Pools::new(0, Rc::clone(&deadlines)));
    let asking = Rc::<Cell<usize>>::default();
    loop {
        tokio::select! {
            service = inbox.recv() => {
                let (Some(service), Some(state)) = (service, state.upgrade()) else { return };
                let (asking, pools, deadlines) = (Rc::clone(&asking), Rc::clone(&pools), Rc::clone(&deadlines));
                asking.set(asking.get() + 1);
                spawn_local(async move {
                    let plan = state.generation();
                    let fleet = fleet(&state, &service, &pools, &deadlines).await;
                    asking.set(asking.get().saturating_sub(1));
                    state.versions.tell(plan, fleet);
                });
            }
            () = tokio::time::sleep(TICK), if asking.get() > 0 => {}
        }
        let now = Instant::now();
        deadlines.sweep(now);
        pools.sweep(now);
    }
}

/// Asks all servers of a service at once.
async fn fleet(state: &Arc<State>, name: &str, pools: &Rc<Pools>, deadlines: &Rc<Deadlines>) -> Fleet {
    let active = state.active();
    let at = active.plan.services.iter().position(|service| *service.name == *name);
    let found = at.and_then(|at| Some((active.plan.services.get(at)?, active.servers.get(at)?)));
    let mut asked = Vec::new();
    if let Some((service, servers)) = found.filter(|(service, _)| is_told(service)) {
        for (index, (server, site)) in service.upstream.servers.iter().zip(servers.sites()).enumerate() {
            let (active, pools, deadline, name) =
                (Arc::clone(&active), Rc::clone(pools), deadlines.slot(), Box::<str>::from(name));
            let task = spawn_local(async move {
                let service = active.plan.services.iter().find(|service| service.name == name)?;
                let forward = forwarded(service)?;
                let host = forward.host.as_deref().or(forward.own.as_deref());
                let question = Question { path: &forward.path, host, token: forward.token.as_ref() };
                Some(question.put(&pools, &service.upstream, index, forward.timeout, &deadline).await)
            });
            let serves = site.state.may_be_asked() && readiness::is_in_turn(servers, site);
            asked.push((server.label.clone(), site.slot, serves, task));
        }
    }
    let mut fleet = Fleet { service: name.into(), asked: unix_time(), servers: Vec::new() };
    for (server, slot, serves, task) in asked {
        let told = match task.await {
            Ok(Some(Ok((status, body)))) if (200..300).contains(&status) => read(&body),
            Ok(Some(Ok((status, _)))) => Err(format!("it answers with status {status}")),
            Ok(Some(Err(Reason::UpstreamTimeout))) => Err(Reason::ProbeTimeout.text().to_owned()),
            Ok(Some(Err(reason))) => Err(reason.text().to_owned()),
            Ok(None) | Err(_) => Err(Reason::Panicked.text().to_owned()),
        };
        fleet.servers.push(Seen { server, slot, serves, told });
    }
    fleet
}

/// Reads what an app says about its version.
fn read(body: &[u8]) -> Result<Told, String> {
    let value: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| "its answer is not JSON as django-deploy-probes has it".to_owned())?;
    let entries = value.as_object().ok_or_else(|| "its answer is JSON, but no object".to_owned())?;
    let mut told = Told::default();
    for (key, value) in entries {
        if let Some(text) = value.as_str() {
            let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
            told.put(key, &text);
        }
    }
    Ok(told)
}

/// How the app is asked for its version; `None`: it is not.
fn forwarded(service: &Service) -> Option<&ProbeForward> {
    let probe = service.probes.iter().find(|probe| probe.kind == ProbeKind::Version)?;
    match &probe.serve {
        Serve::Forward(forward) if !service.upstream.servers.is_empty() => Some(forward),
        Serve::Forward(_) | Serve::Answer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_says_is_read_within_bounds() {
        let long = "x".repeat(1000);
        let text = format!("{{\"version\": \"1.4\", \"commit\": \"{long}\", \"slot\": 7, \"branch\": \"a\\nb\"}}");
        let told = read(text.as_bytes()).unwrap();
        assert_eq!(
            (told.version.as_deref(), told.slot.as_deref(), told.branch.as_deref()),
            (Some("1.4"), None, Some("ab"))
        );
        assert_eq!(told.commit.map(|commit| commit.len()), Some(LONGEST));
        for (body, why) in [("<html>", "not JSON"), ("[]", "no object"), ("", "not JSON")] {
            assert!(read(body.as_bytes()).unwrap_err().contains(why), "{body}");
        }
    }
}

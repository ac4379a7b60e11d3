//! The thread that tells other gateways of bans, and hears of theirs, through the store of shared limits.
//!
//! Every gateway decides for itself: what it has banned holds here whether or not anybody hears of it, and no request waits for the store. Offences are counted by each for
//! itself. What is told are bans and lifts; of two about the same client the newer one holds, by the clocks of those who pronounced them, and a lift beats the bans before it.
//!
//! Invariants:
//! * Whoever may never be banned here is not banned because another gateway says so.
//! * What could not be told is told when the store is back. A store that has begun anew, because it has forgotten something, is told everything: who is banned,
//!   and who was let in.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::letter;
use super::lifts::Lifts;
use super::outbox::Taken;
use crate::state::{Active, State, unix_time};
use crate::store::Store;
use crate::store::client::{Client, Failed, Failure};

/// How often others are heard: what one gateway does, the others know after two of them and two round trips.
const TICK: Duration = Duration::from_millis(500);

/// What connecting and each answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts to connect at the longest.
const LONGEST: Duration = Duration::from_secs(4);

/// Changes that are told at once, and records that are read at once.
const AT_ONCE: usize = 200;

/// Starts it. It ends with the gateway, or when another process has taken over.
///
/// # Errors
/// The system gives no thread, or no event loop.
pub fn start(state: &Arc<State>) -> io::Result<()> {
    let state = Arc::downgrade(state);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("bans-store".to_owned()).spawn(move || {
        LocalSet::new().block_on(&runtime, exchange(state));
    })?;
    Ok(())
}

/// What this gateway knows of the others.
struct Session {
    /// The name of this process.
    own: String,
    /// The plan that everything was heard for: another one may have other policies.
    generation: u64,
    store: Option<Arc<Store>>,
    client: Option<Box<dyn Client>>,
    /// The store's life: another one when it has forgotten everything.
    epoch: String,
    /// The last change that is known.
    number: String,
    /// Everything is to be told.
    all: bool,
    /// What was lifted.
    lifts: Lifts,
    /// When it may connect again, and how long it waits after the next failure.
    again: Instant,
    pause: Duration,
    /// People were told that the store does not answer.
    failing: bool,
}

async fn exchange(state: Weak<State>) {
    let mut session = Session {
        own: format!("{:016x}", fastrand::u64(..)),
        generation: 0,
        store: None,
        client: None,
        epoch: String::new(),
        number: "0".to_owned(),
        all: true,
        lifts: Lifts::default(),
        again: Instant::now(),
        pause: TICK,
        failing: false,
    };
    loop {
        let Some(state) = state.upgrade().filter(|state| !state.is_handed_over()) else { return };
        session.tick(&state).await;
        drop(state);
        sleep(TICK).await;
    }
}

impl Session {
    async fn tick(&mut self, state: &State) {
        let generation = state.generation();
        let active = state.active();
        let store = active.store.as_ref().filter(|store| store.plan().bans);
        let outbox = state.bans.outbox();
        let Some(store) = store else {
            if self.store.take().is_some() {
                outbox.open(false);
            }
            self.client = None;
            return;
        };
        if !self.store.as_ref().is_some_and(|known| Arc::ptr_eq(known, store)) {
            self.store = Some(Arc::clone(store));
            self.client = None;
            (self.all, self.again, self.pause) = (true, Instant::now(), TICK);
            self.epoch.clear();
            outbox.open(true);
        }
        if self.generation != generation {
            self.generation = generation;
            "0".clone_into(&mut self.number);
        }
        if self.client.is_none() && Instant::now() < self.again {
            return;
        }
        match self.talk(state, &active, store).await {
            Ok(()) => {
                self.pause = TICK;
                outbox.connected.store(true, Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("bans are shared with other gateways again");
                }
            }
            Err(failed) => {
                self.client = None;
                self.again = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST);
                outbox.connected.store(false, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(reason = failed.kind.label(), error = %failed, "bans are not shared with other gateways: each goes on with its own");
                }
            }
        }
    }

    /// Tells what has happened here, and hears what has happened elsewhere.
    async fn talk(&mut self, state: &State, active: &Active, store: &Store) -> Result<(), Failed> {
        if self.client.as_ref().is_none_or(|client| !client.is_open()) {
            self.client = Some(timed(store.connect()).await?);
        }
        let outbox = state.bans.outbox();
        loop {
            let mut taken = outbox.take();
            taken.all |= std::mem::take(&mut self.all);
            taken.changes.iter().for_each(|change| self.lifts.note(change, unix_time()));
            let told = self.told(state, active, &taken);
            let heard = match self.send(store, &told).await {
                Ok(heard) => heard,
                Err(failed) => {
                    self.all |= taken.all;
                    outbox.put_back(Taken { all: false, ..taken });
                    return Err(failed);
                }
            };
            outbox.sent.fetch_add(u64::try_from(told.len()).unwrap_or_default(), Ordering::Relaxed);
            let mut heard = heard;
            loop {
                let [epoch, number, more, records @ ..] = heard.as_slice() else {
                    return Err(Failed { kind: Failure::Refused, text: "an answer of another script".to_owned() });
                };
                if *epoch != self.epoch {
                    // The first answer, or of a store that has begun anew and may lack what is known here.
                    self.all |= !self.epoch.is_empty();
                    epoch.clone_into(&mut self.epoch);
                }
                number.clone_into(&mut self.number);
                let more = more == "more";
                for change in records.iter().filter_map(|record| letter::read(&self.own, record)) {
                    if self.all && self.lifts.lifted(&change) {
                        // Somebody has told it of a ban, and nobody yet of the lift.
                        continue;
                    }
                    self.lifts.note(&change, unix_time());
                    if state.bans.heard(active, change, unix_time()) {
                        outbox.received.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if !more {
                    break;
                }
                heard = self.send(store, &[]).await?;
            }
            if !self.all {
                return Ok(());
            }
        }
    }

    /// What the store is told.
    fn told(&self, state: &State, active: &Active, taken: &Taken) -> Vec<[String; 5]> {
        let remember = |name: &str| {
            active.plan.bans.iter().find(|policy| *policy.name == *name).map_or(0, |policy| policy.remember.as_secs())
        };
        let (known, lifts) = if taken.all {
            (state.bans.known(active, unix_time()), self.lifts.known(unix_time()).collect())
        } else {
            (Vec::new(), Vec::new())
        };
        let write = |change: &super::Change| {
            let remember = match change {
                super::Change::Ban { policy, .. } => remember(policy),
                super::Change::Lift { .. } => 0,
            };
            letter::write(&self.own, change, remember)
        };
        known.iter().chain(&lifts).chain(&taken.changes).map(write).collect()
    }

    /// Tells all of this in pieces. The answer to the last one.
    async fn send(&mut self, store: &Store, told: &[[String; 5]]) -> Result<Vec<String>, Failed> {
        let Some(client) = &self.client else {
            return Err(Failed { kind: Failure::Unreachable, text: "there is no connection".to_owned() });
        };
        let prefix = &store.plan().prefix;
        let keys = ["about", "records", "numbers", "ends"].map(|name| format!("{prefix}:{{bans}}:{name}").into_bytes());
        let mut pieces = told.chunks(AT_ONCE).peekable();
        loop {
            let piece = pieces.next().unwrap_or_default();
            let is_last = pieces.peek().is_none();
            // Read with the last one.
            let most = if is_last { AT_ONCE } else { 0 };
            let mut arguments =
                vec![format!("{:016x}", fastrand::u64(..)), self.epoch.clone(), self.number.clone(), most.to_string()];
            arguments.extend(piece.iter().flatten().cloned());
            let heard = timed(client.tell(&keys, &arguments)).await?;
            if is_last {
                return Ok(heard);
            }
        }
    }
}

/// Within [`PATIENCE`].
async fn timed<T>(what: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let late = || Failed { kind: Failure::Timeout, text: format!("no answer within {} s", PATIENCE.as_secs()) };
    timeout(PATIENCE, what).await.unwrap_or_else(|_| Err(late()))
}

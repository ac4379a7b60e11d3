//! The thread that tells other gateways of bans, and hears of theirs, through the store of shared limits.
//!
//! Every gateway decides for itself: what it has banned holds here whether or not anybody hears of it, and no request waits for the store. Offences are counted by each for
//! itself. What is told are bans and lifts; of two about the same client the newer one holds, by the clocks of those who pronounced them, and a lift beats the bans before it.
//!
//! Invariants:
//! * Whoever may never be banned here is not banned because another gateway says so.
//! * What could not be told is told when the store is back. Over each new connection everything is told, who is banned and who was let in: the server may be another
//!   one than before, or have come back with what it knew some time ago. So is one that has begun anew because it has forgotten something.
//! * Whatever a store answers, it is asked a few times a tick and for a bounded number of pages, and no more.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio::time::timeout;

use super::outbox::Taken;
use super::{Change, letter};
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

/// How often everything is told in a tick, to a store that has just begun anew.
const ROUNDS: usize = 2;

/// Pages that are read in a row: more than what a store holds.
const PAGES: usize = 512;

/// Seconds that the clock was ahead when a change was pronounced, for the change to be taken for one of another time.
const AHEAD: u64 = 10;

/// Starts it. It ends with the gateway, or when another process has taken over, with a last word.
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
    number: u64,
    /// Everything is to be told.
    all: bool,
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
        number: 0,
        all: true,
        again: Instant::now(),
        pause: TICK,
        failing: false,
    };
    loop {
        let Some(state) = state.upgrade() else { return };
        let outbox = state.bans.outbox();
        if state.is_handed_over() || outbox.is_ending() {
            // The last words: what happened a moment ago.
            if session.store.is_some() && (session.all || !outbox.is_empty()) {
                timeout(PATIENCE, session.tick(&state)).await.ok();
            }
            outbox.ended();
            return;
        }
        // Before, another process is in charge: what it hears, this one reads when it takes over.
        if state.is_open() {
            session.tick(&state).await;
        }
        let wakes = Arc::clone(&outbox.wakes);
        drop(state);
        timeout(TICK, wakes.notified()).await.ok();
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
            self.number = 0;
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
            self.client = None;
            self.client = Some(timed(store.connect()).await?);
            (self.all, self.number) = (true, 0);
        }
        let outbox = state.bans.outbox();
        for _ in 0..ROUNDS {
            let mut taken = outbox.take();
            taken.all |= std::mem::take(&mut self.all);
            for change in &taken.changes {
                state.bans.lifts().note(change, unix_time());
            }
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
            self.hear(state, active, store, heard).await?;
            if !self.all {
                break;
            }
        }
        Ok(())
    }

    /// Takes over what the store says, and asks for the rest of it.
    async fn hear(
        &mut self,
        state: &State,
        active: &Active,
        store: &Store,
        mut heard: Vec<String>,
    ) -> Result<(), Failed> {
        let strange = || Failed { kind: Failure::Refused, text: "an answer of another script".to_owned() };
        let outbox = state.bans.outbox();
        for _ in 0..PAGES {
            let [epoch, number, more, records @ ..] = heard.as_slice() else { return Err(strange()) };
            let number: u64 = number.parse().map_err(|_| strange())?;
            let is_other = *epoch != self.epoch;
            if is_other {
                // The first answer, or of a store that has begun anew and may lack what is known here.
                self.all |= !self.epoch.is_empty();
                epoch.clone_into(&mut self.epoch);
            }
            let has_grown = is_other || number > self.number;
            self.number = number;
            for change in records.iter().filter_map(|record| letter::read(&self.own, record)) {
                if self.all && state.bans.lifts().lifted(&change) {
                    // Somebody has told it of a ban, and nobody yet of the lift.
                    continue;
                }
                if state.bans.heard(active, change, unix_time()) {
                    outbox.received.fetch_add(1, Ordering::Relaxed);
                }
            }
            if more != "more" || outbox.is_ending() || state.is_handed_over() {
                break;
            }
            if !has_grown {
                return Err(strange());
            }
            heard = self.send(store, &[]).await?;
        }
        Ok(())
    }

    /// What the store is told.
    fn told(&self, state: &State, active: &Active, taken: &Taken) -> Vec<[String; 5]> {
        let now = unix_time();
        let remember = |name: &str| {
            active.plan.bans.iter().find(|policy| *policy.name == *name).map_or(0, |policy| policy.remember.as_secs())
        };
        let write = |change: &Change| {
            let remember = match change {
                Change::Ban { policy, .. } => remember(policy),
                Change::Lift { .. } => 0,
            };
            letter::write(&self.own, change, remember)
        };
        if taken.all {
            // Lifts first: a ban of the same second that is still there is the later one.
            let lifts: Vec<_> = state.bans.lifts().known(now).collect();
            let lifts = lifts.into_iter().map(|(client, at)| Change::Lift { client, at });
            return lifts.chain(state.bans.known(active)).map(|change| write(&change)).collect();
        }
        let changes = taken.changes.iter().filter_map(|change| match change {
            Change::Lift { client, at } => Some(write(&Change::Lift { client: *client, at: (*at).min(now) })),
            // The clock was set back since then. Who keeps it knows when it ends by now, and will say so with all others.
            Change::Ban { ban, .. } if ban.since > now + AHEAD => None,
            Change::Ban { .. } => Some(write(change)),
        });
        changes.collect()
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
            let mut arguments = vec![
                format!("{:016x}", fastrand::u64(..)),
                self.epoch.clone(),
                self.number.to_string(),
                most.to_string(),
            ];
            arguments.push(unix_time().to_string());
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

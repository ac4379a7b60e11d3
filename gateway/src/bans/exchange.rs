//! The thread that tells other gateways of bans, and hears of theirs, through the store of shared limits.
//!
//! Every gateway decides for itself: what it has banned holds here whether or not anybody hears of it, and no request waits for the store. Offences are counted by each for
//! itself. What is told are bans and lifts; of two about the same client the newer one holds, by the clocks of those who pronounced them, and a lift beats the bans before it.
//! So it makes no difference who tells or hears something, in what order and how often.
//!
//! Invariants:
//! * Whoever may never be banned here is not banned because another gateway says so.
//! * What could not be told is told when the store is back. Over each new connection everything is told and heard, who is banned and who was let in: the server may be
//!   another one than before, or have come back with what it knew some time ago. So is one that has begun anew because it has forgotten something, and whatever else
//!   nobody notices, within minutes.
//! * Whatever a store answers, it is asked a bounded number of times a tick, and what it is told is made piece by piece.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use probegate_policies::ban::AHEAD;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::telling::Telling;
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

/// How far ahead, in seconds, what is told may be: the clocks of gateways differ by twenty seconds at the most, and whoever hears it must believe it.
const SOON: u64 = AHEAD - 25;

/// Changes that are told at once, and records that are read at once.
const AT_ONCE: usize = 200;

/// Calls in a tick: enough to tell and to hear all that a store holds.
const CALLS: usize = 1024;

/// How often everything is told and heard, whether or not there is a reason: of a server in a cluster, or behind another address, nobody here sees that it has come
/// back with less than it knew. Nothing that is known is written again.
const ANEW: Duration = Duration::from_secs(300);

/// The next time, after one between half of it and one and a half, so that not all gateways come at once.
fn anew() -> Instant {
    #[cfg(feature = "fault-injection")]
    if let Some(ms) = std::env::var("BANS_ANEW_MS").ok().and_then(|text| text.parse().ok()) {
        return Instant::now() + Duration::from_millis(ms);
    }
    Instant::now() + ANEW.mul_f64(0.5 + fastrand::f64())
}

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
    /// The plan that everything was heard for: another one may have other policies.
    generation: u64,
    store: Option<Arc<Store>>,
    client: Option<Box<dyn Client>>,
    /// The store's life: another one when it has forgotten everything.
    epoch: String,
    /// The last change that is known.
    number: u64,
    /// Everything is to be told and heard, with the next tick; in any case from then on.
    all: bool,
    anew: Instant,
    /// What is left to be told of it.
    telling: Option<Telling>,
    /// When it may connect again, and how long it waits after the next failure.
    again: Instant,
    pause: Duration,
    /// People were told that the store does not answer.
    failing: bool,
}

async fn exchange(state: Weak<State>) {
    let mut session = Session {
        generation: 0,
        store: None,
        client: None,
        epoch: String::new(),
        number: 0,
        all: true,
        anew: anew(),
        telling: None,
        again: Instant::now(),
        pause: TICK,
        failing: false,
    };
    loop {
        let Some(state) = state.upgrade() else { return };
        let outbox = state.bans.outbox();
        if state.is_handed_over() || outbox.is_ending() {
            // The last words: what happened a moment ago.
            if session.store.is_some() && !outbox.is_empty() {
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
            (self.again, self.pause) = (Instant::now(), TICK);
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
            self.all = true;
        }
        let outbox = state.bans.outbox();
        self.all |= outbox.is_for_all() || Instant::now() >= self.anew;
        if std::mem::take(&mut self.all) {
            self.telling = Some(state.bans.everything(active, unix_time()));
            (self.number, self.anew) = (0, anew());
        }
        for _ in 0..CALLS {
            // Then there is time for what happened here a moment ago, and for nothing else.
            let is_ending = outbox.is_ending() || state.is_handed_over();
            let changes = outbox.take(AT_ONCE);
            let mut told = self.letters(active, &changes);
            if !is_ending && let Some(telling) = &mut self.telling {
                let more = telling.next(AT_ONCE - changes.len());
                if more.is_empty() && changes.len() < AT_ONCE {
                    self.telling = None;
                }
                let more = self.letters(active, &more);
                told.extend(more);
            }
            let heard = match self.send(store, &told).await {
                Ok(heard) => heard,
                Err(failed) => {
                    outbox.put_back(changes);
                    return Err(failed);
                }
            };
            outbox.sent.fetch_add(u64::try_from(told.len()).unwrap_or_default(), Ordering::Relaxed);
            let is_more = self.hear(state, active, &heard)?;
            if outbox.is_empty() && (is_ending || self.telling.is_none() && !is_more) {
                break;
            }
        }
        Ok(())
    }

    /// Takes over what the store says. Whether there is more.
    fn hear(&mut self, state: &State, active: &Active, heard: &[String]) -> Result<bool, Failed> {
        let strange = || Failed { kind: Failure::Refused, text: "an answer of another script".to_owned() };
        let [epoch, number, more, records @ ..] = heard else { return Err(strange()) };
        let number: u64 = number.parse().map_err(|_| strange())?;
        let is_other = *epoch != self.epoch;
        if is_other {
            // The first answer, or of a store that has begun anew and may lack what is known here.
            self.all |= !self.epoch.is_empty();
            epoch.clone_into(&mut self.epoch);
        }
        let (has_grown, is_more) = (is_other || number > self.number, more == "more");
        self.number = number;
        let outbox = state.bans.outbox();
        for change in records.iter().filter_map(|record| letter::read(record)) {
            if state.bans.heard(active, change, unix_time()) {
                outbox.received.fetch_add(1, Ordering::Relaxed);
            }
        }
        if is_more && !has_grown { Err(strange()) } else { Ok(is_more) }
    }

    /// What the store is told of this. What nobody would believe yet is left out: everything is told again when it can be told.
    fn letters(&mut self, active: &Active, changes: &[Change]) -> Vec<[String; 5]> {
        let (ready, wait) = ready(changes, unix_time());
        if let Some(again) = wait.and_then(|wait| Instant::now().checked_add(wait)) {
            self.anew = self.anew.min(again);
        }
        let remember = |name: &str| {
            active.plan.bans.iter().find(|policy| *policy.name == *name).map_or(0, |policy| policy.remember.as_secs())
        };
        let letter = |change: &Change| match change {
            Change::Ban { policy, .. } => letter::write(change, remember(policy)),
            Change::Lift { .. } => letter::write(change, 0),
        };
        ready.into_iter().map(letter).collect()
    }

    /// Tells this. The answer to it.
    async fn send(&self, store: &Store, told: &[[String; 5]]) -> Result<Vec<String>, Failed> {
        let Some(client) = &self.client else {
            return Err(Failed { kind: Failure::Unreachable, text: "there is no connection".to_owned() });
        };
        let prefix = &store.plan().prefix;
        let keys = ["about", "records", "numbers", "ends"].map(|name| format!("{prefix}:{{bans}}:{name}").into_bytes());
        let mut arguments = vec![
            format!("{:016x}", fastrand::u64(..)),
            self.epoch.clone(),
            self.number.to_string(),
            AT_ONCE.to_string(),
            unix_time().to_string(),
        ];
        arguments.extend(told.iter().flatten().cloned());
        timed(client.tell(&keys, &arguments)).await
    }
}

/// What can be told by now, and in what time something else can.
fn ready(changes: &[Change], now: u64) -> (Vec<&Change>, Option<Duration>) {
    let soon = now.saturating_add(SOON);
    let (ready, early): (Vec<_>, Vec<_>) = changes.iter().partition(|change| change.at() <= soon);
    let wait = early.into_iter().map(|change| change.at() - soon).min();
    (ready, wait.map(Duration::from_secs))
}

/// Within [`PATIENCE`].
async fn timed<T>(what: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let late = || Failed { kind: Failure::Timeout, text: format!("no answer within {} s", PATIENCE.as_secs()) };
    timeout(PATIENCE, what).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is banned and let in again and again is so by a clock that runs ahead.
    #[test]
    fn what_nobody_would_believe_yet_is_told_when_they_would() {
        let lift = |at| Change::Lift { client: None, at };
        let told = |changes: &[Change]| {
            let (ready, wait) = ready(changes, 1000);
            (ready.into_iter().map(Change::at).collect::<Vec<_>>(), wait.map(|wait| wait.as_secs()))
        };
        assert_eq!(told(&[lift(900), lift(1000 + SOON)]), (vec![900, 1000 + SOON], None));
        assert_eq!(told(&[lift(1000 + SOON + 9), lift(7), lift(1000 + SOON + 3)]), (vec![7], Some(3)));
    }
}

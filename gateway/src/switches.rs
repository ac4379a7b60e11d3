//! Switches that people turn while the gateway runs: a service in maintenance, a server that gets no new requests, the slot that gets them.
//!
//! They are kept by name: a reload, a restart and a hand-over leave them as they are. What a request has to know lies in a cell that its plan points
//! at, so that it costs one load.
//!
//! The configuration says how a service is while nobody has turned its switch; whoever turns it is right, until the configuration says the same.
//!
//! Invariant: a switch is turned by its command only. Nothing that fails, and no configuration, turns one.

mod doubt;
mod file;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

pub use self::doubt::Doubt;
use self::doubt::Doubts;
pub use self::slots::{Ended, InSlots, Underway};
use crate::plan::Plan;

/// How long a disk may take: who turns a switch waits for it, and so does whoever asks the admin listener whether it is alive.
const PATIENCE: Duration = Duration::from_secs(2);

/// All switches.
#[derive(Debug, Default)]
pub struct Switches {
    kept: Mutex<Kept>,
    /// How often one was turned.
    changes: AtomicU64,
    /// What is wrong with their file.
    doubts: Doubts,
    /// Another process takes over. Locked while a switch is turned.
    frozen: Mutex<bool>,
}

/// Leave to turn a switch.
#[derive(Debug)]
pub struct Held<'a>(#[expect(dead_code, reason = "it is held, and nothing else")] MutexGuard<'a, bool>);

/// What is locked when a switch is turned, and when plans change.
#[derive(Debug, Default)]
struct Kept {
    record: Record,
    /// Something was forgotten that the file still says.
    unwritten: bool,
    cells: BTreeMap<Box<str>, Cell>,
    /// Where they are written to.
    folder: PathBuf,
    /// How often they were.
    number: u64,
    /// The number of the newest that was written, locked while one is.
    written: Arc<Mutex<u64>>,
    /// What is wrong with what lies there.
    doubts: Doubts,
}

/// What is known about a service besides its switch.
#[derive(Debug, Default)]
struct Cell {
    /// What requests look at.
    told: Arc<Maintenance>,
    /// The configuration has it in maintenance.
    configured: bool,
    /// When clients may come back, where the switch does not say it.
    retry_after: Option<Duration>,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    /// By the name of the service.
    maintenance: BTreeMap<Box<str>, InMaintenance>,
    /// Services that are in maintenance by the configuration alone, and that somebody has taken out.
    lifted: BTreeSet<Box<str>>,
    /// Labels of servers, by the name of their service.
    drained: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    /// By the name of the service.
    slots: BTreeMap<Box<str>, InSlots>,
}

/// A service is in maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InMaintenance {
    /// When clients may come back, from each answer on; whole seconds. `None`: nobody knows.
    pub retry_after: Option<Duration>,
}

/// Whether one service is in maintenance.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// 0: it is not. Else the lowest bit is set, and the rest are the seconds until clients may come back; 0: nobody knows.
    word: AtomicU64,
}

impl Maintenance {
    /// What it is now. One load.
    #[inline]
    pub fn get(&self) -> Option<InMaintenance> {
        match self.word.load(Ordering::Relaxed) {
            0 => None,
            word => {
                let retry_after = Some(Duration::from_secs(word >> 1)).filter(|time| !time.is_zero());
                Some(InMaintenance { retry_after })
            }
        }
    }

    fn set(&self, to: Option<InMaintenance>) {
        let word = to.map_or(0, |on| on.retry_after.map_or(0, |time| time.as_secs().min(u64::MAX >> 1)) << 1 | 1);
        self.word.store(word, Ordering::Relaxed);
    }
}

/// What became of turning a switch.
#[derive(Debug)]
pub struct Turned {
    /// It stood otherwise before.
    pub changed: bool,
    /// Why it will not survive this process; `None`: it will.
    pub unsaved: Option<String>,
}

impl Switches {
    /// The switches that `folder` holds.
    pub fn load(folder: &Path) -> Self {
        let doubts = Doubts::default();
        let kept = Mutex::new(Kept { doubts: doubts.clone(), ..Kept::default() });
        let switches = Self { kept, doubts, ..Self::default() };
        switches.read_again(folder);
        switches
    }

    /// Takes over what another process has written to `folder` meanwhile.
    pub fn read_again(&self, folder: &Path) {
        let mut kept = self.kept();
        folder.clone_into(&mut kept.folder);
        Self::read_into(&mut kept, folder);
        // What the plan in force does not have is no more kept than when that was taken up.
        if !kept.cells.is_empty() {
            kept.forget_lifted();
        }
        kept.tell();
    }

    /// The cells of a plan's services, in its order. What is on stays on.
    pub fn attach(&self, plan: &Plan) -> Vec<Arc<Maintenance>> {
        let mut kept = self.kept();
        let first = kept.cells.is_empty();
        if kept.folder != plan.storage {
            kept.folder.clone_from(&plan.storage);
            if kept.look_there() {
                kept.settle(true);
            }
        } else if !first && kept.look_again() {
            kept.settle(true);
        }
        if first {
            kept.tell_assumed(plan);
        }
        for cell in kept.cells.values_mut() {
            (cell.configured, cell.retry_after) = (false, None);
        }
        let mut cells = Vec::with_capacity(plan.services.len());
        for service in &plan.services {
            let cell = kept.cells.entry(service.name.clone()).or_default();
            (cell.configured, cell.retry_after) = (service.maintenance.enabled, service.maintenance.retry_after);
            cells.push(Arc::clone(&cell.told));
        }
        kept.forget_lifted();
        kept.forget_slots(plan);
        // A process that starts may not be the one in charge yet, whose file this is.
        if !first {
            kept.settle(false);
        }
        kept.tell();
        for service in &plan.services {
            if kept.of(&service.name).is_some() {
                tracing::warn!(service = &*service.name, "in maintenance");
            } else if kept.record.lifted.contains(&service.name) {
                tracing::warn!(
                    service = &*service.name,
                    "not in maintenance, as somebody has switched, whatever the configuration says"
                );
            }
        }
        cells
    }

    /// This process is in charge: from now on the file is its own, and says what it knows.
    pub fn take_charge(&self) {
        let mut kept = self.kept();
        // What was not understood is put aside now, where everybody sees it.
        let bad = self.doubt() == Some(Doubt::Bad);
        kept.settle(bad);
    }

    /// Puts a service into maintenance, or takes it out. Whether there is such a service is asked elsewhere.
    pub fn maintain(&self, service: &str, to: Option<InMaintenance>) -> Turned {
        self.turn(|kept| match to {
            Some(on) => {
                kept.record.lifted.remove(service);
                kept.record.maintenance.insert(service.into(), on) != Some(on)
            }
            None => {
                let ended = kept.record.maintenance.remove(service).is_some();
                let configured = kept.cells.get(service).is_some_and(|cell| cell.configured);
                (configured && kept.record.lifted.insert(service.into())) || ended
            }
        })
    }

    /// Whether a service is in maintenance, in this plan or another one.
    pub fn in_maintenance(&self, service: &str) -> Option<InMaintenance> {
        self.kept().of(service)
    }

    /// Says that a server gets no new requests, or that it does again. Whether there is such a server is asked elsewhere.
    pub fn drain(&self, service: &str, server: &str, to: bool) -> Turned {
        self.turn(|Kept { record, .. }| {
            let servers = record.drained.entry(service.into()).or_default();
            let changed = if to { servers.insert(server.into()) } else { servers.remove(server) };
            record.drained.retain(|_, servers| !servers.is_empty());
            changed
        })
    }

    /// Whether a server gets no new requests, in this plan or another one.
    pub fn is_drained(&self, service: &str, server: &str) -> bool {
        self.kept().record.drained.get(service).is_some_and(|servers| servers.contains(server))
    }

    /// Tells `tell` which servers get no new requests, by service and server, while none of that changes.
    pub fn with_drained(&self, tell: impl FnOnce(&dyn Fn(&str, &str) -> bool)) {
        let kept = self.kept();
        tell(&|service, server| kept.record.drained.get(service).is_some_and(|servers| servers.contains(server)));
    }

    /// Leave to turn a switch, for as long as it is held. `None`: another process takes over, and has read them or will.
    pub fn hold(&self) -> Option<Held<'_>> {
        let frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        (!*frozen).then_some(Held(frozen))
    }

    /// From now on, none can be turned. Waits for one that is being turned.
    pub fn freeze(&self) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// They can be turned again.
    pub fn thaw(&self) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Whether the disk has not answered yet about one that was turned, after whoever turned it has waited for that.
    pub fn is_being_written(&self) -> bool {
        self.kept().written.try_lock().is_err()
    }

    /// How often a switch was turned.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn turn(&self, change: impl FnOnce(&mut Kept) -> bool) -> Turned {
        let mut kept = self.kept();
        let changed = change(&mut kept);
        if changed {
            self.changes.fetch_add(1, Ordering::Relaxed);
            kept.doubts.turned();
            kept.tell();
        }
        // Written in any case: whoever asks again because it could not be written wants that.
        Turned { changed, unsaved: kept.save() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Writes them, by a thread of its own: a disk that hangs must not hold whoever waits for more than a moment. Says why they are not written (yet).
    fn save(&mut self) -> Option<String> {
        self.number += 1;
        let (number, folder, record) = (self.number, self.folder.clone(), self.record.clone());
        let (written, unread) = (Arc::clone(&self.written), self.doubts.unread());
        let (tell, told) = mpsc::channel();
        let write = move || {
            let mut newest = written.lock().unwrap_or_else(PoisonError::into_inner);
            // What waited behind a slow one may be old by now.
            let outcome = if *newest < number { file::write_anew(&folder, &record, &unread) } else { Ok(None) };
            if outcome.is_ok() {
                *newest = number.max(*newest);
            }
            // Whoever is told finds it written.
            drop(newest);
            // Nobody may wait any more.
            tell.send(outcome).ok();
        };
        let why = match thread::Builder::new().name("switches".to_owned()).spawn(write) {
            Err(error) => error.to_string(),
            Ok(_) => match told.recv_timeout(PATIENCE) {
                Ok(Ok(aside)) => {
                    self.unwritten = false;
                    self.doubts.written(&self.folder, aside.as_deref());
                    return None;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the disk does not answer".to_owned(),
            },
        };
        Some(format!("{}: {why}", file::path(&self.folder).display()))
    }

    /// Writes what was forgotten since it was written last: at the next start it must not come back. `always`: also where nothing was.
    fn settle(&mut self, always: bool) {
        if (self.unwritten || always)
            && let Some(why) = self.save()
        {
            tracing::error!(why, "switches can not be written");
        }
    }

    /// Brings the cells to what holds.
    fn tell(&self) {
        for (service, cell) in &self.cells {
            cell.told.set(self.of(service));
        }
    }

    /// Whether a service is in maintenance: by its switch, else by the configuration.
    fn of(&self, service: &str) -> Option<InMaintenance> {
        let cell = self.cells.get(service);
        let later = cell.and_then(|cell| cell.retry_after);
        match self.record.maintenance.get(service) {
            Some(on) => Some(InMaintenance { retry_after: on.retry_after.or(later) }),
            None if cell.is_some_and(|cell| cell.configured) && !self.record.lifted.contains(service) => {
                Some(InMaintenance { retry_after: later })
            }
            None => None,
        }
    }

    /// A slot that the configuration says as well needs nobody to say it: when it says another one, that is a new word.
    fn forget_slots(&mut self, plan: &Plan) {
        for service in &plan.services {
            if let (Some(slots), Some(kept)) = (&service.upstream.slots, self.record.slots.get_mut(&service.name))
                && kept.switch.is_none()
                && kept.active.is_some()
                && kept.active.as_deref() == slots.get(slots.active).map(|slot| &*slot.name)
            {
                kept.active = None;
                self.unwritten = true;
            }
        }
    }

    /// A service that the configuration does not have in maintenance any more needs nobody to take it out: when it is configured so another time, that
    /// is a new word.
    fn forget_lifted(&mut self) {
        let before = self.record.lifted.len();
        let cells = &self.cells;
        self.record.lifted.retain(|service| cells.get(service).is_some_and(|cell| cell.configured));
        self.unwritten |= self.record.lifted.len() != before;
    }
}

#[cfg(test)]
mod tests;

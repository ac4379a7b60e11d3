//! A file of switches that cannot be read, or not be understood: what is assumed, what is said, and that it is not lost.
//!
//! What was not understood is put aside before anything is written in its place; what the system does not give out is not replaced at all. Until somebody
//! has seen to it, the gateway's readiness has a warning.
//!
//! Invariant: whatever was not read is still there afterwards.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, MutexGuard};

use super::file::{self, Unread};
use super::{Kept, Record, Switches};
use crate::plan::Plan;

/// What is wrong with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The system does not give it out: it is not replaced.
    Closed,
    /// It was not understood, or not all of it: it is put aside before another one is written.
    Bad,
    /// It was put aside, where it still is.
    Aside,
}

/// Where it is told, without waiting for a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubts {
    now: Arc<AtomicU8>,
    /// What lies there was not read as a whole. Another one for another folder.
    unread: Arc<AtomicBool>,
    /// Somebody has turned a switch since.
    turned: bool,
}

impl Doubts {
    fn get(&self) -> Option<Doubt> {
        match self.now.load(Ordering::Acquire) {
            1 => Some(Doubt::Closed),
            2 => Some(Doubt::Bad),
            3 => Some(Doubt::Aside),
            _ => None,
        }
    }

    fn set(&mut self, to: Option<Doubt>) {
        // A writer that hangs in another folder keeps its own.
        self.unread = Arc::new(AtomicBool::new(matches!(to, Some(Doubt::Closed | Doubt::Bad))));
        self.turned = false;
        let word = to.map_or(0, |doubt| match doubt {
            Doubt::Closed => 1,
            Doubt::Bad => 2,
            Doubt::Aside => 3,
        });
        self.now.store(word, Ordering::Release);
    }

    /// What the writer looks at.
    pub(super) fn unread(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unread)
    }

    /// A switch was turned.
    pub(super) fn turned(&mut self) {
        self.turned = true;
    }

    /// The file was written anew; `aside`: what lay there was put aside.
    pub(super) fn written(&mut self, folder: &Path, aside: Option<&Path>) {
        if let Some(path) = aside {
            tracing::error!(path = %path.display(), "what was not read of the switches lies here now: look at it, then remove it");
        }
        match (self.get(), aside) {
            (_, Some(_)) => self.set(Some(Doubt::Aside)),
            (Some(Doubt::Closed | Doubt::Bad), None) => self.set(lies_aside(folder)),
            _ => {}
        }
    }
}

impl Switches {
    /// What is wrong with the file that they are kept in; `None`: nothing.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubts.get()
    }

    /// What another process has written to `folder`, or this one before it was started anew.
    pub(super) fn read_into(kept: &mut MutexGuard<'_, Kept>, folder: &Path) {
        let path = file::path(folder);
        let known = !kept.cells.is_empty();
        let assumed = if known {
            "what was known before"
        } else {
            "as the configuration says: nothing is drained, and no slot or maintenance was switched"
        };
        let doubt = match file::read(folder) {
            Ok((record, problems)) => {
                kept.record = record;
                for problem in &problems {
                    tracing::error!(path = %path.display(), problem, "a switch can not be understood: it counts as not turned");
                }
                let before = lies_aside(folder);
                if before.is_some() {
                    let path = file::aside(folder);
                    tracing::warn!(path = %path.display(), "switches that were not understood still lie here: look at them, then remove them");
                }
                if problems.is_empty() { before } else { Some(Doubt::Bad) }
            }
            Err(Unread::Nonsense(error)) => {
                tracing::error!(path = %path.display(), error, assumed, "switches can not be understood");
                Some(Doubt::Bad)
            }
            Err(Unread::Closed(error)) => {
                tracing::error!(path = %path.display(), %error, assumed, "switches can not be read: the file stays as it is, and nothing that is turned is kept");
                Some(Doubt::Closed)
            }
        };
        kept.doubts.set(doubt);
    }
}

/// Whether something was put aside and is still there.
fn lies_aside(folder: &Path) -> Option<Doubt> {
    file::aside(folder).exists().then_some(Doubt::Aside)
}

impl Kept {
    /// Another folder is theirs from now on. What lies there already was told to another process, or to this one long ago. `true`: it is to be replaced.
    pub(super) fn look_there(&mut self) -> bool {
        let path = file::path(&self.folder);
        let (same, doubt) = match file::read(&self.folder) {
            Ok((record, problems)) if problems.is_empty() => {
                if record != self.record && record != Record::default() {
                    tracing::warn!(path = %path.display(), "the switches there are replaced by those of this process");
                }
                (record == self.record, lies_aside(&self.folder))
            }
            Ok(_) | Err(Unread::Nonsense(_)) => (false, Some(Doubt::Bad)),
            Err(Unread::Closed(_)) => (false, Some(Doubt::Closed)),
        };
        self.doubts.set(doubt);
        !same
    }

    /// Says which slots are assumed because nothing is known about them.
    pub(super) fn tell_assumed(&self, plan: &Plan) {
        if !matches!(self.doubts.get(), Some(Doubt::Closed | Doubt::Bad)) {
            return;
        }
        for service in &plan.services {
            if let Some(slots) = &service.upstream.slots
                && self.record.slots.get(&service.name).is_none_or(|kept| kept.active.is_none())
                && let Some(slot) = slots.get(slots.active)
            {
                tracing::error!(
                    service = &*service.name,
                    slot = &*slot.name,
                    "requests go to the slot of the configuration: nobody knows whether another one was switched to"
                );
            }
        }
    }

    /// Looks again at what was wrong with the file, at a reload. `true`: it is to be written.
    pub(super) fn look_again(&mut self) -> bool {
        let path = file::path(&self.folder);
        match self.doubts.get() {
            None => false,
            Some(Doubt::Bad) => true,
            Some(Doubt::Aside) => {
                self.doubts.set(lies_aside(&self.folder));
                false
            }
            Some(Doubt::Closed) => match file::read(&self.folder) {
                Ok((record, problems)) if problems.is_empty() && !self.doubts.turned => {
                    self.record = record;
                    self.doubts.set(None);
                    tracing::warn!(path = %path.display(), "switches can be read again, and hold");
                    false
                }
                Err(Unread::Closed(error)) => {
                    tracing::error!(path = %path.display(), %error, "switches can still not be read");
                    false
                }
                // Whoever turned some since then is right.
                Ok(_) | Err(Unread::Nonsense(_)) => true,
            },
        }
    }
}

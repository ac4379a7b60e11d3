//! Answers of the gateway's own that a worker gave lately, so that floods of the same refusal, and probes that ask every second, are answered by a copy.
//!
//! A worker keeps a few. All are forgotten when the `Date` changes or another plan is in force. Invariant: what is told of a request is the same whether its answer
//! was kept or is made; [`Key`] holds all that it depends on, but the request's id.

use std::cell::{Cell, RefCell};

use probegate_policies::reason::Reason;

use crate::wire::Responder;
use crate::wire::known::Known;
use crate::worker::date;

/// How many are kept.
const KEPT: usize = 8;

/// What decides how an answer reads, under one plan and at one `Date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A refusal, told as a document.
    Refusal {
        /// What the client sees.
        status: u16,
        /// Why.
        reason: Reason,
        /// The reason stands in a field, too.
        header: bool,
        /// Seconds until the client may come back.
        retry_after: Option<u64>,
        /// The place of the limit in memory, what it has left, and the seconds until all of it is back.
        limited: Option<(usize, u32, u64)>,
    },
    /// The gateway's own answer to a probe: service and probe, and whether it passes.
    Probe(usize, usize, bool),
}

/// Those of one worker.
#[derive(Debug)]
pub struct Repeats {
    kept: RefCell<Vec<(Key, Known)>>,
    /// Those that were asked for and were not there, the oldest of them next to be written over.
    missed: RefCell<([Option<Key>; KEPT], usize)>,
    /// The `Date` that all of them bear.
    date: Cell<[u8; date::LEN]>,
}

impl Repeats {
    /// None, for answers of this `Date`.
    pub fn new(date: [u8; date::LEN]) -> Self {
        Self { kept: RefCell::default(), missed: RefCell::default(), date: Cell::new(date) }
    }

    /// Prepares the answer that is kept under this key, if there is one and the client would get it in the same form.
    #[inline]
    pub fn recall<R: Responder>(&self, key: Key, id: &[u8; 32], reply: &mut R) -> bool {
        let kept = self.kept.borrow();
        kept.iter().find(|(known, _)| *known == key).is_some_and(|(_, known)| reply.recall(known, id))
    }

    /// Whether an answer that is not kept was missed lately as well. Where every client is told other numbers, none is worth keeping.
    pub fn is_repeated(&self, key: Key) -> bool {
        let mut missed = self.missed.borrow_mut();
        let (keys, at) = &mut *missed;
        if keys.contains(&Some(key)) {
            return true;
        }
        if let Some(place) = keys.get_mut(*at) {
            *place = Some(key);
        }
        *at = (*at + 1) % KEPT;
        false
    }

    /// Keeps the answer that was prepared just now, in the place of the one that was kept first.
    #[cold]
    pub fn keep<R: Responder>(&self, key: Key, id: Option<&[u8; 32]>, reply: &R) {
        // A request that waited for long answers with the date of its beginning.
        let date = self.date.get();
        let Some(known) = reply.keep(id).filter(|known| known.says(&date)) else { return };
        let mut kept = self.kept.borrow_mut();
        kept.retain(|(other, _)| *other != key);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((key, known));
    }

    /// Forgets all of them; `date` is the current one.
    pub fn clear(&self, date: [u8; date::LEN]) {
        self.date.set(date);
        self.missed.take();
        self.kept.borrow_mut().clear();
    }
}

//! Whose place a question takes among those that a shield knows, and who asks for themselves alone.
//!
//! Invariant: strangers take no place but their own. The room for plain questions is larger than what one address of the gateway's
//! can be asked plainly, so that nobody fills it by making things up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests at a time that ask for themselves alone: so many of clients that are known, and so many strangers.
const MOST_ALONE: usize = 64;

/// Whose place a question takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// The place of what anybody asks who makes nothing up: no query, no form in particular, and a host that the configuration or the gateway's own address
    /// names.
    Plain,
    /// A place for those who are somebody: inside `internal`, or let in by a rule that does not let in anyone.
    Known,
    /// A place for everybody else.
    Strangers,
}

impl Room {
    /// How many questions it has places for.
    pub(super) fn places(self) -> usize {
        match self {
            Self::Plain => 16,
            Self::Known | Self::Strangers => 32,
        }
    }

    /// The room of a client.
    fn of(known: bool) -> Self {
        if known { Self::Known } else { Self::Strangers }
    }
}

/// Who asks a question.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// It is not just anyone.
    pub known: bool,
    /// The question is a plain one: whoever makes nothing up asks it.
    pub plain: bool,
}

impl Asker {
    /// The rooms that the question may take a place in, in this order.
    pub(super) fn rooms(self) -> impl Iterator<Item = Room> {
        self.plain.then_some(Room::Plain).into_iter().chain([Room::of(self.known)])
    }
}

/// Those who ask for themselves alone.
#[derive(Debug, Default)]
pub(super) struct Singles {
    known: Arc<AtomicUsize>,
    strangers: Arc<AtomicUsize>,
}

impl Singles {
    /// A place for one more; `None`: there is none.
    pub(super) fn enter(&self, known: bool) -> Option<Alone> {
        let taken = if known { &self.known } else { &self.strangers };
        // Counts down again when it is dropped, also where there was no place.
        let before = taken.fetch_add(1, Ordering::Relaxed);
        let place = Alone(Arc::clone(taken));
        (before < MOST_ALONE).then_some(place)
    }
}

/// A request that asks for itself alone.
#[derive(Debug)]
pub struct Alone(Arc<AtomicUsize>);

impl Drop for Alone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Limits on requests in flight: who is in, and who waits for a place.
//!
//! A request that is let in gets a [`Place`] and keeps it for as long as it is in flight. However it ends (answered, given up, in a panic), the place is dropped,
//! and dropped means given back. Whoever finds a limit full and may wait joins the line of its key and holds a [`Ticket`]; what is given back goes to
//! the first in the line, and nobody passes those who wait. The line is behind a lock, which is taken only where somebody waits.
//!
//! Invariants:
//! * A place is given back where it was taken, whatever plan is in force by then: it holds its [`Room`].
//! * Nobody waits for a place of one limit while holding one of a limit behind it in `order`: two cannot wait for each other, not even across a reload.

mod holding;
mod line;
mod order;
mod taking;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use probegate_policies::limit::places::{Entered, Occupancy, Places, Slot};
use probegate_policies::limit::{Key, Quota, Seed};

pub use self::holding::Holding;
use self::line::Line;
pub use self::line::Ticket;
pub(super) use self::order::order;
pub(super) use self::taking::rooms;
use crate::plan::InFlight;

/// Those who wait for one limit, over all its keys. Each holds the memory of its connection or stream.
const MOST_WAITING: usize = 65_536;

/// One limit on requests in flight. It outlives plans.
#[derive(Debug)]
pub struct Room {
    places: Places,
    most: AtomicU32,
    queue: AtomicUsize,
    line: Mutex<Line>,
}

/// How a request fares that wants in. `T`: what it has in its hands while it waits.
#[derive(Debug)]
enum Came<T> {
    /// It has a place; `None`: nobody counts it. And how many have one now.
    In(Option<Place>, u32),
    /// It has one that there is not: the limit refuses nobody.
    Shadowed(Option<Place>),
    /// It may wait for one.
    Waits(T),
    /// There is none.
    Full,
}

impl<T> Came<T> {
    /// Whether it is over the limit (`true`) or near it; `None`: neither, or not known yet.
    fn is_over(&self, quota: &Quota) -> Option<bool> {
        match self {
            // More than there may be: it would have waited.
            Self::In(_, count) => {
                let left = quota.limit().checked_sub(*count);
                left.is_none_or(|left| quota.is_near(left)).then_some(false)
            }
            Self::Waits(_) => None,
            Self::Full | Self::Shadowed(_) => Some(true),
        }
    }
}

/// There is no place at the moment.
struct Full;

impl Room {
    /// Nobody is in.
    fn new(max_keys: usize, seed: Seed) -> Self {
        Self {
            places: Places::new(max_keys, seed).pausing(std::thread::yield_now),
            most: AtomicU32::new(1),
            queue: AtomicUsize::new(0),
            line: Mutex::default(),
        }
    }

    /// From now on, so many may be in, and wait. Who waits and need not any more is let in.
    fn set(self: &Arc<Self>, limit: &InFlight) {
        self.most.store(limit.most, Ordering::Relaxed);
        self.queue.store(limit.queue, Ordering::Relaxed);
        self.line().serve_all(self);
    }

    /// Its counters.
    fn places(&self) -> &Places {
        &self.places
    }

    /// How many are in, of how many keys. Reads all of the table: for reports.
    pub fn occupancy(&self) -> Occupancy {
        self.places.occupancy()
    }

    /// Requests that were let in uncounted.
    pub fn uncounted(&self) -> u64 {
        self.places.uncounted()
    }

    /// A place at once, and how many are in with it; `None`: nobody counts it. `limit`: its index in the plan of the request.
    #[inline]
    fn enter(self: &Arc<Self>, limit: usize, key: Key) -> Result<(Option<Place>, u32), Full> {
        match self.places.enter(key, self.most()) {
            Entered::In { slot, count } => Ok((Some(Place::new(Arc::clone(self), slot, limit, key)), count)),
            Entered::Uncounted => Ok((None, 0)),
            Entered::Full(_) => Err(Full),
        }
    }

    /// A place, or one in the line.
    fn come(self: &Arc<Self>, limit: usize, key: Key) -> Came<Ticket> {
        match self.enter(limit, key) {
            Ok((place, count)) => Came::In(place, count),
            Err(Full) if self.queues() => self.join(limit, key),
            Err(Full) => Came::Full,
        }
    }

    /// Whether anybody may wait.
    fn queues(&self) -> bool {
        self.queue.load(Ordering::Relaxed) > 0
    }

    /// Counts a request that is let in whether there is a place or not, not even in the line.
    fn come_anyway<T>(self: &Arc<Self>, limit: usize, key: Key) -> Came<T> {
        let Entered::In { slot, count } = self.places.enter(key, u32::MAX) else { return Came::In(None, 0) };
        let most = self.most().saturating_add(u32::try_from(self.queue.load(Ordering::Relaxed)).unwrap_or(u32::MAX));
        let place = Some(Place::new(Arc::clone(self), slot, limit, key));
        if count > most { Came::Shadowed(place) } else { Came::In(place, count) }
    }

    #[cold]
    fn join(self: &Arc<Self>, limit: usize, key: Key) -> Came<Ticket> {
        let mut line = self.line();
        let enter = || match self.places.enter_or_mark(key, self.most()) {
            Entered::In { slot, count } => Err(Came::In(Some(Place::new(Arc::clone(self), slot, limit, key)), count)),
            Entered::Uncounted => Err(Came::In(None, 0)),
            Entered::Full(slot) => Ok(slot),
        };
        let mut slot = match enter() {
            Ok(slot) => slot,
            Err(came) => return came,
        };
        // There may be more places than before.
        line.serve(self, slot);
        if line.waiting(slot) == 0 {
            // The mark has gone with the last who waited, or is this one's and may be late: nobody joins the line of a key without it.
            self.places.unmark(slot);
            slot = match enter() {
                Ok(slot) => slot,
                Err(came) => return came,
            };
        }
        let waiting = line.waiting(slot);
        if waiting >= self.queue.load(Ordering::Relaxed) || line.len() >= MOST_WAITING {
            if waiting == 0 {
                self.places.unmark(slot);
            }
            return Came::Full;
        }
        Came::Waits(line.join(self, slot, limit, key))
    }

    fn leave(self: &Arc<Self>, slot: Slot) {
        if !self.places.leave(slot) {
            let mut line = self.line();
            self.places.leave_marked(slot);
            line.serve(self, slot);
        }
    }

    fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nobody panics with it, and if so, what is in it still holds.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place under one limit. Given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    /// `None`: given back.
    room: Option<Arc<Room>>,
    slot: Slot,
    /// Index of the limit in the plan of the request.
    limit: usize,
    key: Key,
}

impl Place {
    fn new(room: Arc<Room>, slot: Slot, limit: usize, key: Key) -> Self {
        Self { room: Some(room), slot, limit, key }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            room.leave(self.slot);
        }
    }
}

#[cfg(test)]
mod tests;

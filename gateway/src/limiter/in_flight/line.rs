//! Those who wait for a place: a line for each key, first come first.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use probegate_policies::limit::Key;
use probegate_policies::limit::places::Slot;
use tokio::sync::oneshot;

use super::{Place, Room};

/// The lines of one limit. A key without anybody who waits has none, and is not marked.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiters: HashMap<Slot, VecDeque<Waiter>>,
    len: usize,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    limit: usize,
    key: Key,
    tell: oneshot::Sender<Place>,
}

/// A request in the line. Dropped, it leaves the line, and gives back what it may just have got.
#[derive(Debug)]
pub struct Ticket {
    room: Arc<Room>,
    slot: Slot,
    number: u64,
    /// Index of the limit in the plan of the request.
    pub limit: usize,
    /// Whose line it is.
    pub(super) key: Key,
    told: oneshot::Receiver<Place>,
}

impl Ticket {
    /// Its turn: the place.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Place> {
        match Pin::new(&mut self.told).poll(cx) {
            Poll::Ready(Ok(place)) => Poll::Ready(place),
            // Nobody forgets who waits; if so, it is not let in either.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut line = self.room.line();
        line.remove(self.slot, self.number);
        line.serve(&self.room, self.slot);
        // Behind this, the lock is free, and `told` gives back a place that came too late.
    }
}

impl Line {
    /// How many wait, over all keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many wait for this one.
    pub(super) fn waiting(&self, slot: Slot) -> usize {
        self.waiters.get(&slot).map_or(0, VecDeque::len)
    }

    /// Puts a request at the end. Its key is marked.
    pub(super) fn join(&mut self, room: &Arc<Room>, slot: Slot, limit: usize, key: Key) -> Ticket {
        let (tell, told) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.len += 1;
        self.waiters.entry(slot).or_default().push_back(Waiter { number, limit, key, tell });
        Ticket { room: Arc::clone(room), slot, number, limit, key, told }
    }

    fn remove(&mut self, slot: Slot, number: u64) {
        if let Some(waiters) = self.waiters.get_mut(&slot)
            && let Ok(at) = waiters.binary_search_by_key(&number, |waiter| waiter.number)
            && waiters.remove(at).is_some()
        {
            self.len -= 1;
        }
    }

    /// Gives away what places there are, of all keys.
    pub(super) fn serve_all(&mut self, room: &Arc<Room>) {
        let slots: Vec<_> = self.waiters.keys().copied().collect();
        for slot in slots {
            self.serve(room, slot);
        }
    }

    /// Gives away what places there are. Where nobody waits any more, the mark goes.
    pub(super) fn serve(&mut self, room: &Arc<Room>, slot: Slot) {
        let Some(waiters) = self.waiters.get_mut(&slot) else { return };
        while !waiters.is_empty() && room.places().hand_on(slot, room.most()) {
            let Some(Waiter { limit, key, tell, .. }) = waiters.pop_front() else { break };
            self.len -= 1;
            if let Err(mut place) = tell.send(Place::new(Arc::clone(room), slot, limit, key)) {
                // It has gone. Its place is not given back the usual way, which would lock the line that is locked.
                place.room = None;
                room.places().leave_marked(slot);
            }
        }
        if waiters.is_empty() {
            self.waiters.remove(&slot);
            room.places().unmark(slot);
        }
        // A crowd that is gone leaves no room behind that nobody needs.
        if self.waiters.capacity() > 1024 && self.waiters.len() < self.waiters.capacity() / 8 {
            self.waiters.shrink_to(self.waiters.len() * 2);
        }
    }
}

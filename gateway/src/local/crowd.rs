//! How many connections a local server has at a time, and what becomes of one more.
//!
//! Whoever has waited longest without a whole request makes room for who comes. Where nobody waits, who comes is told to come back: 503, as long as there
//! is room for that, and nothing beyond it. So somebody who opens connections and says nothing keeps nobody out, and no number of them uses up descriptors
//! that clients of the gateway need.

use std::cell::Cell;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::telemetry::sparing::Sparing;
use crate::wire::buffer::Buffer;
use crate::wire::deadline::{Deadline, Deadlines};
use crate::wire::h1::io::{linger, write_all};
use crate::wire::transport::Transport;

/// Connections at a time, where the process may have enough descriptors.
pub const MOST: usize = 256;

/// Further ones that are told to come back, or whose places others have just left.
const BEYOND: usize = 32;

/// How long somebody may wait who has just come, however many want the place.
const GRACE: Duration = Duration::from_millis(500);

/// What is told to one too many.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\
                      Retry-After: 1\r\nConnection: close\r\n\r\ntoo many connections\n";

/// Connections of local servers, counted for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// That are open.
    pub open: AtomicU64,
    /// That were turned away: too many were open.
    pub turned_away: AtomicU64,
    /// That waited for a request, and were ended to make room.
    pub hurried: AtomicU64,
}

/// The connections of one local server.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    open: Cell<usize>,
    counts: Arc<Counts>,
    told: Sparing,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Rc<Crowd>);

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Entered {
    /// It is served.
    Served(Place),
    /// It is told to come back.
    TurnedAway(Place),
    /// It is dropped.
    Dropped,
}

impl Crowd {
    /// Of nobody. It never takes more than a sixteenth of the descriptors that the process may have.
    pub(super) fn new(counts: Arc<Counts>) -> Rc<Self> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(limit / 16).unwrap_or(MOST).min(MOST);
        Rc::new(Self { most, open: Cell::new(0), counts, told: Sparing::new(1, 10) })
    }

    /// Somebody comes. `unix`: the time.
    pub(super) fn enter(self: &Rc<Self>, deadlines: &Deadlines, unix: u64) -> Entered {
        let open = self.open.get();
        if open < self.most {
            return Entered::Served(self.place());
        }
        if open < self.most + BEYOND && deadlines.hurry_idle(1, GRACE) > 0 {
            self.counts.hurried.fetch_add(1, Ordering::Relaxed);
            return Entered::Served(self.place());
        }
        self.counts.turned_away.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.told.pass(unix) {
            tracing::warn!(
                connections = open,
                left_out,
                "a local server has too many connections, and turns others away"
            );
        }
        if open < self.most + BEYOND { Entered::TurnedAway(self.place()) } else { Entered::Dropped }
    }

    fn place(self: &Rc<Self>) -> Place {
        self.open.set(self.open.get() + 1);
        self.counts.open.fetch_add(1, Ordering::Relaxed);
        Place(Rc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells somebody to come back. What they have sent is taken, so that they get to read it.
pub(super) async fn turn_away(stream: &impl Transport, deadline: &Deadline) {
    if write_all(stream, &mut [IoSlice::new(FULL)], deadline, GRACE).await.is_ok() {
        linger(stream, &mut Buffer::new(4096), deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_waits_longest_makes_room_and_where_nobody_waits_who_comes_is_turned_away() {
        let counts = Arc::<Counts>::default();
        let crowd = Rc::new(Crowd { most: 2, ..Rc::into_inner(Crowd::new(Arc::clone(&counts))).unwrap() });
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let (one, two) = (deadlines.slot(), deadlines.slot());
        let mut places = vec![crowd.enter(&deadlines, 1), crowd.enter(&deadlines, 1)];
        assert!(places.iter().all(|entered| matches!(entered, Entered::Served(_))));
        one.arm_idle(Duration::from_secs(10));
        two.arm(Duration::from_secs(10));
        assert!(matches!(crowd.enter(&deadlines, 1), Entered::TurnedAway(_)), "nobody has waited for long");
        deadlines.observe(origin + GRACE * 2);
        places.push(crowd.enter(&deadlines, 1));
        assert!(matches!(places.last(), Some(Entered::Served(_))), "one of them has");
        assert!(matches!(crowd.enter(&deadlines, 1), Entered::TurnedAway(_)), "and the other is busy");
        for _ in 3..2 + BEYOND {
            places.push(crowd.enter(&deadlines, 1));
        }
        assert!(matches!(crowd.enter(&deadlines, 1), Entered::Dropped));
        let counted = [&counts.open, &counts.hurried].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counted, [34, 1]);
        places.clear();
        assert_eq!((crowd.open.get(), counts.open.load(Ordering::Relaxed)), (0, 0));
    }
}

//! A worker: one thread with its own event loop, upstream connections, buffers and clock.
//!
//! Nothing on the path of a request is shared between workers but atomic counters and the tables of the limits.

pub mod accept;
pub mod clock;
pub mod date;
mod greet;
pub mod workspace;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use self::clock::Clock;
use self::date::Date;
use self::workspace::Workspaces;
use crate::files::Shelf;
use crate::state::{Active, State};
use crate::store::Store;
use crate::store::link::Link;
use crate::telemetry::access_log::LineBuffer;
use crate::upstream::Pools;
use crate::wire::deadline::Deadlines;
use crate::wire::pipe::Pipes;

/// How long a connection may exist without a request once the listeners are closed, or when there is no room.
pub const NEWCOMER: Duration = Duration::from_secs(1);

/// The digits of each byte in hexadecimal.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "the loop ends at 256, and half a byte is below 16")]
        {
            pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        }
        byte += 1;
    }
    pairs
};

/// What the connections of a worker share.
#[derive(Debug)]
#[expect(
    clippy::redundant_allocation,
    reason = "requests count their plan without touching the counter that all threads share"
)]
pub struct Worker {
    /// Itself, for what outlives the request that it was begun for.
    me: Weak<Self>,
    /// Its number, from 0: which shard of the counters it writes.
    pub id: usize,
    /// What all threads share.
    pub state: Arc<State>,
    /// Deadlines of its connections.
    pub deadlines: Rc<Deadlines>,
    /// Upstream connections that are not in use.
    pub pools: Pools,
    /// For large bodies that nobody looks at.
    pub pipes: Pipes,
    /// Buffers that are not in use.
    pub workspaces: Workspaces,
    /// Files that are open.
    pub files: Shelf,
    /// Access-log lines on their way.
    pub lines: RefCell<LineBuffer>,
    /// The same of refusals in nginx's words.
    pub refusals: RefCell<LineBuffer>,
    /// The current `Date`.
    pub date: Date,
    /// The wall clock.
    pub clock: Clock,
    /// The plan in force and its generation. A counter that only this thread touches keeps it for the requests that run.
    active: RefCell<(u64, Rc<Arc<Active>>)>,
    /// The connection to the store of shared limits.
    link: RefCell<Option<Rc<Link>>>,
    random: RefCell<fastrand::Rng>,
    /// Whether idle connections have been told that the gateway is going down, and that its listeners are closed.
    hurried: Cell<(bool, bool)>,
}

impl Worker {
    /// A worker that serves `state`.
    pub fn new(id: usize, state: Arc<State>) -> Rc<Self> {
        let active = Rc::new(state.active());
        let deadlines = Deadlines::new(state.origin());
        Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            id,
            pools: Pools::new(id, Rc::clone(&deadlines)),
            pipes: Pipes::default(),
            deadlines,
            workspaces: Workspaces::default(),
            files: Shelf::new(state.metrics.workers()),
            lines: RefCell::new(LineBuffer::new(state.access_log.clone())),
            refusals: RefCell::new(LineBuffer::new(state.access_log.clone())),
            date: Date::default(),
            clock: Clock::new(state.origin()),
            active: RefCell::new((state.generation(), active)),
            link: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            hurried: Cell::new((false, false)),
            state,
        })
    }

    /// Itself, for what outlives the request that it was begun for.
    pub fn handle(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }

    /// The plan in force.
    pub fn active(&self) -> Rc<Arc<Active>> {
        let generation = self.state.generation();
        let mut active = self.active.borrow_mut();
        if active.0 != generation {
            *active = (generation, Rc::new(self.state.active()));
        }
        Rc::clone(&active.1)
    }

    /// Sees to it that the worker has a connection to the store of the plan in force, if there is one.
    pub fn keep_link(&self) {
        let active = self.active();
        if self.link(active.store.as_ref()).is_none() {
            let link = active.store.as_ref().map(|store| Link::new(Arc::clone(store)));
            self.link.replace(link);
        }
    }

    /// The worker's connection to this store; `None`: it has another one, as for requests that began under an earlier plan.
    pub fn link(&self, store: Option<&Arc<Store>>) -> Option<Rc<Link>> {
        let link = self.link.borrow();
        link.as_ref().filter(|link| store.is_some_and(|store| Arc::ptr_eq(store, link.store()))).map(Rc::clone)
    }

    /// A request id: 128 random bits in hexadecimal.
    pub fn request_id(&self) -> [u8; 32] {
        let bytes = self.random.borrow_mut().u128(..).to_le_bytes();
        let mut id = [0; 32];
        let (pairs, _) = id.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(bytes) {
            *pair = HEX.get(usize::from(byte)).copied().unwrap_or_default();
        }
        id
    }

    /// Random bytes that nobody has to be unable to guess.
    pub fn nonce(&self) -> [u8; 16] {
        self.random.borrow_mut().u128(..).to_le_bytes()
    }

    /// What happens at every tick: late connections are woken, unused ones closed, log lines handed over.
    pub fn tick(&self, now: Instant) {
        self.deadlines.sweep(now);
        if self.state.is_cutting() {
            // Whoever waits finds its time over, and ends as it would have then: with an answer where none has begun, and a line in the log.
            self.deadlines.expire_all();
        }
        let hurry = (self.state.is_draining(), self.state.is_closing());
        if hurry != self.hurried.replace(hurry) {
            self.deadlines.wake_all();
        }
        self.make_room();
        self.keep_link();
        self.pools.sweep(now);
        self.files.sweep(self.deadlines.now());
        self.date.refresh();
        self.clock.look(now, SystemTime::now());
        self.lines.borrow_mut().flush();
        self.refusals.borrow_mut().flush();
    }

    /// When nine tenths of the connections that may be open are, those that have been idle for longest end, so that clients who have nothing to
    /// ask do not keep others out.
    fn make_room(&self) {
        let bound = self.active.borrow().1.plan.bounds.connections;
        let open = usize::try_from(self.state.metrics.connections.load(Ordering::Relaxed)).unwrap_or_default();
        let surplus = open.saturating_sub(bound - bound.div_ceil(10));
        if surplus > 0 {
            // Each worker gives its share; what it can not give, the next tick finds again.
            let ended = self.deadlines.hurry_idle(surplus.div_ceil(self.state.metrics.workers()), NEWCOMER);
            self.state.metrics.idle_ended.fetch_add(ended as u64, Ordering::Relaxed);
        }
    }
}

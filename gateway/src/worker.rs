//! A worker: one thread with its own event loop, upstream connections, buffers and clock.
//!
//! Nothing on the path of a request is shared between workers but atomic counters and the tables of the limits.

pub mod accept;
pub mod clock;
pub mod date;
mod greet;
mod room;
pub mod workspace;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use self::clock::Clock;
use self::date::Date;
use self::room::Looks;
use self::workspace::Workspaces;
use crate::files::Shelf;
use crate::memory::{self, Ebb, Tide};
use crate::request::repeat::Repeats;
use crate::state::{Active, State};
use crate::store::Store;
use crate::store::link::Link;
use crate::telemetry::access_log::LineBuffer;
use crate::telemetry::denials::LENGTH;
use crate::upstream::Pools;
use crate::wire::deadline::Deadlines;
use crate::wire::pipe::Pipes;

/// How long a connection may exist without a request once the listeners are closed, or when there is no room.
pub const NEWCOMER: Duration = Duration::from_secs(1);

/// How many refusals a worker remembers in a tick. The list of the last ones is short, and a flood of them is counted and logged: it would only write over its
/// own lines, at a tenth of what it costs to refuse a request.
const MEMORIES: usize = LENGTH / 2;

/// Four bytes as eight hexadecimal digits, all of them at once.
const fn hexadecimal(bytes: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut digits = bytes as u64;
    digits = (digits | (digits << 16)) & 0x0000_ffff_0000_ffff;
    digits = (digits | (digits << 8)) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | (digits << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    // Ten and more are letters, which begin 39 behind what would be the next digit.
    let letters = ((digits + 6 * EACH) >> 4) & EACH;
    (digits + b'0' as u64 * EACH + letters * 39).to_le_bytes()
}

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
    /// Answers of its own that it gave lately.
    repeats: Repeats,
    /// The wall clock.
    pub clock: Clock,
    /// The plan in force and its generation. A counter that only this thread touches keeps it for the requests that run.
    active: RefCell<(u64, Rc<Arc<Active>>)>,
    /// The connection to the store of shared limits.
    link: RefCell<Option<Rc<Link>>>,
    random: RefCell<fastrand::Rng>,
    /// How many refusals may still be remembered until the next tick.
    memories: Cell<usize>,
    /// Its connections that are open.
    open: Cell<usize>,
    /// Whether memory is to be given back.
    tide: Tide,
    /// Whether idle connections are looked for.
    looks: Looks,
    /// Whether idle connections have been told that the gateway is going down, and that its listeners are closed.
    hurried: Cell<(bool, bool)>,
}

impl Worker {
    /// A worker that serves `state`.
    pub fn new(id: usize, state: Arc<State>) -> Rc<Self> {
        let active = Rc::new(state.active());
        let deadlines = Deadlines::new(state.origin());
        let date = Date::default();
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
            repeats: Repeats::new(date.get()),
            date,
            clock: Clock::new(state.origin()),
            active: RefCell::new((state.generation(), active)),
            link: RefCell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            memories: Cell::new(MEMORIES),
            open: Cell::new(0),
            tide: Tide::default(),
            looks: Looks::default(),
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
            self.repeats.clear(self.date.get());
        }
        Rc::clone(&active.1)
    }

    /// Answers that were given lately under this plan. `None`: it is in force no longer.
    #[inline]
    pub fn repeats(&self, plan: &Active) -> Option<&Repeats> {
        let active = self.active.borrow();
        let current: &Active = &active.1;
        std::ptr::eq(current, plan).then_some(&self.repeats)
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
        let ((places, _), (words, _)) = (id.as_chunks_mut::<8>(), bytes.as_chunks::<4>());
        for (place, word) in places.iter_mut().zip(words) {
            *place = hexadecimal(u32::from_le_bytes(*word));
        }
        id
    }

    /// Whether one more refusal is worth remembering.
    #[inline]
    pub fn remembers(&self) -> bool {
        let left = self.memories.get();
        self.memories.set(left.saturating_sub(1));
        left > 0
    }

    /// Random bytes that nobody has to be unable to guess.
    pub fn nonce(&self) -> [u8; 16] {
        self.random.borrow_mut().u128(..).to_le_bytes()
    }

    /// What happens at every tick: late connections are woken, unused ones closed, log lines handed over.
    pub fn tick(&self, now: Instant) {
        self.deadlines.sweep(now);
        self.memories.set(MEMORIES);
        if self.state.is_cutting() {
            // Whoever waits finds its time over, and ends as it would have then: with an answer where none has begun, and a line in the log.
            self.deadlines.expire_all();
        }
        let hurry = (self.state.is_draining(), self.state.is_closing());
        if hurry != self.hurried.replace(hurry) {
            self.deadlines.wake_all();
        }
        self.make_room();
        self.workspaces.sweep(self.deadlines.now());
        let ebb = self.tide.turns(self.open.get(), self.deadlines.now());
        if ebb == Ebb::All {
            self.deadlines.shrink();
            self.workspaces.shrink();
        }
        memory::give_back(ebb);
        self.keep_link();
        self.pools.sweep(now);
        self.files.sweep(self.deadlines.now());
        if self.date.refresh() {
            self.repeats.clear(self.date.get());
        }
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
        if surplus > 0 && self.looks.are_due(self.deadlines.len(), self.deadlines.now()) {
            // Each worker gives its share; what it can not give, the next look finds again.
            let ended = self.deadlines.hurry_idle(surplus.div_ceil(self.state.metrics.workers()), NEWCOMER);
            self.state.metrics.idle_ended.fetch_add(ended as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_of_an_id_is_hexadecimal() {
        let mut seen = std::collections::HashSet::new();
        for number in (0..=u32::from(u16::MAX)).map(|number| number * 0x1_0001) {
            let digits = hexadecimal(number);
            assert!(digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{number} {digits:?}");
            assert!(seen.insert(digits), "{number}");
        }
    }
}

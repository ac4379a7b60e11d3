//! Deadlines for the connections of one worker.
//!
//! A timer of the runtime costs a registration in a wheel for every wait. A connection here owns a slot for its whole life and arms
//! it by storing a number; one task of the worker looks at the slots at every [`TICK`] and wakes whoever is late. The time is known to
//! within a tick as well, so deadlines are kept to within two ticks, never early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// The time when every wait with an end is over.
const OVER: u64 = NEVER - 1;

/// The deadlines of one worker.
///
/// Looking costs a comparison for each slot, over numbers that lie side by side; a slot itself is touched only when its alarm goes off. A wait that
/// is put off later leaves its alarm where it is: the sweep that finds it finds out.
#[derive(Debug)]
pub struct Deadlines {
    origin: Instant,
    /// Milliseconds since `origin` at the last look.
    now: Cell<u64>,
    /// No alarm goes off before this.
    next: Cell<u64>,
    /// When each slot has to be looked at: never later than it is due.
    alarms: RefCell<Vec<u64>>,
    slots: RefCell<Vec<Rc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    due: Cell<u64>,
    /// The slot's entry in the worker's list of alarms.
    alarm: Cell<u64>,
    /// Since when its connection has nothing to do.
    idle: Cell<u64>,
    waker: RefCell<Option<Waker>>,
    /// Position in the worker's list, so that a slot leaves it in constant time.
    index: Cell<usize>,
}

/// One wait at a time with an end. Disarmed when it is made; leaves the worker's list when it is dropped.
#[derive(Debug)]
pub struct Deadline {
    owner: Rc<Deadlines>,
    slot: Rc<Slot>,
}

impl Deadlines {
    /// Deadlines relative to `origin`.
    pub fn new(origin: Instant) -> Rc<Self> {
        Rc::new(Self {
            origin,
            now: Cell::new(0),
            next: Cell::new(NEVER),
            alarms: RefCell::default(),
            slots: RefCell::default(),
        })
    }

    /// A new slot.
    pub fn slot(self: &Rc<Self>) -> Deadline {
        let mut slots = self.slots.borrow_mut();
        let slot = Rc::new(Slot {
            due: Cell::new(NEVER),
            alarm: Cell::new(NEVER),
            idle: Cell::new(NEVER),
            waker: RefCell::default(),
            index: Cell::new(slots.len()),
        });
        slots.push(Rc::clone(&slot));
        self.alarms.borrow_mut().push(NEVER);
        Deadline { owner: Rc::clone(self), slot }
    }

    /// How many slots exist.
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Gives back memory that many more slots than there are now once needed.
    pub fn shrink(&self) {
        let (mut slots, mut alarms) = (self.slots.borrow_mut(), self.alarms.borrow_mut());
        let room = slots.len() * 2;
        slots.shrink_to(room);
        alarms.shrink_to(room);
    }

    /// Whether no slot exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the time, and says how long that is since the origin. Called at every tick, and wherever the time is read anyway.
    #[inline]
    pub fn observe(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.origin);
        let millis = since.as_secs().saturating_mul(1000).saturating_add(since.subsec_millis().into());
        self.now.set(millis.min(OVER).max(self.now.get()));
        since
    }

    /// The time as it was last told, since the origin: off by up to a tick.
    #[inline]
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.now.get())
    }

    /// Wakes every connection that is late.
    pub fn sweep(&self, now: Instant) {
        self.observe(now);
        let now = self.now.get();
        if now < self.next.get() {
            return;
        }
        let slots = self.slots.borrow();
        let mut next = NEVER;
        for (index, alarm) in self.alarms.borrow_mut().iter_mut().enumerate() {
            if *alarm <= now
                && let Some(slot) = slots.get(index)
            {
                *alarm = slot.due.get();
                if *alarm <= now {
                    *alarm = NEVER;
                    slot.wake();
                }
                slot.alarm.set(*alarm);
            }
            next = next.min(*alarm);
        }
        self.next.set(next);
    }

    /// Wakes every connection, late or not.
    pub fn wake_all(&self) {
        for slot in self.slots.borrow().iter() {
            slot.wake();
        }
    }

    /// Ends every wait that is armed, and from now on every one as soon as it is: the time is over.
    pub fn expire_all(&self) {
        self.now.set(OVER);
        self.wake_all();
    }

    /// Ends up to `most` of the waits that [`Deadline::arm_idle`] began, those that have lasted longest first and none that began less than
    /// `grace` ago. Says how many.
    pub fn hurry_idle(&self, most: usize, grace: Duration) -> usize {
        let now = self.now.get();
        let Some(latest) = now.checked_sub(u64::try_from(grace.as_millis()).unwrap_or(NEVER)) else {
            // Nobody can have waited for longer than there is time.
            return 0;
        };
        let slots = self.slots.borrow();
        let idle = slots.iter().enumerate().map(|(index, slot)| (slot.idle.get(), index));
        let mut idle: Vec<_> = idle.filter(|(since, _)| *since <= latest).collect();
        if most < idle.len() {
            // Only those that have to go need to be found, not their order.
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        for slot in idle.iter().filter_map(|(_, index)| slots.get(*index)) {
            slot.due.set(now);
            slot.idle.set(NEVER);
            slot.wake();
        }
        idle.len()
    }
}

impl Slot {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Deadline {
    /// Ends the coming waits after `duration` from now.
    #[inline]
    pub fn arm(&self, duration: Duration) {
        // One tick more than asked: the time was last observed up to a tick ago.
        let millis = u64::try_from((duration + TICK).as_millis()).unwrap_or(NEVER / 2);
        let due = self.owner.now.get().saturating_add(millis).min(OVER);
        self.slot.due.set(due);
        self.slot.idle.set(NEVER);
        if due < self.slot.alarm.get() {
            self.set_alarm(due);
        }
    }

    /// The same for a connection that has nothing to do, which may be ended early to make room.
    pub fn arm_idle(&self, duration: Duration) {
        self.arm(duration);
        self.slot.idle.set(self.owner.now.get());
    }

    /// The coming waits may take for ever.
    #[inline]
    pub fn disarm(&self) {
        self.slot.due.set(NEVER);
        self.slot.idle.set(NEVER);
    }

    /// The time as it was last told to the worker's deadlines. The difference of two is off by up to a tick, in either direction.
    #[inline]
    pub fn now(&self) -> Duration {
        self.owner.now()
    }

    /// Whether all time is over: whatever is armed from now on has expired at once, and the time stands still.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.owner.now.get() == OVER
    }

    /// Whether the time is over; if not, the task of `cx` is woken when it is.
    #[inline]
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> bool {
        if self.slot.due.get() <= self.owner.now.get() {
            return true;
        }
        let mut waker = self.slot.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        false
    }

    fn set_alarm(&self, due: u64) {
        if let Some(alarm) = self.owner.alarms.borrow_mut().get_mut(self.slot.index.get()) {
            *alarm = due;
        }
        self.slot.alarm.set(due);
        self.owner.next.set(due.min(self.owner.next.get()));
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let index = self.slot.index.get();
        let mut slots = self.owner.slots.borrow_mut();
        if index < slots.len() {
            slots.swap_remove(index);
            self.owner.alarms.borrow_mut().swap_remove(index);
            if let Some(moved) = slots.get(index) {
                moved.index.set(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_late_wait_is_woken_and_an_early_one_is_not() {
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let (soon, later) = (deadlines.slot(), deadlines.slot());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        soon.arm(Duration::from_millis(100));
        later.arm(Duration::from_secs(10));
        assert!(!soon.poll_expired(&mut cx));
        assert!(!later.poll_expired(&mut cx));
        deadlines.sweep(origin + Duration::from_millis(99));
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "never early");
        deadlines.sweep(origin + Duration::from_millis(151));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(soon.poll_expired(&mut cx));
        assert!(!later.poll_expired(&mut cx));
    }

    #[test]
    fn dropped_slots_leave_the_list_and_the_others_keep_working() {
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let first = deadlines.slot();
        let second = deadlines.slot();
        let third = deadlines.slot();
        drop(first);
        assert_eq!(deadlines.len(), 2);
        drop(third);
        second.arm(Duration::ZERO);
        deadlines.sweep(origin + TICK * 2);
        assert!(second.poll_expired(&mut Context::from_waker(Waker::noop())));
        drop(second);
        assert!(deadlines.is_empty());
    }
    #[test]
    fn a_wait_that_is_put_off_again_and_again_ends_when_it_is_due_and_one_that_is_moved_forward_too() {
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let slot = deadlines.slot();
        let mut cx = Context::from_waker(Waker::noop());
        let at = |millis| origin + Duration::from_millis(millis);
        for step in 0..20 {
            deadlines.sweep(at(step * 100));
            slot.arm(Duration::from_millis(300));
            assert!(!slot.poll_expired(&mut cx));
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        assert!(!slot.poll_expired(&mut Context::from_waker(&waker)));
        deadlines.sweep(at(1900 + 300));
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "never early");
        deadlines.sweep(at(1900 + 351));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        // An hour, and then a second after all.
        slot.arm(Duration::from_secs(3600));
        slot.arm(Duration::from_secs(1));
        assert!(!slot.poll_expired(&mut Context::from_waker(&waker)));
        deadlines.sweep(at(3500));
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_longest_idle_make_room_and_the_busy_and_the_new_stay() {
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let mut cx = Context::from_waker(Waker::noop());
        let slots: Vec<_> = (0..6).map(|_| deadlines.slot()).collect();
        for (second, slot) in (0..).zip(&slots) {
            deadlines.observe(origin + Duration::from_secs(second));
            slot.arm_idle(Duration::from_secs(75));
        }
        // The second one has got a request since.
        slots[1].arm(Duration::from_secs(10));
        let gone = |cx: &mut Context<'_>| slots.iter().map(|slot| slot.poll_expired(cx)).collect::<Vec<_>>();
        assert_eq!(deadlines.hurry_idle(2, Duration::from_secs(1)), 2);
        assert_eq!(gone(&mut cx), [true, false, true, false, false, false]);
        assert_eq!(deadlines.hurry_idle(100, Duration::from_secs(1)), 2);
        assert_eq!(gone(&mut cx), [true, false, true, true, true, false]);
        assert_eq!(deadlines.hurry_idle(100, Duration::from_secs(1)), 0);
    }

    #[test]
    fn when_the_time_is_over_every_wait_ends_but_those_for_ever() {
        let deadlines = Deadlines::new(Instant::now());
        let (armed, late, never) = (deadlines.slot(), deadlines.slot(), deadlines.slot());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        armed.arm(Duration::from_secs(3600));
        assert!(!armed.poll_expired(&mut cx) && !never.poll_expired(&mut cx) && !armed.is_over());
        deadlines.expire_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "everybody looks");
        late.arm(Duration::from_secs(3600));
        deadlines.observe(Instant::now());
        assert!(armed.poll_expired(&mut cx) && late.poll_expired(&mut cx) && !never.poll_expired(&mut cx));
        assert!(late.is_over());
    }

    #[test]
    fn a_sweep_over_the_slots_of_twenty_thousand_slow_connections_is_short() {
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let slots: Vec<_> = (0..60_000).map(|_| deadlines.slot()).collect();
        for (index, slot) in slots.iter().enumerate() {
            // Something is due at every tick.
            slot.arm(Duration::from_millis(index as u64));
        }
        let begun = Instant::now();
        for tick in 1..=100 {
            deadlines.sweep(origin + TICK * tick);
        }
        // Tens of microseconds each; the bound is one that a busy machine keeps as well.
        let each = begun.elapsed() / 100;
        assert!(each < Duration::from_millis(20), "{each:?}");
    }
}

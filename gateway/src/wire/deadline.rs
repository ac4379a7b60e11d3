//! Deadlines for the connections of one worker.
//!
//! A timer of the runtime costs a registration in a wheel for every wait. A connection here owns a slot for its whole life and arms
//! it by storing a number; one task of the worker looks at the slots at every [`TICK`] and wakes whoever is late. Deadlines are
//! therefore kept to within one tick, never early.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// The deadlines of one worker.
#[derive(Debug)]
pub struct Deadlines {
    origin: Instant,
    /// Milliseconds since `origin` at the last look.
    now: Cell<u64>,
    /// No armed slot is due before this.
    next: Cell<u64>,
    slots: RefCell<Vec<Rc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    due: Cell<u64>,
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
        Rc::new(Self { origin, now: Cell::new(0), next: Cell::new(NEVER), slots: RefCell::default() })
    }

    /// A new slot.
    pub fn slot(self: &Rc<Self>) -> Deadline {
        let mut slots = self.slots.borrow_mut();
        let slot = Rc::new(Slot { due: Cell::new(NEVER), waker: RefCell::default(), index: Cell::new(slots.len()) });
        slots.push(Rc::clone(&slot));
        Deadline { owner: Rc::clone(self), slot }
    }

    /// How many slots exist.
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether no slot exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the time. Called at every tick, and wherever the time is read anyway.
    #[inline]
    pub fn observe(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.origin).as_millis();
        self.now.set(u64::try_from(millis).unwrap_or(NEVER - 1).max(self.now.get()));
    }

    /// Wakes every connection that is late.
    pub fn sweep(&self, now: Instant) {
        self.observe(now);
        let now = self.now.get();
        if now < self.next.get() {
            return;
        }
        let mut next = NEVER;
        for slot in self.slots.borrow().iter() {
            let due = slot.due.get();
            if due <= now {
                if let Some(waker) = slot.waker.borrow_mut().take() {
                    waker.wake();
                }
            } else {
                next = next.min(due);
            }
        }
        self.next.set(next);
    }

    /// Wakes every connection, late or not.
    pub fn wake_all(&self) {
        for slot in self.slots.borrow().iter() {
            if let Some(waker) = slot.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Deadline {
    /// Ends the coming waits after `duration` from now.
    #[inline]
    pub fn arm(&self, duration: Duration) {
        // One tick more than asked: the time was last observed up to a tick ago.
        let millis = u64::try_from((duration + TICK).as_millis()).unwrap_or(NEVER / 2);
        let due = self.owner.now.get().saturating_add(millis).min(NEVER - 1);
        self.slot.due.set(due);
        if due < self.owner.next.get() {
            self.owner.next.set(due);
        }
    }

    /// The coming waits may take for ever.
    #[inline]
    pub fn disarm(&self) {
        self.slot.due.set(NEVER);
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
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let index = self.slot.index.get();
        let mut slots = self.owner.slots.borrow_mut();
        if index < slots.len() {
            slots.swap_remove(index);
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
}

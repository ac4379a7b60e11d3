//! Taking turns: connections of one worker whose bytes came together take each step of their requests together.
//!
//! A request is read, judged and answered, each with a call of the kernel before or after it, and each of these touches code of its own: more than the
//! first-level cache of a processor holds. Where forty requests wait, it is fetched once for all of them if first all are read, then all are judged, then all
//! are answered. So between its steps a connection lets the others that are ready do theirs. That costs two polls, and a worker that finds nobody else
//! there leaves it for some requests.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

/// For how many turns nobody makes room after one that nobody used.
const ALONE: u32 = 32;

/// How many wait for their turn at the most. Each holds the memory of its request.
const MOST: u32 = 64;

thread_local! {
    static ROUND: Round = const { Round { begun: Cell::new(0), waiting: Cell::new(0), alone: Cell::new(0) } };
}

/// What the connections of this thread do.
struct Round {
    /// Turns that were begun.
    begun: Cell<u32>,
    /// Those that wait.
    waiting: Cell<u32>,
    /// How many more begin without a look at others.
    alone: Cell<u32>,
}

/// Lets whatever else is ready on this thread go first, once.
#[derive(Debug, Default)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Turn {
    /// While it waits: how many had begun when it did, and whether another one waited then.
    waits: Option<(u32, bool)>,
}

/// The next step may begin when the others that are ready have done theirs.
#[inline]
pub fn turn() -> Turn {
    Turn::default()
}

impl Future for Turn {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ROUND.with(|round| {
            if let Some((begun, others)) = self.waits.take() {
                round.waiting.set(round.waiting.get().saturating_sub(1));
                if !others && begun == round.begun.get() {
                    round.alone.set(ALONE);
                }
                return Poll::Ready(());
            }
            let (begun, waiting) = (round.begun.get().wrapping_add(1), round.waiting.get());
            round.begun.set(begun);
            if let Some(left) = round.alone.get().checked_sub(1) {
                round.alone.set(left);
                return Poll::Ready(());
            }
            if waiting >= MOST {
                return Poll::Ready(());
            }
            round.waiting.set(waiting + 1);
            self.waits = Some((begun, waiting > 0));
            // Behind all that are ready now.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.waits.is_some() {
            ROUND.with(|round| round.waiting.set(round.waiting.get().saturating_sub(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// What so many connections do, each with two steps, in the order in which they do it.
    fn run(connections: usize) -> Vec<(usize, usize)> {
        ROUND.with(|round| (round.alone.set(0), round.waiting.set(0)));
        let done = Rc::new(RefCell::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let tasks = (0..connections).map(|connection| {
                let done = Rc::clone(&done);
                spawn_local(async move {
                    for step in 0..2 {
                        done.borrow_mut().push((step, connection));
                        turn().await;
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
        done.take()
    }

    #[test]
    fn those_that_are_ready_take_each_step_together() {
        assert_eq!(run(3), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        ROUND.with(|round| assert_eq!((round.waiting.get(), round.alone.get()), (0, 0), "the last one was not alone"));
    }

    #[test]
    fn only_so_many_wait_and_who_leaves_waits_no_more() {
        ROUND.with(|round| (round.alone.set(0), round.waiting.set(0)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut turns: Vec<_> = (0..MOST).map(|_| turn()).collect();
        assert!(turns.iter_mut().all(|turn| Pin::new(turn).poll(&mut cx).is_pending()));
        assert!(Pin::new(&mut turn()).poll(&mut cx).is_ready(), "no room");
        turns.pop();
        assert!(Pin::new(&mut turn()).poll(&mut cx).is_pending());
    }

    #[test]
    fn who_is_alone_makes_room_for_nobody_and_looks_again_after_a_while() {
        assert_eq!(run(1), [(0, 0), (1, 0)]);
        ROUND.with(|round| {
            assert_eq!(round.alone.get(), ALONE - 1, "the second step had no look");
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut polls = || (0..=ALONE).filter(|_| Pin::new(&mut turn()).poll(&mut cx).is_pending()).count();
            assert_eq!(polls(), 2, "the turn after the last one looks, and finds another after it");
        });
    }
}

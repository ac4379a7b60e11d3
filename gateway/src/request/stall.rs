//! How long an app was kept waiting by the client of its answer: one that gives up then did nothing wrong.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// An app that was kept waiting for less than this in all does not give up because of that.
const PATIENT: Duration = Duration::from_secs(1);

/// Time that an app was kept waiting.
#[derive(Debug, Default)]
pub struct Stall(Cell<Duration>);

impl Stall {
    /// Whether it was long.
    pub fn is_long(&self) -> bool {
        self.0.get() >= PATIENT
    }

    /// Does a step for which the app waits. The clock is looked at only when it takes time.
    pub async fn during<T>(&self, step: impl Future<Output = T>) -> T {
        let mut step = pin!(step);
        let mut since = None;
        poll_fn(|cx| match step.as_mut().poll(cx) {
            Poll::Pending => {
                since.get_or_insert_with(Instant::now);
                Poll::Pending
            }
            ready @ Poll::Ready(_) => {
                if let Some(since) = since {
                    self.0.set(self.0.get() + since.elapsed());
                }
                ready
            }
        })
        .await
    }
}

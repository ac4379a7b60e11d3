//! Work on a disk that somebody waits for, and for how long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Timeout;

/// Work that has begun. Whoever stops waiting does not end it: nothing can end a call that a disk does not answer.
#[derive(Debug)]
pub struct Job<T>(Pin<Box<Timeout<JoinHandle<T>>>>);

impl<T: Send + 'static> Job<T> {
    /// Begins on a thread for such work. `patience`: how long it is waited for.
    pub(super) fn begin(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self(Box::pin(tokio::time::timeout(patience, tokio::task::spawn_blocking(work))))
    }
}

impl<T> Future for Job<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        Poll::Ready(match ready!(self.0.as_mut().poll(cx)) {
            Ok(done) => done.map_err(io::Error::from),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer")),
        })
    }
}

//! Waiting for the disks of files: on few threads, and not for ever.
//!
//! Nothing can end a call that a disk does not answer. Whoever waits for one stops after a while, and what hangs keeps its thread: no more than
//! [`PLACES`] of them, so that temporary files and the files that are in memory are not waited for behind a file system that hangs.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::wire::deadline::Deadline;

/// Threads of a worker that may wait for the disks of files at a time. It has twice as many.
pub(super) const PLACES: usize = 4;

/// How a request waits for disks.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    pub(super) places: &'a Arc<Semaphore>,
    /// Ends with the process as well.
    pub(super) deadline: &'a Deadline,
    /// For each look-up and each piece, the wait for a thread included.
    pub(super) patience: Duration,
}

/// Something that a disk has to be waited for.
pub(super) struct Work<T>(Pin<Box<dyn Future<Output = io::Result<T>>>>);

impl Disk<'_> {
    /// Begins it, on a thread that nobody else waits for. Time runs from here.
    pub(super) fn begin<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Work<T> {
        self.deadline.arm(self.patience);
        let places = Arc::clone(self.places);
        Work(Box::pin(async move {
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let done = tokio::task::spawn_blocking(move || {
                #[cfg(feature = "fault-injection")]
                hang();
                let done = job();
                drop(place);
                done
            });
            done.await.map_err(io::Error::from)
        }))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The disk does not answer in time, or the process ends.
    pub(super) async fn end<T>(&self, work: &mut Work<T>) -> io::Result<T> {
        let done = poll_fn(|cx| match work.0.as_mut().poll(cx) {
            Poll::Pending if self.deadline.poll_expired(cx) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer")))
            }
            polled => polled,
        });
        let done = done.await;
        self.deadline.disarm();
        done
    }

    /// Does something that may wait for a disk.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub(super) async fn wait<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.end(&mut self.begin(job)).await
    }
}

impl<T> std::fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

/// Test builds can have a disk that hangs for as long as a file says so.
#[cfg(feature = "fault-injection")]
fn hang() {
    let Some(state) = std::env::var_os("DISK") else { return };
    while std::fs::read(&state).is_ok_and(|word| word.starts_with(b"h")) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;
    use crate::wire::deadline::Deadlines;

    #[tokio::test]
    async fn what_hangs_keeps_its_thread_and_nobody_else() {
        let (origin, places) = (Instant::now(), Arc::new(Semaphore::new(PLACES)));
        let deadlines = Deadlines::new(origin);
        let deadline = deadlines.slot();
        let disk = Disk { places: &places, deadline: &deadline, patience: Duration::from_millis(200) };
        let mut hung = Vec::new();
        for _ in 0..=PLACES {
            let (go_on, wait) = channel::<()>();
            let mut work = disk.begin(move || wait.recv().is_ok());
            hung.push(go_on);
            let mut end = std::pin::pin!(disk.end(&mut work));
            poll_fn(|cx| {
                assert!(end.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            // The ticks of a worker.
            deadlines.sweep(Instant::now() + Duration::from_secs(3600 * hung.len() as u64));
            assert_eq!(end.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        // The last of them has no thread, and takes none from others.
        assert_eq!(places.available_permits(), 0);
        assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7);
        for go_on in hung {
            go_on.send(()).ok();
        }
        deadline.disarm();
        assert_eq!(places.acquire_many(4).await.unwrap().num_permits(), 4);
    }

    #[tokio::test]
    async fn the_end_of_all_time_is_the_end_of_a_wait() {
        let places = Arc::new(Semaphore::new(PLACES));
        let deadlines = Deadlines::new(Instant::now());
        let deadline = deadlines.slot();
        let disk = Disk { places: &places, deadline: &deadline, patience: Duration::from_secs(3600) };
        let (_go_on, wait) = channel::<()>();
        let mut work = disk.begin(move || wait.recv_timeout(Duration::from_secs(5)).is_ok());
        deadlines.expire_all();
        assert_eq!(disk.end(&mut work).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

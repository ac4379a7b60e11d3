//! Lets an app go before a slow client has taken its answer: what the app sends is kept here, and the client drinks at its own pace.
//!
//! Nothing is held back: what is here is written as soon as the client takes it. Where there is no room, the app waits, as it would
//! without a gateway.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;

use super::deliver::put;
use super::stall::Stall;
use super::throttle::Throttle;
use crate::spool::{Full, Job, Next, Spool};
use crate::wire::{Part, Responder, ResponseSource, Written};

/// What the client has not taken yet.
#[derive(Debug)]
pub struct Rest {
    spool: Spool,
    /// How fast it may go.
    throttle: Option<Box<Throttle>>,
    /// The part that is being written, and how far that is.
    part: Vec<u8>,
    written: Written,
    writing: bool,
    /// The part behind it, on its way from the file.
    reading: Option<Job<io::Result<Vec<u8>>>>,
    /// The app's part is over, with these trailers.
    end: Option<Vec<u8>>,
    /// The part that is being written is the last one.
    last: bool,
}

/// How long an app waits for its client in all during one answer, before a file is used: for clients that keep up but for a moment, none is.
/// Short, because a worker of the app may be waiting for each of many slow clients in turn.
pub const PATIENCE: Duration = Duration::from_millis(5);

impl Rest {
    /// Nothing yet.
    pub fn new(spool: Spool, throttle: Option<Box<Throttle>>) -> Self {
        Self {
            spool,
            throttle,
            part: Vec::new(),
            written: Written::default(),
            writing: false,
            reading: None,
            end: None,
            last: false,
        }
    }

    /// How fast it may go.
    pub fn throttle(&mut self) -> Option<&mut Throttle> {
        self.throttle.as_deref_mut()
    }

    /// Goes on with a part whose write is pending.
    pub fn take_over(&mut self, part: &Part<'_>, written: Written) {
        self.part.clear();
        self.part.extend_from_slice(part.data);
        self.written = written;
        self.writing = true;
        self.end = part.end.map(<[u8]>::to_vec);
        self.last = part.end.is_some();
    }

    /// Takes bytes that the client does not take at the moment. Only where nothing else waits.
    pub fn keep(&mut self, bytes: Vec<u8>) {
        if self.spool.push(&bytes) == Err(Full) {
            // As without a buffer: the app waits until they are on their way.
            self.part = bytes;
            self.writing = true;
        }
    }

    /// Whether the app is done.
    pub fn is_complete(&self) -> bool {
        self.end.is_some()
    }

    /// Takes what the app sends while the client takes what it can, until the app is done or the client has caught up. `most`: bytes in a file
    /// at the most. `patience`: what is left of the time for which the app waits. `stall`: told how long it does.
    ///
    /// # Errors
    /// The app's part of the answer will not become whole, or the client is gone.
    pub async fn fill<S: ResponseSource, R: Responder>(
        &mut self,
        most: u64,
        source: &mut S,
        reply: &mut R,
        patience: &mut Duration,
        stall: &Stall,
    ) -> Result<(), Reason> {
        while self.end.is_none() {
            stall.during(self.wait_for_room(most, reply, patience)).await?;
            if self.is_idle() {
                return Ok(());
            }
            let part = {
                let mut next = pin!(source.part());
                poll_fn(|cx| {
                    self.push_on(cx, reply)?;
                    match next.as_mut().poll(cx) {
                        // While something is being written, that shows when the client goes.
                        Poll::Pending if self.is_idle() => reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed)),
                        polled => polled,
                    }
                })
                .await?
            };
            if self.spool.push(part.data) == Err(Full) {
                // As without a buffer: the app waits until this part is on its way.
                let taken = poll_fn(|cx| {
                    self.push_on(cx, reply)?;
                    if self.is_idle() { Poll::Ready(Ok::<_, Reason>(())) } else { Poll::Pending }
                });
                stall.during(taken).await?;
                self.part = part.data.to_vec();
                self.writing = true;
            }
            self.end = part.end.map(<[u8]>::to_vec);
            self.move_out(reply).await?;
        }
        Ok(())
    }

    /// Waits until a part can be kept, at first only in memory, or until there is nothing left of those before it.
    async fn wait_for_room<R: Responder>(
        &mut self,
        most: u64,
        reply: &mut R,
        patience: &mut Duration,
    ) -> Result<(), Reason> {
        if !patience.is_zero() && !self.spool.has_memory() {
            let begun = Instant::now();
            let mut over = pin!(tokio::time::sleep(*patience));
            poll_fn(|cx| {
                self.push_on(cx, reply)?;
                if self.spool.has_memory() || self.is_idle() {
                    return Poll::Ready(Ok::<_, Reason>(()));
                }
                over.as_mut().poll(cx).map(Ok)
            })
            .await?;
            *patience = patience.saturating_sub(begun.elapsed());
        }
        poll_fn(|cx| {
            self.push_on(cx, reply)?;
            if self.spool.has_room(most) || self.is_idle() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Moves a block into the file, where one has come together.
    async fn move_out<R: Responder>(&mut self, reply: &mut R) -> Result<(), Reason> {
        let Some(mut moving) = self.spool.overflow() else { return Ok(()) };
        let moved = poll_fn(|cx| {
            self.push_on(cx, reply)?;
            Pin::new(&mut moving).poll(cx).map(Ok::<_, Reason>)
        });
        let settled = match moved.await? {
            Ok(block) => self.spool.settle(block),
            Err(error) => return Err(failed(&error)),
        };
        if let Err(error) = settled {
            // Nothing is lost: what is in memory is, and from now on the app waits.
            tracing::warn!(%error, "an answer cannot be written to a temporary file");
        }
        Ok(())
    }

    /// Writes what is left, up to the end.
    ///
    /// # Errors
    /// The client is gone, or what was in a file can not be read.
    pub async fn finish<R: Responder>(mut self, reply: &mut R) -> Result<(), Reason> {
        poll_fn(|cx| self.poll(cx, reply)).await
    }

    /// Whether nothing is here that the client could take.
    fn is_idle(&self) -> bool {
        !self.writing && self.reading.is_none() && self.spool.is_empty()
    }

    /// Writes as much as the client takes at the moment.
    fn push_on<R: Responder>(&mut self, cx: &mut Context<'_>, reply: &mut R) -> Result<(), Reason> {
        match self.poll(cx, reply) {
            Poll::Ready(Err(reason)) => Err(reason),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Ready when the end was written.
    fn poll<R: Responder>(&mut self, cx: &mut Context<'_>, reply: &mut R) -> Poll<Result<(), Reason>> {
        loop {
            if self.writing {
                let end = self.end.as_deref().filter(|_| self.last);
                ready!(put(self.throttle.as_deref_mut(), cx, reply, &self.part, end, &mut self.written))?;
                self.writing = false;
                self.written = Written::default();
            }
            if self.last {
                return Poll::Ready(Ok(()));
            }
            if let Some(reading) = &mut self.reading {
                let read = ready!(Pin::new(reading).poll(cx)).and_then(|read| read);
                self.reading = None;
                self.part = read.map_err(|error| failed(&error))?;
                self.writing = true;
                continue;
            }
            match self.spool.take() {
                Next::Bytes(bytes) => {
                    self.part = bytes;
                    self.writing = true;
                }
                Next::Reading(reading) => self.reading = Some(reading),
                // A block on its way into the file is not there yet, and not gone either.
                Next::Nothing if self.end.is_some() && self.spool.is_empty() => {
                    self.part.clear();
                    (self.last, self.writing) = (true, true);
                }
                Next::Nothing => return Poll::Pending,
            }
        }
    }
}

fn failed(error: &io::Error) -> Reason {
    tracing::warn!(%error, "a temporary file cannot be used");
    Reason::BufferFailed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;
    use crate::plan::Buffers;
    use crate::spool::BLOCK;
    use crate::wire::edits::Edits;
    use crate::wire::head::ResponseHead;
    use crate::wire::{Answer, ClientFraming, ClientGone, Stamp};

    /// A client that takes everything at once.
    #[derive(Default)]
    struct Quick {
        taken: Vec<u8>,
        ended: bool,
    }

    impl Responder for Quick {
        fn stamp(&mut self, _: &Stamp<'_>, _: Option<Edits>) {}

        async fn interim(&mut self, _: &ResponseHead, _: &[u8]) -> Result<(), ClientGone> {
            Ok(())
        }

        fn start(&mut self, _: &ResponseHead, _: &[u8], _: ClientFraming) {}

        fn started(&self) -> bool {
            true
        }

        async fn go_on(&mut self) -> Result<(), ClientGone> {
            Ok(())
        }

        fn poll_write(
            &mut self,
            _: &mut Context<'_>,
            data: &[u8],
            end: Option<&[u8]>,
            _: &mut Written,
        ) -> Poll<Result<(), ClientGone>> {
            assert!(!self.ended, "something follows the end");
            self.taken.extend_from_slice(data);
            self.ended = end.is_some();
            Poll::Ready(Ok(()))
        }

        async fn answer(&mut self, _: &Answer<'_>) -> Result<(), ClientGone> {
            Ok(())
        }

        fn close(&mut self) {}

        fn truncate(&mut self) {}

        fn sent(&self) -> u64 {
            self.taken.len() as u64
        }

        fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn an_answer_does_not_end_before_the_block_that_is_on_its_way_into_the_file() {
        let (room, folder) = (1 << 20, std::env::temp_dir());
        let buffers = Buffers {
            memory: 1,
            total_memory: room,
            disk: room,
            total_disk: room,
            timeout: Duration::from_secs(30),
            folder,
        };
        let mut rest = Rest::new(Spool::new(&buffers, &Arc::default(), false), None);
        rest.spool.push(b"front").unwrap();
        rest.spool.push(&vec![b'x'; BLOCK]).unwrap();
        // The disk takes its time, the app is done, and the client has taken everything that can be had.
        let moving = rest.spool.overflow().unwrap();
        rest.end = Some(Vec::new());
        let mut client = Quick::default();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(rest.poll(&mut cx, &mut client).is_pending() && !client.ended);
        rest.spool.settle(moving.await.unwrap()).unwrap();
        rest.finish(&mut client).await.unwrap();
        assert_eq!((client.taken.len(), client.ended), (5 + BLOCK, true));
    }
}

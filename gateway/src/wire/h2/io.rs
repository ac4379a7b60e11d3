//! The bytes of an HTTP/2 connection, as the crate `h2` wants to read and write them.
//!
//! `h2` writes frame by frame and asks for a flush behind each of them. A connection with many small answers at once would pay a system call
//! (and a TLS record) for every one. So a [`Wire`] gathers small writes, takes the flush as said, and whoever drives the connection sends
//! what was gathered when `h2` has done all it can: [`Wire::step`] does both. Large frames are not copied; they leave at once, behind
//! what was gathered before them.
//!
//! Invariant: `h2` is polled through [`Wire::step`] only, or what it wrote would stay here.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::guard::Guard;
use crate::wire::deadline::Deadlines;
use crate::wire::progress::Flow;
use crate::wire::transport::Transport;

/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Writes below this size are gathered: copying them costs less than a system call.
const SMALL: usize = 8 * 1024;

/// Gathered bytes are sent when they are this many: the size of two TLS records.
const FULL: usize = 32 * 1024;

/// A read brings at most this much at once.
const READ: usize = 16 * 1024;

/// An HTTP/2 connection's transport, shared between `h2` (through [`Io`]) and whoever drives the connection.
#[derive(Debug)]
pub struct Wire<T> {
    transport: T,
    /// Bytes that were read before it was known that this is HTTP/2.
    early: RefCell<Vec<u8>>,
    /// Small writes that wait for the end of the step.
    gathered: RefCell<Vec<u8>>,
    /// How much of them has been sent.
    sent: Cell<usize>,
    /// Bytes that the transport has taken, ever: shows whether the other side still takes something.
    written: Cell<u64>,
    /// How often something was received: shows whether the other side is there.
    heard: Cell<u64>,
    /// Whether the last attempt found that the transport takes no more.
    blocked: Cell<bool>,
    /// Why nothing can be written any more.
    broken: Cell<Option<io::ErrorKind>>,
    /// Sees all frames pass, and the clock it needs for that.
    guard: Option<(RefCell<Guard>, Rc<Deadlines>)>,
    /// See [`Below::most_held`].
    most_held: i64,
}

/// What the tasks of streams may know of the connection below them.
pub trait Below {
    /// See [`Wire::flow`].
    fn flow(&self) -> Option<Flow>;
    /// The most that `h2` holds for all streams together, besides what the transport has taken.
    fn most_held(&self) -> i64;
}

impl<T: Transport> Below for Wire<T> {
    fn flow(&self) -> Option<Flow> {
        Self::flow(self)
    }

    fn most_held(&self) -> i64 {
        self.most_held
    }
}

/// What `h2` reads from and writes to.
#[derive(Debug)]
pub struct Io<T>(Rc<Wire<T>>);

impl<T: Transport> Wire<T> {
    /// A connection over `transport` of which `early` has been read already.
    pub fn new(transport: T, early: Vec<u8>) -> Rc<Self> {
        Rc::new(Self {
            transport,
            early: RefCell::new(early),
            gathered: RefCell::default(),
            sent: Cell::new(0),
            written: Cell::new(0),
            heard: Cell::new(0),
            blocked: Cell::new(false),
            broken: Cell::new(None),
            guard: None,
            most_held: 0,
        })
    }

    /// A client's connection, whose frames are watched. `most_held`: bytes that `h2` holds at most for its streams.
    pub fn watched(transport: T, early: Vec<u8>, deadlines: &Rc<Deadlines>, most_held: usize) -> Rc<Self> {
        let guard = RefCell::new(Guard::new(PREFACE.len(), deadlines.now()));
        guard.borrow_mut().received(&early, deadlines.now());
        Rc::new(Self {
            transport,
            early: RefCell::new(early),
            gathered: RefCell::default(),
            sent: Cell::new(0),
            written: Cell::new(0),
            heard: Cell::new(0),
            blocked: Cell::new(false),
            broken: Cell::new(None),
            guard: Some((guard, Rc::clone(deadlines))),
            most_held: i64::try_from(most_held).unwrap_or(i64::MAX),
        })
    }

    /// What watches the frames, where something does.
    pub fn guard(&self) -> Option<&RefCell<Guard>> {
        self.guard.as_ref().map(|(guard, _)| guard)
    }

    /// What `h2` gets.
    pub fn io(self: &Rc<Self>) -> Io<T> {
        Io(Rc::clone(self))
    }

    /// The transport itself.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Bytes that the transport has taken, ever.
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// How far what was written has come; asks the kernel.
    pub fn flow(&self) -> Option<Flow> {
        self.transport.flow(self.written.get())
    }

    /// How often something was received, ever.
    pub fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// Whether something waits to be sent that the transport would not take.
    pub fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    /// Runs one step of `h2`, and sends what it wrote. Where sending fails, the task is woken: the next step finds the error.
    pub fn step<R>(&self, cx: &mut Context<'_>, step: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
        let done = step(cx);
        if let Poll::Ready(Err(_)) = self.poll_send(cx)
            && done.is_pending()
        {
            cx.waker().wake_by_ref();
        }
        done
    }

    /// Sends what was gathered.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_behind(&[], cx).map_ok(|_| ())
    }

    /// Gives up the memory for gathered writes; for a connection that has nothing to do.
    pub fn rest(&self) {
        let mut gathered = self.gathered.borrow_mut();
        if gathered.is_empty() {
            *gathered = Vec::new();
        }
    }

    /// Gathers small writes and lets large ones go.
    fn take(&self, bufs: &[IoSlice<'_>], size: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if size < SMALL && self.broken.get().is_none() {
            let mut gathered = self.gathered.borrow_mut();
            if gathered.len() + size <= FULL {
                for buf in bufs {
                    gathered.extend_from_slice(buf);
                }
                return Poll::Ready(Ok(size));
            }
        }
        self.poll_write_behind(bufs, cx)
    }

    /// Sends what was gathered and then a part of `bufs`: how much of `bufs` was taken. With nothing in `bufs`, ready when all is sent.
    fn poll_write_behind(&self, bufs: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.broken.get() {
            return Poll::Ready(Err(kind.into()));
        }
        let mut gathered = self.gathered.borrow_mut();
        self.blocked.set(true);
        let wanted = bufs.iter().any(|buf| !buf.is_empty());
        while wanted || !gathered.is_empty() {
            let before = gathered.get(self.sent.get()..).unwrap_or_default();
            // `h2` never has more than a head and a payload at once.
            let slice = |index: usize| bufs.get(index).map_or(&[][..], |buf| buf);
            let parts = [before, slice(0), slice(1), slice(2)].map(IoSlice::new);
            let first = usize::from(before.is_empty());
            let count = 1 + bufs.len().min(3);
            match self.transport.try_write(parts.get(first..count).unwrap_or_default()) {
                Ok(0) => return self.fail(io::ErrorKind::WriteZero),
                Ok(n) => {
                    self.written.set(self.written.get() + n as u64);
                    let behind = n.saturating_sub(before.len());
                    self.sent.set(self.sent.get() + n - behind);
                    if self.sent.get() == gathered.len() {
                        gathered.clear();
                        self.sent.set(0);
                    }
                    if behind > 0 {
                        self.blocked.set(false);
                        return Poll::Ready(Ok(behind));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(self.transport.poll_write_ready(cx)) {
                        return self.fail(error.kind());
                    }
                }
                Err(error) => return self.fail(error.kind()),
            }
        }
        self.blocked.set(false);
        Poll::Ready(Ok(0))
    }

    fn fail(&self, kind: io::ErrorKind) -> Poll<io::Result<usize>> {
        self.broken.set(Some(kind));
        Poll::Ready(Err(kind.into()))
    }
}

impl<T: Transport> AsyncRead for Io<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        {
            let mut early = wire.early.borrow_mut();
            if !early.is_empty() {
                let n = early.len().min(buf.remaining());
                buf.put_slice(early.get(..n).unwrap_or_default());
                early.drain(..n);
                if early.is_empty() {
                    *early = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
        }
        // A client that sends without end shares the worker with the others: `h2` reads until nothing is there.
        let turn = ready!(poll_proceed(cx));
        let before = buf.filled().len();
        loop {
            match wire.transport.try_read_into(buf, READ) {
                Ok(_) => {
                    if let Some((guard, clock)) = &wire.guard {
                        let fresh = buf.filled().get(before..).unwrap_or_default();
                        if !guard.borrow_mut().received(fresh, clock.now()) {
                            // Whoever drives the connection ends it: nothing else is read from a client that floods.
                            buf.set_filled(before);
                            return Poll::Pending;
                        }
                    }
                    wire.heard.set(wire.heard.get().wrapping_add(1));
                    turn.made_progress();
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(wire.transport.poll_read_ready(cx))?;
        }
    }
}

impl<T: Transport> AsyncWrite for Io<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &*self.0;
        let size: usize = bufs.iter().map(|buf| buf.len()).sum();
        let taken = wire.take(bufs, size, cx);
        if let (Some((guard, _)), Poll::Ready(Ok(taken))) = (&wire.guard, &taken) {
            let (mut guard, mut left) = (guard.borrow_mut(), *taken);
            for buf in bufs {
                let seen = buf.len().min(left);
                guard.sent(buf.get(..seen).unwrap_or_default());
                left -= seen;
            }
        }
        taken
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.broken.get() {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_send(cx))?;
        Poll::Ready(self.0.transport.shut_down_write())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn small_writes_leave_together_and_large_ones_at_once_in_order() {
        let (mut client, server) = pair().await;
        let wire = Wire::new(server, b"early".to_vec());
        let mut io = wire.io();
        io.write_all(b"one ").await.unwrap();
        io.write_all(b"two ").await.unwrap();
        io.flush().await.unwrap();
        assert_eq!((wire.written(), !wire.gathered.borrow().is_empty()), (0, true));
        let large = vec![b'x'; SMALL];
        io.write_all(&large).await.unwrap();
        assert_eq!((wire.written(), !wire.gathered.borrow().is_empty()), (8 + SMALL as u64, false));
        poll_fn(|cx| wire.step(cx, |cx| std::pin::pin!(io.write_all(b"three")).poll(cx))).await.unwrap();
        io.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [b"one two ", &large[..], b"three"].concat());

        client.write_all(b" and late").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        io.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"early and late");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_not_buffered_for() {
        let (client, server) = pair().await;
        let wire = Wire::new(server, Vec::new());
        let mut io = wire.io();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let part = vec![b'x'; SMALL - 1];
        let mut taken = 0;
        while Pin::new(&mut io).poll_write(&mut cx, &part).is_ready() {
            taken += part.len();
            assert!(taken < 64 * 1024 * 1024, "never full");
            tokio::task::yield_now().await;
        }
        assert!(wire.gathered.borrow().capacity() <= 2 * FULL);
        drop(client);
    }
}

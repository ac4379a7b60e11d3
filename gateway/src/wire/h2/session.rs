//! A connection to an app in HTTP/2, and its streams.
//!
//! Invariant: what waits here for slow clients is bounded by `WINDOW` for each stream, and one that is slow never keeps the others
//! waiting: the window of the connection has room for all of its streams.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Error, Ping};

use super::io::{Io, Wire};
use crate::wire::transport::Transport;

/// Requests at a time on one connection. An app may allow fewer; where it allows more, another connection is opened instead.
pub const STREAMS: usize = 100;

/// Bytes of an answer that may wait for its client.
const WINDOW: u32 = 64 * 1024;

/// What frames of data may cost beyond their bytes, in the terms of `h2`, which counts every frame as 256 bytes at least: as much as the windows
/// let through in the smallest frames. Small parts of answers that wait for slow clients must not end the connection for everybody.
const SMALL_FRAMES: usize = STREAMS.saturating_mul(WINDOW as usize).saturating_mul(256);

/// Bytes of a request that may wait for the app to take them, beyond what its own window lets through.
const SEND_BUFFER: usize = 64 * 1024;

/// Bytes that the fields of an answer may have, with 32 more for each (RFC 9113 §6.5.2).
const FIELDS: u32 = 64 * 1024;

/// A connection that can take requests, as long as its driver runs.
#[derive(Debug)]
pub struct Session {
    send: RefCell<SendRequest<Bytes>>,
    used: Cell<usize>,
    idle_since: Cell<Instant>,
    over: Cell<bool>,
    /// How often something was received.
    heard: Rc<Cell<u64>>,
}

/// What has to be polled for a connection to live.
#[derive(Debug)]
pub struct Driver<T: Transport> {
    connection: Connection<Io<T>, Bytes>,
    wire: Rc<Wire<T>>,
    heard: Rc<Cell<u64>>,
}

impl<T: Transport> Driver<T> {
    /// Runs the connection to its end.
    ///
    /// # Errors
    /// It broke.
    pub async fn run(mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let connection = &mut self.connection;
        let polled = self.wire.step(cx, |cx| Pin::new(connection).poll(cx));
        self.heard.set(self.wire.heard());
        polled
    }
}

/// Begins HTTP/2 with prior knowledge over `transport` (RFC 9113 §3.3): sends the preface and waits until the app's settings are in
/// force. No frame says so, but the answer to a PING comes behind them.
///
/// # Errors
/// The other side does not speak HTTP/2, or left.
pub async fn open<T: Transport>(transport: T) -> Result<(Session, Driver<T>), Error> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * u32::try_from(STREAMS).unwrap_or(1))
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        .max_header_list_size(FIELDS)
        .enable_push(false);
    let wire = Wire::new(transport, Vec::new());
    let (send, connection) = builder.handshake(wire.io()).await?;
    let heard = Rc::<Cell<u64>>::default();
    let mut driver = Driver { connection, wire, heard: Rc::clone(&heard) };
    if let Some(mut pings) = driver.connection.ping_pong() {
        pings.send_ping(Ping::opaque())?;
        poll_fn(|cx| match driver.poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => pings.poll_pong(cx).map_ok(|_| ()),
        })
        .await?;
    }
    let session = Session {
        send: RefCell::new(send),
        used: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        over: Cell::new(false),
        heard,
    };
    Ok((session, driver))
}

impl Session {
    /// Whether another request can begin now.
    pub fn has_room(&self) -> bool {
        let allowed = self.send.borrow().current_max_send_streams();
        self.used.get() < allowed.min(STREAMS) && self.is_usable()
    }

    /// Whether requests can begin at all: the app has neither said that it goes, nor gone.
    pub fn is_usable(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.over.get() && !matches!(self.send.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Since when no request has run; `None`: one runs.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.used.get() == 0).then(|| self.idle_since.get())
    }

    /// No request begins here any more.
    pub fn retire(&self) {
        self.over.set(true);
    }

    /// A place for a request.
    pub fn stream(self: Rc<Self>) -> Stream {
        self.used.set(self.used.get() + 1);
        let heard = self.heard.get();
        Stream { session: self, heard, response: RefCell::default(), failed: Cell::default() }
    }
}

/// The place of one request on a connection. Whatever is not complete when it goes is cancelled.
#[derive(Debug)]
pub struct Stream {
    session: Rc<Session>,
    /// How often something had been received when it began.
    heard: u64,
    /// The answer to come, once the request has begun.
    pub(super) response: RefCell<Option<ResponseFuture>>,
    /// Why it will not come.
    pub(super) failed: Cell<Option<Failed>>,
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The app never looked at it (RFC 9113 §8.7): it may be sent again, whatever it asks for.
    Unprocessed,
    /// The connection broke.
    Broken,
    /// The app gave the stream up, after it may have looked at the request.
    Reset,
    /// The app does not follow the protocol.
    Invalid,
}

impl Stream {
    /// Whether the app said, or could not but show, that it never looked at the request.
    pub fn is_unprocessed(&self) -> bool {
        self.failed.get() == Some(Failed::Unprocessed)
    }

    /// Whether the app ended the stream, and not the connection.
    pub fn is_reset(&self) -> bool {
        self.failed.get() == Some(Failed::Reset)
    }

    /// The app did not answer in time. Where it sent nothing at all meanwhile, it may not be there any more, and nobody would ever say so: the
    /// connection gets no other requests.
    pub fn timed_out(&self) {
        if self.heard == self.session.heard.get() {
            self.session.retire();
        }
    }

    /// Begins the request.
    pub(super) fn send(&self, request: http::Request<()>, end: bool) -> Result<h2::SendStream<Bytes>, Error> {
        let (response, send) = self.session.send.borrow().clone().send_request(request, end)?;
        *self.response.borrow_mut() = Some(response);
        Ok(send)
    }

    /// Remembers what became of the stream.
    pub(super) fn fail(&self, error: &Error) -> Failed {
        let failed = match error.reason() {
            _ if error.is_io() => Failed::Broken,
            // GOAWAY reaches only those streams as an error that it excludes; REFUSED_STREAM means the same for one.
            _ if error.is_go_away() && error.is_remote() => Failed::Unprocessed,
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Failed::Unprocessed,
            _ if error.is_reset() && error.is_remote() => Failed::Reset,
            _ if error.is_remote() => Failed::Broken,
            _ => Failed::Invalid,
        };
        self.failed.set(Some(failed));
        failed
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let used = self.session.used.get().saturating_sub(1);
        self.session.used.set(used);
        if used == 0 {
            self.session.idle_since.set(Instant::now());
        }
    }
}

//! The life of a client's HTTP/2 connection: preface → streams, each a task of its own → GOAWAY, and the end.
//!
//! One task drives the connection: it lets `h2` read and write, starts a task for every request ([`stream`]), and keeps the deadlines. It has as
//! many requests at work as it allows, and no more: a client that resets its requests and sends others gets the next ones served when the
//! tasks of the first have ended.
//!
//! Invariant: nothing here reads or answers a request.

mod shared;
mod stream;
mod terms;
mod waits;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::Reason as Code;
use ::h2::server::{Builder, Connection};
use bytes::Bytes;
use probegate_policies::reason::Reason;
use tokio::task::spawn_local;

use self::shared::{Shared, Working};
use self::terms::Terms;
use self::waits::Wait;
use super::{Facts, boxed};
use crate::plan::Bounds;
use crate::request::finish::finish_unread;
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::h1::io::linger;
use crate::wire::h2::io::{Below, Io, Wire};
use crate::wire::pace::Pace;
use crate::wire::transport::Transport;
use crate::worker::Worker;

/// Window of a stream: what a client may send of one body before the app has taken it. At a round trip of 50 ms it allows 5 MiB/s for one
/// upload.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Window of the connection: all bodies together. It is the memory that a client can make the gateway hold for what apps do not take.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// So many connections of a client have that window. Those beyond have the protocol's own (RFC 9113 §6.9.2).
const GENEROUS: usize = 16;
const SMALL_WINDOW: u32 = 65_535;

/// What clients' frames of data may cost beyond their bytes while they wait for an app, in windows and in the terms of `h2`, which counts every frame as
/// 256 bytes at least. A full window in frames of 32 bytes stays below; one in frames of one byte would hold 256 MiB here.
const SMALL_FRAMES: usize = 8;

/// The smallest size of a frame that may be (RFC 9113 §4.2): no client has to wait for more than this of another stream's data.
const FRAME: u32 = 16 * 1024;

/// What is held of one answer for a client that does not take it; beyond it, the app waits.
const SEND_BUFFER: usize = 32 * 1024;

/// Streams that were reset here and are remembered for a second, because frames for them may be on their way.
const RESET_KEPT: usize = 50;

/// Requests that break the rules before the connection is ended.
const MISTAKES: usize = 100;

/// How long a client has to answer a GOAWAY before it is closed, with no request left.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug)]
enum End {
    /// As it should, or because the client is gone.
    Closed,
    /// For a reason that is the client's fault.
    Fault(Reason),
}

/// Serves an HTTP/2 connection to its end. `early`: what was read of it already.
pub(super) async fn serve<T: Transport + 'static>(worker: &Rc<Worker>, transport: T, early: Vec<u8>, facts: Facts) {
    // Asked for first: a plan that comes between the two is then taken for news.
    let generation = worker.state.generation();
    let active = worker.active();
    let bounds = &active.plan.bounds;
    worker.deadlines.observe(Instant::now());
    let wire = Wire::watched(transport, early, &worker.deadlines, bounds.streams.saturating_mul(SEND_BUFFER));
    let clock = worker.deadlines.slot();
    let (connections, client) = facts.counted.then(|| worker.state.clients.streams(facts.peer)).flatten().unzip();
    let window = if connections.is_some_and(|open| open > GENEROUS) { SMALL_WINDOW } else { CONNECTION_WINDOW };
    let facts = Rc::new(facts);
    let shared = Rc::new(Shared { client, ..Shared::default() });
    let terms = Terms::of(&active.plan);
    let shaken = handshake(&wire, &clock, terms.timeouts.head, bounds, window).await;
    // Not for as long as the connection lasts.
    drop(active);
    let end = match shaken {
        Err(end) => end,
        Ok(connection) => {
            let mut driver = Driver {
                worker,
                wire: &wire,
                connection,
                facts: &facts,
                shared: &shared,
                clock: &clock,
                age: worker.deadlines.slot(),
                born: worker.deadlines.now(),
                generation,
                served: 0,
                wait: Wait::Work,
                armed: Duration::ZERO,
                round: Duration::ZERO,
                pace: terms.pace(),
                terms,
                mark: None,
                taken: None,
                leaving: false,
                left: Duration::ZERO,
                fault: None,
                head: worker.deadlines.slot(),
                head_since: None,
            };
            driver.age.arm(driver.terms.timeouts.connection);
            let end = poll_fn(|cx| driver.poll(cx)).await;
            shared.ended.set(matches!(end, End::Fault(_)));
            end
            // Here `h2` tells every stream that is left that the connection is gone.
        }
    };
    if let End::Fault(reason) = end {
        finish_unread(worker, &worker.active(), &facts, reason, &[], &worker.request_id(), 0);
    }
    match end {
        End::Fault(Reason::ClientStalled) => wire.transport().reset_on_close(),
        // The GOAWAY must arrive before the close does.
        _ => linger(wire.transport(), &mut Buffer::new(1024), &clock).await,
    }
    drop(wire);
    // The connection counts as open while requests are at work for it: the end of the process waits for their lines.
    poll_fn(|cx| {
        *shared.waker.borrow_mut() = Some(cx.waker().clone());
        if shared.active.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Preface and first SETTINGS.
async fn handshake<T: Transport>(
    wire: &Rc<Wire<T>>,
    clock: &Deadline,
    patience: Duration,
    bounds: &Bounds,
    window: u32,
) -> Result<Connection<Io<T>, Bytes>, End> {
    let streams = u32::try_from(bounds.streams).unwrap_or(u32::MAX);
    // HTTP/2 counts 32 bytes for every field besides its text. Twice our own bound lets a head that is too large get here, where it is
    // answered, logged and counted; what is larger still is answered by `h2`, and what is absurd ends the connection.
    let list = u32::try_from(2 * bounds.head + 32 * bounds.fields).unwrap_or(u32::MAX);
    let mut handshake = pin!(
        Builder::new()
            .max_concurrent_streams(streams)
            .max_header_list_size(list)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(window)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .data_frame_budget(SMALL_FRAMES * window as usize)
            .max_concurrent_reset_streams(RESET_KEPT)
            .max_pending_accept_reset_streams(bounds.streams)
            .max_local_error_reset_streams(Some(MISTAKES))
            .enable_connect_protocol()
            .handshake(wire.io())
    );
    clock.arm(patience);
    poll_fn(|cx| match wire.step(cx, |cx| handshake.as_mut().poll(cx)) {
        Poll::Ready(Ok(connection)) => Poll::Ready(Ok(connection)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(fault(&error))),
        Poll::Pending if clock.poll_expired(cx) => {
            let begun = wire.guard().is_some_and(|guard| guard.borrow().begun());
            Poll::Ready(Err(if begun { End::Fault(Reason::HeadTimeout) } else { End::Closed }))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// A connection between its preface and its end.
struct Driver<'a, T> {
    worker: &'a Rc<Worker>,
    wire: &'a Rc<Wire<T>>,
    connection: Connection<Io<T>, Bytes>,
    facts: &'a Rc<Facts>,
    shared: &'a Rc<Shared>,
    clock: &'a Deadline,
    /// When the connection is told to end.
    age: Deadline,
    born: Duration,
    terms: Terms,
    /// Of which plan they are.
    generation: u64,
    /// Requests that have come.
    served: usize,
    wait: Wait,
    /// Since when.
    armed: Duration,
    /// How long this round of it may take.
    round: Duration,
    /// How slowly the client takes what the kernel holds for it.
    pace: Pace,
    /// How much it may take before it has taken all that was on its way at the first look.
    mark: Option<i64>,
    /// What the client had taken of all that was written when that was looked at last.
    taken: Option<i64>,
    /// A GOAWAY was sent.
    leaving: bool,
    /// When it was.
    left: Duration,
    /// What the client did that the crate does not see: the connection is being ended for it.
    fault: Option<Reason>,
    /// For the fields that are coming in.
    head: Deadline,
    /// Since when they are.
    head_since: Option<Duration>,
}

impl<T: Transport + 'static> Driver<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        *self.shared.waker.borrow_mut() = Some(cx.waker().clone());
        self.keep_up();
        loop {
            let used_up = self.served >= self.terms.requests;
            if !self.leaving && (used_up || self.worker.state.is_draining() || self.age.poll_expired(cx)) {
                self.leave();
            }
            let wire = self.wire;
            if let Poll::Ready(end) = wire.step(cx, |cx| self.advance(cx)) {
                return Poll::Ready(end);
            }
            if self.suspects() || self.is_kept_waiting(cx) {
                continue;
            }
            self.arm();
            if !self.clock.poll_expired(cx) {
                return Poll::Pending;
            }
            if self.still_takes() {
                continue;
            }
            match self.wait {
                Wait::Request => self.leave(),
                Wait::Write(_) if self.worker.state.is_cutting() => return Poll::Ready(End::Closed),
                Wait::Write(_) => return Poll::Ready(End::Fault(Reason::ClientStalled)),
                Wait::Farewell => return Poll::Ready(End::Closed),
                // Never armed.
                Wait::Work => return Poll::Pending,
            }
        }
    }

    /// What a reload has changed holds from now on: a connection may be older than any plan.
    fn keep_up(&mut self) {
        let generation = self.worker.state.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        self.terms = Terms::of(&self.worker.active().plan);
        self.age.arm(self.terms.timeouts.connection.saturating_sub(self.age.now().saturating_sub(self.born)));
    }

    /// Lets `h2` do all it can, and starts the requests that it finds.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let polled = if self.shared.active.get() < self.terms.streams {
                self.connection.poll_accept(cx)
            } else {
                self.connection.poll_closed(cx).map(|closed| closed.err().map(Err))
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Err(_))) if let Some(reason) = self.fault => {
                    return Poll::Ready(End::Fault(reason));
                }
                Poll::Ready(None) => return Poll::Ready(End::Closed),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(fault(&error)),
                Poll::Ready(Some(Ok((request, mut respond)))) => {
                    if let Some(guard) = self.wire.guard() {
                        guard.borrow_mut().accepted(request.body().stream_id().as_u32());
                    }
                    // Whoever does not answer the PING behind the GOAWAY may not go on for ever. The request can be repeated elsewhere.
                    if self.leaving && self.clock.now().saturating_sub(self.left) > FAREWELL {
                        respond.send_reset(Code::REFUSED_STREAM);
                        self.tell(Reason::ConnectionEnded);
                        continue;
                    }
                    self.served += 1;
                    let Some(working) = Working::new(self.shared, self.terms.streams_per_client) else {
                        respond.send_reset(Code::REFUSED_STREAM);
                        self.tell(Reason::StreamsExceeded);
                        continue;
                    };
                    let (worker, facts) = (Rc::clone(self.worker), Rc::clone(self.facts));
                    // Weak: a stream that still ends must not keep the socket open.
                    let below: Weak<dyn Below> = Rc::<Wire<T>>::downgrade(self.wire);
                    // Made where it stays: a task is moved about until it runs, and this one is several KiB.
                    spawn_local(boxed(move || stream::run(worker, facts, working, below, request, respond)));
                }
            }
        }
    }

    /// Asks the guard what it saw. `true`: the connection has to be ended.
    fn suspects(&mut self) -> bool {
        let Some(guard) = self.wire.guard() else { return false };
        let (refused, flooded) = {
            let mut guard = guard.borrow_mut();
            (guard.take_refused(), guard.flooded())
        };
        for _ in 0..refused {
            self.tell(Reason::Http2Invalid);
        }
        if !flooded || self.fault.is_some() {
            return false;
        }
        self.end(Reason::Http2Flood);
        true
    }

    /// Keeps the deadline of the fields that are coming in: while they are not whole, nothing else can come in. `true`: the connection has
    /// to be ended.
    fn is_kept_waiting(&mut self, cx: &mut Context<'_>) -> bool {
        let since = self.wire.guard().and_then(|guard| guard.borrow().head_since());
        if since != self.head_since {
            self.head_since = since;
            match since {
                Some(_) => self.head.arm(self.terms.timeouts.head),
                None => self.head.disarm(),
            }
        }
        if since.is_none() || self.fault.is_some() || !self.head.poll_expired(cx) {
            return false;
        }
        self.end(Reason::HeadTimeout);
        true
    }

    /// Ends the connection, and what runs on it, for what the client did.
    fn end(&mut self, reason: Reason) {
        self.fault = Some(reason);
        self.shared.ended.set(true);
        self.connection.abrupt_shutdown(Code::ENHANCE_YOUR_CALM);
    }

    /// Counts and logs a request that nobody has looked at.
    fn tell(&self, reason: Reason) {
        let (worker, active) = (self.worker, self.worker.active());
        finish_unread(worker, &active, self.facts, reason, &[], &worker.request_id(), 0);
    }

    /// Says that no more requests are wanted (RFC 9113 §6.8). Those that come before the client has heard it are still served,
    /// for [`FAREWELL`].
    fn leave(&mut self) {
        self.leaving = true;
        self.left = self.clock.now();
        self.connection.graceful_shutdown();
    }
}

/// Whose fault an error is.
fn fault(error: &::h2::Error) -> End {
    match error.reason() {
        _ if error.is_io() || error.is_remote() => End::Closed,
        Some(Code::ENHANCE_YOUR_CALM) => End::Fault(Reason::Http2Flood),
        Some(Code::NO_ERROR) => End::Closed,
        _ => End::Fault(Reason::Http2Invalid),
    }
}

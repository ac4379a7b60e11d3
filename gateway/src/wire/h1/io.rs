//! Reading and writing under a deadline.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::coop::consume_budget;

use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::pace::Pace;
use crate::wire::piece::Piece;
use crate::wire::pipe::{Pipe, Pipes};
use crate::wire::progress::Wait;
use crate::wire::transport::Transport;
use crate::wire::{WriteFailed, Written};

/// Reads once into the room of `buffer`. `Ok(0)` is the end of the stream; an expired deadline is [`io::ErrorKind::TimedOut`].
pub async fn read(transport: &impl Transport, buffer: &mut Buffer, deadline: &Deadline) -> io::Result<usize> {
    poll_fn(|cx| poll_read(transport, buffer, deadline, cx)).await
}

/// See [`read`].
pub fn poll_read(
    transport: &impl Transport,
    buffer: &mut Buffer,
    deadline: &Deadline,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        match transport.try_read(buffer.spare()) {
            Ok(n) => {
                buffer.fill(n);
                return Poll::Ready(Ok(n));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Poll::Ready(Err(error)),
        }
        match transport.poll_read_ready(cx) {
            Poll::Ready(ready) => ready?,
            Poll::Pending if deadline.poll_expired(cx) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Moves up to `most` bytes into a pipe, which is lent when bytes are there: while an app is waited for, others have it. `None`: none is to be had. One that
/// holds nothing is the end of the stream. Otherwise as [`read`].
pub async fn fill(
    transport: &impl Transport,
    pipes: &Pipes,
    most: usize,
    deadline: &Deadline,
) -> io::Result<Option<Pipe>> {
    poll_fn(|cx| {
        loop {
            let Some(mut pipe) = pipes.lend() else { return Poll::Ready(Ok(None)) };
            match transport.try_fill(&mut pipe, most) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(pipe),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                filled => return Poll::Ready(filled.map(|_| Some(pipe))),
            }
            match transport.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending if deadline.poll_expired(cx) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Writes all parts in order. The deadline is armed with `patience` whenever the other side has taken something.
pub async fn write_all(
    transport: &impl Transport,
    parts: &mut [IoSlice<'_>],
    deadline: &Deadline,
    patience: Duration,
) -> Result<(), WriteFailed> {
    write_paced(transport, parts, deadline, Some(&mut Pace::patient(patience)), true).await
}

/// Writes all parts in order, at the other side's pace; `None`: the deadline was armed for more than this write. `blind`: nobody looks whether
/// something was taken while nothing fits, because the deadline is not this write's alone.
pub async fn write_paced(
    transport: &impl Transport,
    parts: &mut [IoSlice<'_>],
    deadline: &Deadline,
    mut pace: Option<&mut Pace>,
    blind: bool,
) -> Result<(), WriteFailed> {
    let mut parts = parts;
    let mut written = Written::default();
    IoSlice::advance_slices(&mut parts, 0);
    poll_fn(|cx| {
        let polled = poll_write_paced(transport, &mut parts, deadline, pace.as_deref_mut(), blind, &mut written, cx);
        polled.map_err(|error| WriteFailed { error, written: written.at })
    })
    .await
}

/// See [`write_paced`]. Takes what was written off `parts` and adds it to `written`; the first part must not be empty.
#[expect(clippy::mut_mut, reason = "as `IoSlice::advance_slices` takes it")]
pub fn poll_write_paced(
    transport: &impl Transport,
    parts: &mut &mut [IoSlice<'_>],
    deadline: &Deadline,
    mut pace: Option<&mut Pace>,
    blind: bool,
    written: &mut Written,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let fail = |error: io::Error| Poll::Ready(Err(error));
    while !parts.is_empty() {
        match transport.try_write(parts) {
            Ok(0) => return fail(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                written.at += n;
                IoSlice::advance_slices(parts, n);
                if let Some(wait) = written.wait.take()
                    && let Some(pace) = &mut pace
                    && wait.end(deadline.now(), n, pace).is_err()
                {
                    return fail(io::ErrorKind::TimedOut.into());
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return fail(error),
        }
        ready!(poll_room(transport, deadline, pace.as_deref_mut(), blind, written, cx))?;
    }
    Poll::Ready(Ok(()))
}

/// Waits until something fits again, for as long as the other side's pace lets it.
fn poll_room(
    transport: &impl Transport,
    deadline: &Deadline,
    mut pace: Option<&mut Pace>,
    blind: bool,
    written: &mut Written,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let fail = |error: io::Error| Poll::Ready(Err(error));
    // In the common case everything fits at once and nobody waits.
    let now = deadline.now();
    if written.wait.is_none() {
        let wait = written.wait.insert(Wait::new(now, blind));
        if let Some(pace) = &pace {
            deadline.arm(wait.next(now, pace));
        }
    }
    match transport.poll_write_ready(cx) {
        Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
        Poll::Ready(Err(error)) => return fail(error),
        Poll::Pending => {}
    }
    while deadline.poll_expired(cx) {
        let (Some(pace), Some(wait), false) = (&mut pace, &mut written.wait, blind) else {
            return fail(io::ErrorKind::TimedOut.into());
        };
        let taken = transport.flow(0).map(|flow| flow.taken);
        // Another look would come at once, and find the same, for ever.
        if deadline.is_over() || wait.look(now, taken, pace).is_err() {
            return fail(io::ErrorKind::TimedOut.into());
        }
        deadline.arm(wait.next(now, pace));
    }
    Poll::Pending
}

/// Writes what fits of a piece of a file, once something does. `0`: the file ends before, or can not be sent this way.
pub fn poll_send(
    transport: &impl Transport,
    piece: &Piece,
    deadline: &Deadline,
    pace: &mut Pace,
    written: &mut Written,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        match transport.try_send(piece) {
            Ok(n) => {
                let wait = written.wait.take();
                let late = wait.is_some_and(|wait| wait.end(deadline.now(), n, pace).is_err());
                return Poll::Ready(if late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(n) });
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Poll::Ready(Ok(0)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(poll_room(transport, deadline, Some(pace), false, written, cx))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Ends the sending side and takes what the other side is still sending, for a while, so that an answer given before a body was read
/// is not destroyed by a reset (RFC 9112 §9.6). Bounded in silence, in time and in bytes: clients that send a body to its end before they look
/// for an answer are served, and nobody can send for ever.
pub async fn linger(transport: &impl Transport, scratch: &mut Buffer, deadline: &Deadline) {
    const SILENCE: Duration = Duration::from_secs(2);
    const TOTAL: Duration = Duration::from_secs(10);
    const MOST: usize = 64 * 1024 * 1024;
    if transport.shut_down_write().is_err() {
        return;
    }
    let (begun, mut taken) = (deadline.now(), 0);
    while taken < MOST {
        scratch.clear();
        deadline.arm(SILENCE.min(TOTAL.saturating_sub(deadline.now().saturating_sub(begun))));
        // Somebody who sends without end does not keep the worker from its other connections.
        consume_budget().await;
        match read(transport, scratch, deadline).await {
            Ok(n) if n > 0 => taken += n,
            _ => return,
        }
    }
}

/// Ready when the other side has closed while nothing was expected of it. Bytes that have arrived instead (a pipelined request) end
/// the watch for as long as nobody takes them: a close can not be told from them.
pub fn poll_closed(transport: &impl Transport, cx: &mut Context<'_>) -> Poll<Closed> {
    match ready!(transport.poll_peek(cx)) {
        Ok(0) | Err(_) => Poll::Ready(Closed::Yes),
        Ok(_) => Poll::Ready(Closed::Unknown),
    }
}

/// What [`poll_closed`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The other side is gone.
    Yes,
    /// Bytes are waiting.
    Unknown,
}

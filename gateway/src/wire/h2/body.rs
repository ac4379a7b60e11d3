//! The body of an HTTP/2 request as it comes in.
//!
//! Parts are given out as they were received, without a copy. The window of a part is given back when the next one is asked for: an app that
//! is slow holds its client back, and what waits for it here is at most one window.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use probegate_policies::reason::Reason;
use tokio::task::coop::consume_budget;

use crate::wire::deadline::Deadline;
use crate::wire::h1::trailers;
use crate::wire::pace::{Pace, TooSlow};
use crate::wire::{Framing, RequestBody};

/// A request body.
#[derive(Debug)]
pub struct Body<'a> {
    stream: &'a mut RecvStream,
    deadline: &'a Deadline,
    /// How slowly it may come.
    pace: Pace,
    framing: Framing,
    /// The part that was given out, or is to be.
    part: Bytes,
    /// Bytes whose window was not given back yet.
    held: usize,
    received: u64,
    most: u64,
    complete: bool,
    /// What `has_buffered` found.
    ready: Option<Result<bool, Reason>>,
    trailers: Vec<u8>,
}

impl<'a> Body<'a> {
    /// The body that `stream` brings.
    pub fn new(stream: &'a mut RecvStream, deadline: &'a Deadline, pace: Pace, framing: Framing) -> Self {
        Self {
            complete: framing == Framing::None,
            stream,
            deadline,
            pace,
            framing,
            part: Bytes::new(),
            held: 0,
            received: 0,
            most: u64::MAX,
            ready: None,
            trailers: Vec::new(),
        }
    }

    /// The next part into `self.part`; `false`: the body is complete.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Reason>> {
        if self.complete {
            return Poll::Ready(Ok(false));
        }
        let held = std::mem::take(&mut self.held);
        if held > 0 {
            // Fails only where the stream is gone, which the next step shows.
            self.stream.flow_control().release_capacity(held).ok();
        }
        loop {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(part)) if part.is_empty() => {}
                Some(Ok(part)) => {
                    self.received += part.len() as u64;
                    self.held = part.len();
                    self.part = part;
                    return Poll::Ready(if self.received > self.most { Err(Reason::BodyTooLarge) } else { Ok(true) });
                }
                Some(Err(error)) => return Poll::Ready(Err(reason(&error))),
                None => break,
            }
        }
        if let Some(fields) = ready!(self.stream.poll_trailers(cx)).map_err(|error| reason(&error))? {
            let mut section = Vec::new();
            for (name, value) in &fields {
                for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                    section.extend_from_slice(part);
                }
            }
            self.trailers = trailers::filter(&section).ok_or(Reason::BodyInvalid)?;
        }
        self.complete = true;
        Poll::Ready(Ok(false))
    }

    fn given(&self, more: bool) -> Option<&[u8]> {
        more.then_some(&self.part)
    }
}

impl RequestBody for Body<'_> {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn has_buffered(&mut self) -> bool {
        if self.ready.is_none()
            && let Poll::Ready(part) = self.poll_part(&mut Context::from_waker(std::task::Waker::noop()))
        {
            self.ready = Some(part);
        }
        self.ready.is_some()
    }

    fn received(&self) -> u64 {
        self.received
    }

    async fn read(&mut self) -> Result<Option<&[u8]>, Reason> {
        if let Some(ready) = self.ready.take() {
            let more = ready?;
            return Ok(self.given(more));
        }
        consume_budget().await;
        self.deadline.arm(self.pace.patience());
        let begun = self.deadline.now();
        let came = poll_fn(|cx| match self.poll_part(cx) {
            Poll::Pending if self.deadline.poll_expired(cx) => Poll::Ready(None),
            polled => polled.map(Some),
        })
        .await;
        // The client is waited for here and nowhere else: how long the app takes over a part does not count.
        let waited = self.deadline.now().saturating_sub(begun);
        let Some(came) = came else {
            return Err(if self.pace.is_silence(waited) { Reason::BodyTimeout } else { Reason::BodyTooSlow });
        };
        let more = came?;
        if more {
            self.pace.step(waited, self.part.len()).map_err(|TooSlow| Reason::BodyTooSlow)?;
        }
        Ok(self.given(more))
    }

    fn limit(&mut self, most: u64) {
        self.most = most;
    }

    fn discard(&mut self) -> bool {
        self.ready = None;
        loop {
            match self.poll_part(&mut Context::from_waker(std::task::Waker::noop())) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return true,
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
    }

    fn trailers(&self) -> &[u8] {
        &self.trailers
    }
}

/// Why a body broke off: the client broke the rules (`h2` has reset the stream), or it went away.
fn reason(error: &h2::Error) -> Reason {
    if error.is_library() && !error.is_io() { Reason::BodyInvalid } else { Reason::ClientClosed }
}

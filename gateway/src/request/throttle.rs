//! Answers that go out no faster than they may: their own rate, and the one of all answers to a client.
//!
//! A piece is written when its time has come; meanwhile a timer runs, and nothing else. The app is not kept waiting: what it sends is buffered
//! as for any client that reads slowly. A client that is kept waiting here owes nothing for that time ([`crate::wire::pace`]).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use probegate_policies::bandwidth::{self, ByteRate, Line, demanded};
use probegate_policies::limit::{Key, KeyPart};
use tokio::time::Sleep;

use super::judge::Judgement;
use crate::plan::Bandwidth;
use crate::state::State;
use crate::wire::head::{Name, ResponseHead};
use crate::wire::{ClientGone, Responder, Written};

/// How often it is looked whether the process ends.
const LOOK: Duration = Duration::from_millis(100);

/// How fast answers to a request may go.
#[derive(Clone, Copy, Debug)]
pub struct Throttling<'a> {
    bandwidth: &'a Bandwidth,
    state: &'a Arc<State>,
    client: Option<Key>,
}

impl<'a> Throttling<'a> {
    /// For answers to the client of this request.
    pub fn new(bandwidth: &'a Bandwidth, state: &'a Arc<State>, judgement: &Judgement<'_>) -> Self {
        let client = bandwidth.per_client.map(|rate| {
            let client = KeyPart::Client { identity: &judgement.identity, v4_prefix: 32, v6_prefix: 64 };
            // Parts of apps with the same rate share it.
            state.lines.key(&[client, KeyPart::Bytes(&rate.0.get().to_ne_bytes())])
        });
        Self { bandwidth, state, client }
    }

    /// The throttle for this answer, if it needs one. An app may name the rate of an answer, or lift it (nginx's `X-Accel-Limit-Rate`).
    pub(super) fn apply(&self, head: &ResponseHead, bytes: &[u8]) -> Option<Box<Throttle>> {
        let mut named = head.fields.of(Name::Accel);
        let named = named.find(|field| field.name.of(bytes).eq_ignore_ascii_case(b"x-accel-limit-rate"));
        let rate = named.and_then(|field| demanded(field.value.of(bytes))).unwrap_or(self.bandwidth.rate);
        let client = self.client.zip(self.bandwidth.per_client);
        if rate.is_none() && client.is_none() {
            return None;
        }
        Some(Box::new(Throttle {
            line: rate.map(|rate| Line::new(rate, self.bandwidth.after)),
            client,
            state: Arc::clone(self.state),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            granted: 0,
            waits: None,
            piece: 0,
            at: 0,
            written: Written::default(),
        }))
    }
}

/// Lets the pieces of one answer go when their time has come.
#[derive(Debug)]
pub struct Throttle {
    line: Option<Line>,
    client: Option<(Key, ByteRate)>,
    state: Arc<State>,
    sleep: Pin<Box<Sleep>>,
    /// Bytes whose time has come, or will when the timer ends.
    granted: usize,
    /// The timer runs, and until when they have to wait.
    waits: Option<Instant>,
    /// Bytes of the piece at hand; 0: none may go yet.
    piece: usize,
    /// Bytes of the part at hand that have gone.
    at: usize,
    /// How far the piece at hand is.
    written: Written,
}

impl Throttle {
    /// Waits until at most `wanted` bytes may go, at least one of them, and tells how many. They count from then on, whether or not they go.
    ///
    /// # Errors
    /// The process ends.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, ClientGone>> {
        if self.granted == 0 {
            let mut piece = wanted as u64;
            if let Some(line) = &self.line {
                piece = line.piece(piece);
            }
            if let Some((_, rate)) = self.client {
                piece = piece.min(rate.piece());
            }
            let instant = Instant::now();
            let now = self.state.now(instant).nanos;
            let own = self.line.as_mut().map_or(0, |line| line.take(piece, now));
            let shared =
                self.client.map_or(0, |(key, rate)| bandwidth::take_shared(&self.state.lines, key, rate, piece, now));
            let at = own.max(shared);
            self.granted = usize::try_from(piece).unwrap_or(wanted);
            // A year is more than anybody waits, and less than what overflows a clock.
            let wait = Duration::from_nanos(at.saturating_sub(now)).min(Duration::from_secs(366 * 24 * 3600));
            self.waits = (at > now).then(|| instant + wait);
            self.look(instant);
        }
        while let Some(until) = self.waits {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            if now >= until {
                self.waits = None;
            } else if self.state.is_cutting() {
                return Poll::Ready(Err(ClientGone::Closed));
            } else {
                self.look(now);
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut self.granted)))
    }

    /// Sets the timer: not for longer than somebody who ends the process waits.
    fn look(&mut self, now: Instant) {
        if let Some(until) = self.waits {
            self.sleep.as_mut().reset(until.min(now + LOOK).into());
        }
    }

    /// [`Responder::poll_write`], piece by piece. What is pending has to be gone on with here, with the same bytes.
    pub fn poll_write<R: Responder>(
        &mut self,
        cx: &mut Context<'_>,
        reply: &mut R,
        data: &[u8],
        end: Option<&[u8]>,
    ) -> Poll<Result<(), ClientGone>> {
        loop {
            let rest = data.get(self.at..).unwrap_or_default();
            if self.piece == 0 && !rest.is_empty() {
                self.piece = match self.poll_pass(cx, rest.len()) {
                    // Nobody else looks while nothing is written.
                    Poll::Pending => return reply.poll_gone(cx).map(|()| Err(ClientGone::Closed)),
                    Poll::Ready(passed) => passed?,
                };
            }
            let now = rest.get(..self.piece).unwrap_or(rest);
            let last = now.len() == rest.len();
            ready!(reply.poll_write(cx, now, end.filter(|_| last), &mut self.written))?;
            self.written = Written::default();
            self.at += now.len();
            self.piece = 0;
            if last {
                self.at = 0;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

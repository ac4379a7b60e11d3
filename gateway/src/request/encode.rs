//! Compression of answers on their way to the client, in front of what waits for slow ones.
//!
//! What the source has at hand is compressed together. When it has nothing more for the moment, what came so far goes out in a form that the
//! client can read: a page that is written in steps, or lines that are told as they happen, are not held back.
//!
//! Invariants: a part at a time, in the memory of one encoder; encoders count as bodies that wait do, so that all of them together have a bound.

mod encoder;
mod head;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use probegate_policies::encoding::{self, Answer, Coding, Verdict, Why};
use probegate_policies::fields::Fields as _;
use probegate_policies::reason::Reason;

use self::encoder::Encoder;
use self::head::Rewritten;
use super::Received;
use super::exchange::Spools;
use crate::plan::Compression;
use crate::spool::Held;
use crate::wire::edits;
use crate::wire::head::{FieldView, Name, ResponseHead};
use crate::wire::{Framing, Part, ResponseSource};

/// Bytes that are compressed before others on the worker have their turn.
const TURN: usize = 64 * 1024;

/// Bytes that come out before they are passed on.
const ENOUGH: usize = 16 * 1024;

/// What decides about the compression of one answer.
#[derive(Clone, Copy, Debug)]
pub struct Compressing<'a> {
    /// What the route says.
    pub plan: &'a Compression,
    /// The request.
    pub request: &'a Received<'a>,
    /// Where the memory of encoders is counted.
    pub spools: Spools<'a>,
}

/// An answer that goes out with another head.
#[derive(Debug)]
pub(super) struct Other {
    /// The head.
    pub(super) head: ResponseHead,
    /// What it lies in.
    pub(super) bytes: Vec<u8>,
    /// What compresses the body, where it is.
    pub(super) encoding: Option<Box<Encoding>>,
}

/// An encoder, and the memory that is counted for it.
#[derive(Debug)]
pub(super) struct Encoding {
    encoder: Encoder,
    _held: Held,
}

impl Compressing<'_> {
    /// What becomes of an answer with this head, and a body of so many bytes where that is known.
    pub(super) fn verdict(&self, head: &ResponseHead, bytes: &[u8], length: Option<u64>) -> Verdict {
        let request = self.request.fields();
        let accepted =
            request.lines().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-encoding")).map(|(_, value)| value);
        let fields = FieldView { bytes, fields: &head.fields };
        encoding::judge(&self.plan.terms, &Answer { status: head.status, fields: &fields, length }, &accepted)
    }

    /// Another head for this answer, and perhaps a coding; `None`: it goes out as it is. `to_head`: nothing but the head does.
    pub(super) fn apply(&self, head: &ResponseHead, bytes: &[u8], framing: Framing, to_head: bool) -> Option<Other> {
        let fields = FieldView { bytes, fields: &head.fields };
        let length = match framing {
            Framing::Length(length) => Some(length),
            // Without a body, there is what the answer to GET would have: a length, if one is told.
            Framing::None if to_head => {
                fields.first(Name::ContentLength).and_then(|length| std::str::from_utf8(length).ok()?.parse().ok())
            }
            Framing::None => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let (coding, encoding) = match self.verdict(head, bytes, length) {
            Verdict::AsIs(Why::Status | Why::Type | Why::Short | Why::Fixed | Why::Personal) => return None,
            Verdict::Declined => (None, None),
            Verdict::Encode(coding) if to_head => (Some(coding), None),
            // Where there is no memory for an encoder, the client gets what everybody can read.
            Verdict::Encode(coding) => match self.encoder(coding, length) {
                Some(encoding) => (Some(coding), Some(encoding)),
                None => (None, None),
            },
        };
        let Rewritten { head, bytes } = head::rewrite(head, bytes, coding)?;
        Some(Other { head, bytes, encoding })
    }

    fn encoder(&self, coding: Coding, length: Option<u64>) -> Option<Box<Encoding>> {
        let level = self.plan.levels.of(coding);
        let held = self.spools.budget.hold(self.spools.buffers, Encoder::cost(coding, level, length))?;
        let encoder = Encoder::new(coding, level, length);
        let encoder = encoder.inspect_err(|error| tracing::warn!(%error, "an answer can not be compressed")).ok()?;
        Some(Box::new(Encoding { encoder, _held: held }))
    }
}

/// The body of an answer, compressed.
#[derive(Debug)]
pub(super) struct Encoded<'a, S> {
    source: &'a mut S,
    /// `None`: the body is complete.
    encoding: Option<Box<Encoding>>,
    /// What goes out.
    out: Vec<u8>,
    /// Bytes at its front that were given out and are done with.
    given: usize,
    /// The encoder holds back what the client could read.
    dirty: bool,
    trailers: Vec<u8>,
}

impl<'a, S: ResponseSource> Encoded<'a, S> {
    /// What `source` has behind its head, which is done with.
    pub(super) fn new(source: &'a mut S, encoding: Box<Encoding>) -> Self {
        Self { source, encoding: Some(encoding), out: Vec::new(), given: 0, dirty: false, trailers: Vec::new() }
    }

    /// Takes a part of the source's, or that it has none for the moment (`None`). `true`: it was the last one.
    fn take(
        encoding: &mut Option<Box<Encoding>>,
        part: Option<Part<'_>>,
        dirty: &mut bool,
        out: &mut Vec<u8>,
        trailers: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let Some(encoder) = encoding.as_mut().map(|encoding| &mut encoding.encoder) else { return Ok(true) };
        let Some(part) = part else {
            *dirty = false;
            encoder.flush()?;
            out.append(encoder.output());
            return Ok(false);
        };
        if !part.data.is_empty() {
            *dirty = true;
            encoder.write(part.data)?;
            out.append(encoder.output());
        }
        let Some(end) = part.end else { return Ok(false) };
        // Nobody announced them, or the answer would have gone out as it is: digests of other bytes than these.
        edits::lines(end).filter(|line| !encoding::is_fixed(edits::name(line))).for_each(|line| trailers.extend(line));
        if let Some(encoding) = encoding.take() {
            out.append(&mut encoding.encoder.finish()?);
        }
        Ok(true)
    }
}

impl<S: ResponseSource> ResponseSource for Encoded<'_, S> {
    async fn head(&mut self) -> Result<(), Reason> {
        self.source.head().await
    }

    fn received(&self) -> bool {
        self.source.received()
    }

    fn view(&self) -> (&ResponseHead, &[u8]) {
        self.source.view()
    }

    fn framing(&mut self, asked_head: bool) -> Result<Framing, Reason> {
        self.source.framing(asked_head)
    }

    fn begin(&mut self, framing: Framing) {
        self.source.begin(framing);
    }

    fn has_buffered(&mut self) -> bool {
        self.source.has_buffered()
    }

    async fn part(&mut self) -> Result<Part<'_>, Reason> {
        let Self { source, encoding, out, given, dirty, trailers } = self;
        out.drain(..std::mem::take(given));
        let mut turn = 0;
        let end = loop {
            if encoding.is_none() {
                break true;
            }
            let part = {
                let mut next = pin!(source.part());
                poll_fn(|cx| match next.as_mut().poll(cx) {
                    Poll::Pending if *dirty => Poll::Ready(None),
                    polled => polled.map(Some),
                })
                .await
                .transpose()?
            };
            let waits = part.is_none();
            turn += part.map_or(0, |part| part.data.len());
            let end = Self::take(encoding, part, dirty, out, trailers).map_err(|error| {
                tracing::warn!(%error, "an answer can not be compressed");
                Reason::BufferFailed
            })?;
            if end || (waits && !out.is_empty()) || out.len() >= ENOUGH {
                break end;
            }
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        };
        *given = out.len();
        Ok(Part { data: out, end: end.then_some(trailers) })
    }

    fn is_reusable(&self) -> bool {
        self.source.is_reusable()
    }

    fn leave_rest(self) {}
}

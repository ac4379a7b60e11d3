//! A response as it goes out to an HTTP/2 client.
//!
//! What is handed to `h2` is bounded by the client's windows and by the send buffer of its stream; a writer waits for both under its deadline,
//! so that a client that takes nothing ends here and not in memory.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Weak;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, SendStream};
use http::header::{CONTENT_LENGTH, DATE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::behind::Behind;
use super::io::Below;
use crate::wire::deadline::Deadline;
use crate::wire::edits::{self, Edits};
use crate::wire::h1::framing::{self, Connection};
use crate::wire::h1::lines::{self, Lines};
use crate::wire::head::{FieldView, Name, ResponseHead};
use crate::wire::pace::Pace;
use crate::wire::{Answer, ClientFraming, ClientGone, Responder, Stamp, Written};

/// The sending side of a stream. It outlives a [`Reply`], for those who must still end the stream after a panic.
#[derive(Debug)]
pub enum Way {
    /// No final head was sent.
    Waiting(SendResponse<Bytes>),
    /// The head was sent; the body may follow.
    Streaming(SendStream<Bytes>),
}

impl Way {
    /// Ends the stream at once.
    pub fn reset(&mut self, code: Code) {
        match self {
            Self::Waiting(respond) => respond.send_reset(code),
            Self::Streaming(stream) => stream.send_reset(code),
        }
    }

    /// Ready when the client has reset the stream, or the connection is gone.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Waiting(respond) => respond.poll_reset(cx).map(|_| ()),
            Self::Streaming(stream) => stream.poll_reset(cx).map(|_| ()),
        }
    }
}

/// What the answer to a request has to look like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The request was HEAD.
    pub to_head: bool,
    /// It was an extended CONNECT: the value that the app's `Sec-WebSocket-Accept` must have. A success opens a tunnel and nothing else.
    pub accept: Option<[u8; 28]>,
}

/// The way back to the client.
pub struct Reply<'a> {
    way: &'a mut Way,
    below: &'a Weak<dyn Below>,
    /// A write that waits.
    behind: Option<Behind>,
    deadline: &'a Deadline,
    pace: Pace,
    date: &'a [u8],
    asked: Asked,
    /// The final head, until the first write takes it out.
    head: Option<Response<()>>,
    started: bool,
    /// No body is expected: the head ends the stream.
    bare: bool,
    ended: bool,
    sent: u64,
    /// Which of the app's fields pass; its lines are in `lines`.
    stamp: Stamp<'static>,
    lines: Vec<u8>,
    /// Its changes, in a box: most services have none.
    edits: Option<Box<Edits>>,
    /// Told when an answer begins, for those who survive this reply.
    announced: Option<&'a Cell<bool>>,
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("way", &self.way).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl<'a> Reply<'a> {
    /// `below` is the connection of the stream; `date` is the current `Date`.
    pub fn new(
        way: &'a mut Way,
        below: &'a Weak<dyn Below>,
        deadline: &'a Deadline,
        pace: Pace,
        date: &'a [u8],
        asked: Asked,
    ) -> Self {
        Self {
            way,
            below,
            behind: None,
            deadline,
            pace,
            date,
            asked,
            head: None,
            started: false,
            bare: false,
            ended: false,
            sent: 0,
            stamp: Stamp::default(),
            lines: Vec::new(),
            edits: None,
            announced: None,
        }
    }

    /// Sets `announced` when an answer begins.
    pub fn announce_to(&mut self, announced: &'a Cell<bool>) {
        self.announced = Some(announced);
    }

    /// Ends the stream where it has not ended: nothing else will be answered.
    pub fn abandon(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            self.way.reset(code);
        }
    }

    fn begin(&mut self, started: bool) {
        self.started = started;
        if let Some(announced) = self.announced {
            announced.set(started);
        }
    }

    /// The app's fields that pass on.
    fn pass(&self, fields: &mut HeaderMap, head: &ResponseHead, bytes: &[u8], keep: impl Fn(Name) -> bool) {
        let view = FieldView { bytes, fields: &head.fields };
        let nominates = Connection::of(view).nominates;
        // One copy of the head holds all values.
        let shared = Bytes::copy_from_slice(bytes.get(..head.len).unwrap_or_default());
        fields.reserve(head.fields.len() + 2);
        for field in &head.fields {
            let name = field.name.of(bytes);
            let passes = match field.known {
                Name::Connection | Name::HopByHop | Name::TransferEncoding | Name::Upgrade => false,
                known => {
                    keep(known)
                        && self.stamp.keeps(known)
                        && self.edits.as_deref().is_none_or(|edits| edits.keeps(name))
                        && !(nominates && framing::nominated(view, name))
                }
            };
            let range = usize::from(field.value.start)..usize::from(field.value.end);
            // The strict reading of the app's answer lets nothing by that these refuse.
            if passes
                && range.end <= shared.len()
                && let Ok(name) = HeaderName::from_bytes(name)
                && let Ok(value) = HeaderValue::from_maybe_shared(shared.slice(range))
            {
                fields.append(name, value);
            }
        }
    }

    /// Puts the stamp on a head. `own`: the answer is the gateway's, and keeps what it says itself.
    fn stamped(&self, fields: &mut HeaderMap, own: bool) {
        let Some(edits) = self.edits.as_deref() else { return append_lines(fields, &self.lines) };
        let said =
            |fields: &HeaderMap, name: &[u8]| HeaderName::from_bytes(name).is_ok_and(|name| fields.contains_key(&name));
        let unsaid = edits::lines(&self.lines).filter(|line| !own || !edits::yields(line, |name| said(fields, name)));
        append_lines(fields, &unsaid.flatten().copied().collect::<Vec<_>>());
        let mut missing = Vec::new();
        edits.missing(|name| said(fields, name)).for_each(|group| missing.extend_from_slice(group));
        append_lines(fields, &missing);
    }

    /// Sends the head, if it was not sent yet. `end`: it ends the stream.
    fn open(&mut self, end: bool) -> Result<(), ClientGone> {
        if let (Some(head), Way::Waiting(respond)) = (self.head.take(), &mut *self.way) {
            let stream = respond.send_response(head, end).map_err(|_| ClientGone::Closed)?;
            *self.way = Way::Streaming(stream);
            self.ended |= end;
        }
        Ok(())
    }

    /// Sends data as the client's windows and the send buffer allow. `end`: the stream ends with it.
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        end: bool,
        written: &mut Written,
    ) -> Poll<Result<(), ClientGone>> {
        let Way::Streaming(stream) = &mut *self.way else { return Poll::Ready(Err(ClientGone::Closed)) };
        while let Some(rest) = data.get(written.at..)
            && !rest.is_empty()
        {
            stream.reserve_capacity(rest.len());
            let mut room = stream.capacity();
            if room == 0 {
                let behind = self.behind.get_or_insert_with(|| {
                    let behind = Behind::new(self.deadline.now());
                    self.deadline.arm(behind.wait.next(self.deadline.now(), &self.pace));
                    behind
                });
                room = ready!(behind.poll_room(cx, stream, self.below, self.deadline, &mut self.pace))?;
            }
            // The room may have come since the last look: the wait ends here either way.
            if let Some(behind) = self.behind.take() {
                let ended = behind.wait.end(self.deadline.now(), room.min(rest.len()), &mut self.pace);
                ended.map_err(|_| ClientGone::Stalled)?;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            stream.send_data(Bytes::copy_from_slice(now), end && later.is_empty()).map_err(|_| ClientGone::Closed)?;
            self.sent += now.len() as u64;
            written.at += now.len();
        }
        if end && data.is_empty() {
            stream.send_data(Bytes::new(), true).map_err(|_| ClientGone::Closed)?;
        }
        self.ended |= end;
        Poll::Ready(Ok(()))
    }
}

impl Responder for Reply<'_> {
    fn stamp(&mut self, stamp: &Stamp<'_>, edits: Option<Edits>) {
        self.stamp = Stamp { lines: &[], ..*stamp };
        self.lines.clear();
        self.lines.extend_from_slice(stamp.lines);
        self.edits = edits.map(Box::new);
    }

    fn accepts(&self, head: &ResponseHead, bytes: &[u8]) -> bool {
        let Some(accept) = self.asked.accept else { return true };
        let mut given =
            head.fields.iter().filter(|field| field.name.of(bytes).eq_ignore_ascii_case(b"sec-websocket-accept"));
        match head.status {
            101 => given.next().is_some_and(|field| field.value.of(bytes) == accept) && given.next().is_none(),
            // RFC 8441 §5: to the client, any success means that the tunnel is open.
            status => !(200..300).contains(&status),
        }
    }

    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> Result<(), ClientGone> {
        let Way::Waiting(_) = self.way else { return Ok(()) };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status).map_err(|_| ClientGone::Closed)?;
        // RFC 9110 §8.6: no length in an interim response.
        self.pass(response.headers_mut(), head, bytes, |known| known != Name::ContentLength);
        let Way::Waiting(respond) = &mut *self.way else { return Ok(()) };
        respond.send_informational(response).map_err(|_| ClientGone::Closed)
    }

    fn start(&mut self, head: &ResponseHead, bytes: &[u8], framing: ClientFraming) {
        self.begin(true);
        let switching = head.status == 101;
        let mut response = Response::new(());
        // RFC 8441 §5: 200 stands for 101. A status is three digits, as the reading of the app's answer demands.
        *response.status_mut() = match head.status {
            101 => StatusCode::OK,
            status => StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
        };
        let fields = response.headers_mut();
        self.pass(fields, head, bytes, |known| match known {
            // A length that was not sent must not be promised; one in answer to HEAD is told as it is. RFC 9110 §8.6: never with 204.
            Name::ContentLength => framing != ClientFraming::Streamed && !matches!(head.status, 101 | 204),
            _ => true,
        });
        if switching {
            fields.remove("sec-websocket-accept");
        }
        if let Some(line) = self.edits.as_deref().and_then(|edits| edits.location(head, bytes)) {
            fields.remove(LOCATION);
            append_lines(fields, &line);
        }
        self.stamped(fields, false);
        if !fields.contains_key(DATE) {
            // RFC 9110 §6.6.1: a recipient with a clock adds it.
            append(fields, b"date", self.date);
        }
        self.bare = framing == ClientFraming::None && !switching;
        self.head = Some(response);
    }

    fn retract(&mut self) -> bool {
        let gone = self.head.take().is_none();
        self.begin(self.started && gone);
        !gone
    }

    fn started(&self) -> bool {
        self.started
    }

    async fn go_on(&mut self) -> Result<(), ClientGone> {
        let Way::Waiting(respond) = &mut *self.way else { return Ok(()) };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        respond.send_informational(response).map_err(|_| ClientGone::Closed)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        end: Option<&[u8]>,
        written: &mut Written,
    ) -> Poll<Result<(), ClientGone>> {
        let last = end.is_some();
        let trailers = end.map(|trailers| match self.edits.as_deref() {
            Some(edits) => edits.trailers(trailers),
            None => Cow::Borrowed(trailers),
        });
        let trailers = trailers.as_deref().filter(|trailers| !trailers.is_empty());
        let ends = last && trailers.is_none();
        self.open(self.bare || (ends && data.is_empty()))?;
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        if !data.is_empty() || ends {
            ready!(self.poll_data(cx, data, ends, written))?;
        }
        if let (Some(trailers), Way::Streaming(stream)) = (trailers, &mut *self.way) {
            let mut fields = HeaderMap::new();
            append_lines(&mut fields, trailers);
            stream.send_trailers(fields).map_err(|_| ClientGone::Closed)?;
            self.ended = true;
        }
        Poll::Ready(Ok(()))
    }

    async fn answer(&mut self, answer: &Answer<'_>) -> Result<(), ClientGone> {
        self.begin(true);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = response.headers_mut();
        append(fields, b"date", self.date);
        for (name, value) in answer.fields {
            append(fields, name.as_bytes(), value);
        }
        self.stamped(fields, true);
        if answer.status != 204 {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
        }
        self.head = Some(response);
        let bare = self.asked.to_head || answer.body.is_empty();
        self.open(bare)?;
        if bare {
            return Ok(());
        }
        let mut written = Written::default();
        poll_fn(|cx| self.poll_data(cx, answer.body, true, &mut written)).await
    }

    fn close(&mut self) {
        // Other streams have nothing to do with it: what is left of this one ends with it.
    }

    fn truncate(&mut self) {
        // The client must not take for whole what is not (RFC 9113 §8.1.1).
        self.abandon(Code::INTERNAL_ERROR);
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended { Poll::Pending } else { self.way.poll_gone(cx) }
    }
}

/// Adds field lines with CRLF.
fn append_lines(fields: &mut HeaderMap, text: &[u8]) {
    let mut section = Lines::default();
    while let Ok(Some((start, end))) = section.next(text) {
        if let Ok(field) = lines::field(text, start, end) {
            append(fields, field.name.of(text), field.value.of(text));
        }
    }
}

fn append(fields: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        fields.append(name, value);
    }
}

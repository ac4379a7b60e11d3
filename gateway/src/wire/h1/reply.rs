//! A response as it goes out to the client.

mod lines;

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::task::{Context, Poll, ready};

pub use self::lines::Client;
use super::chunked;
use super::fields::copy_fields;
use super::io::{Closed, poll_closed, poll_send, poll_write_paced, write_paced};
use crate::wire::deadline::Deadline;
use crate::wire::edits::Edits;
use crate::wire::head::{Name, ResponseHead, Version};
use crate::wire::known::Known;
use crate::wire::pace::Pace;
use crate::wire::piece::Piece;
use crate::wire::pipe::Pipe;
use crate::wire::text::{Date, push_number};
use crate::wire::transport::Transport;
use crate::wire::{Answer, COPIED, ClientFraming, ClientGone, Responder, Stamp, Written};

/// The way back to the client.
#[derive(Debug)]
pub struct Reply<'a, T> {
    transport: &'a T,
    deadline: &'a Deadline,
    /// How slowly the client may take it.
    pace: Pace,
    /// The head, until the first write.
    out: &'a mut Vec<u8>,
    date: Date,
    client: Client,
    started: bool,
    /// An interim response is being written.
    begun: bool,
    /// A write has begun and not come to its end.
    halfway: bool,
    /// The body goes out in chunks.
    chunked: bool,
    /// The end of the connection is the end of the body.
    until_close: bool,
    sent: u64,
    /// Which of the app's fields pass; its lines are in `lines`.
    stamp: Stamp<'static>,
    /// Lines of the stamp.
    lines: Vec<u8>,
    /// Its changes, in a box: most services have none.
    edits: Option<Box<Edits>>,
    /// Told when an answer begins, for those who survive this reply.
    announced: Option<&'a Cell<bool>>,
}

impl<'a, T: Transport> Reply<'a, T> {
    /// `out` is memory to build heads in; `date` is the current `Date`.
    pub fn new(
        transport: &'a T,
        deadline: &'a Deadline,
        pace: Pace,
        out: &'a mut Vec<u8>,
        date: Date,
        client: Client,
    ) -> Self {
        out.clear();
        Self {
            transport,
            deadline,
            pace,
            out,
            date,
            client,
            started: false,
            begun: false,
            halfway: false,
            chunked: false,
            until_close: false,
            sent: 0,
            stamp: Stamp::default(),
            lines: Vec::new(),
            edits: None,
            announced: None,
        }
    }

    /// Whether the connection can serve another request after this response.
    pub fn persists(&self) -> bool {
        self.client.persists
    }

    /// Sets `announced` when an answer begins.
    pub fn announce_to(&mut self, announced: &'a Cell<bool>) {
        self.announced = Some(announced);
    }

    fn begin(&mut self) {
        self.started = true;
        self.announce(true);
    }

    fn announce(&self, begun: bool) {
        if let Some(announced) = self.announced {
            announced.set(begun);
        }
    }

    async fn send(&mut self, parts: &mut [IoSlice<'_>]) -> Result<(), ClientGone> {
        let sent = write_paced(self.transport, parts, self.deadline, Some(&mut self.pace), false).await;
        sent.map_err(|failed| self.gone(&failed.error))
    }

    fn gone(&mut self, error: &io::Error) -> ClientGone {
        self.client.persists = false;
        if error.kind() != ErrorKind::TimedOut {
            return ClientGone::Closed;
        }
        // The kernel would go on offering what it holds to somebody who does not take it.
        self.transport.reset_on_close();
        ClientGone::Stalled
    }
}

impl<T: Transport> Responder for Reply<'_, T> {
    fn stamp(&mut self, stamp: &Stamp<'_>, edits: Option<Edits>) {
        self.stamp = Stamp { lines: &[], ..*stamp };
        // Allocates only where the service adds a field.
        self.lines.clear();
        self.lines.extend_from_slice(stamp.lines);
        self.edits = edits.map(Box::new);
    }

    async fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> Result<(), ClientGone> {
        // RFC 9110 §15.2: an HTTP/1.0 client does not know interim responses.
        if self.client.version == Version::Http10 {
            return Ok(());
        }
        self.status_line(head.status, head.reason.of(bytes));
        // RFC 9110 §8.6: no length in an interim response.
        let (stamp, edits) = (self.stamp, self.edits.as_deref());
        copy_fields(self.out, &head.fields, bytes, |field| {
            !matches!(field.known, Name::ContentLength | Name::Upgrade)
                && stamp.keeps(field.known)
                && edits.is_none_or(|edits| edits.keeps(field.name.of(bytes)))
        });
        self.out.extend_from_slice(b"\r\n");
        let out = std::mem::take(self.out);
        // Until it is whole, nothing else can be said: whoever gives up on this write must not answer behind half a head.
        self.begun = true;
        self.announce(true);
        let sent = self.send(&mut [IoSlice::new(&out)]).await;
        self.begun = sent.is_err();
        self.announce(self.begun);
        *self.out = out;
        self.out.clear();
        sent
    }

    fn start(&mut self, head: &ResponseHead, bytes: &[u8], framing: ClientFraming) {
        self.begin();
        self.status_line(head.status, head.reason.of(bytes));
        let first = self.out.len();
        let switching = head.status == 101;
        let (stamp, edits) = (self.stamp, self.edits.as_deref());
        let moved = edits.and_then(|edits| edits.location(head, bytes));
        copy_fields(self.out, &head.fields, bytes, |field| match field.known {
            Name::Upgrade => switching,
            // A length that was not sent must not be promised; one in answer to HEAD is told as it is. RFC 9110 §8.6: never with 204.
            Name::ContentLength => framing != ClientFraming::Streamed && !matches!(head.status, 101 | 204),
            known => {
                stamp.keeps(known) && edits.is_none_or(|edits| edits.passes(field.name.of(bytes), moved.is_some()))
            }
        });
        self.out.extend_from_slice(moved.as_deref().unwrap_or_default());
        self.out.extend_from_slice(&self.lines);
        if let Some(edits) = edits {
            edits.complete(self.out, first);
        }
        if !head.fields.has(Name::Date) {
            // RFC 9110 §6.6.1: a recipient with a clock adds it.
            let date = self.date;
            self.field(b"Date", &date);
        }
        if switching {
            self.out.extend_from_slice(b"Connection: Upgrade\r\n");
        } else {
            if let ClientFraming::Length(length) = framing
                && !head.fields.has(Name::ContentLength)
            {
                // Known from an app's HTTP/2, where the end of the stream tells it.
                self.out.extend_from_slice(b"Content-Length: ");
                push_number(self.out, length);
                self.out.extend_from_slice(b"\r\n");
            }
            if framing == ClientFraming::Streamed {
                self.chunked = self.client.version == Version::Http11;
                if self.chunked {
                    self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                } else {
                    self.until_close = true;
                    self.client.persists = false;
                }
            }
            self.connection_line();
        }
        self.out.extend_from_slice(b"\r\n");
    }

    fn retract(&mut self) -> bool {
        // The first write that comes to its end takes the head out.
        if !self.started || self.out.is_empty() || self.halfway {
            return false;
        }
        self.out.clear();
        (self.started, self.chunked, self.until_close) = (false, false, false);
        self.announce(false);
        true
    }

    fn started(&self) -> bool {
        self.started || self.begun
    }

    async fn go_on(&mut self) -> Result<(), ClientGone> {
        if self.client.version == Version::Http10 {
            return Ok(());
        }
        self.send(&mut [IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")]).await
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        end: Option<&[u8]>,
        written: &mut Written,
    ) -> Poll<Result<(), ClientGone>> {
        if self.halfway && written.at == 0 && written.wait.is_none() {
            // Another write did not come to its end: whatever follows would be taken for the rest of it.
            return Poll::Ready(Err(ClientGone::Closed));
        }
        let fresh = written.at == 0 && written.wait.is_none() && !self.chunked;
        if fresh && !self.out.is_empty() && data.len() <= COPIED {
            let head = self.out.len();
            self.out.extend_from_slice(data);
            match self.transport.try_write(&[IoSlice::new(self.out)]) {
                Ok(n) if n == self.out.len() => {
                    self.out.clear();
                    self.halfway = false;
                    self.sent += data.len() as u64;
                    return Poll::Ready(Ok(()));
                }
                // What did not go, and every kind of failure, is what follows.
                Ok(n) => written.at = n,
                Err(_) => {}
            }
            self.out.truncate(head);
        }
        let mut size = [0; 18];
        let (before, after): (&[u8], &[u8]) = match (self.chunked, data.is_empty()) {
            (true, false) => (chunked::header(data.len(), &mut size), b"\r\n"),
            _ => (b"", b""),
        };
        let end = end.map(|trailers| match self.edits.as_deref() {
            // The same each time it is asked for, as a pending write needs it.
            Some(edits) => edits.trailers(trailers),
            None => Cow::Borrowed(trailers),
        });
        let (last, trailers, close): (&[u8], &[u8], &[u8]) = match &end {
            Some(trailers) if self.chunked => (b"0\r\n", trailers, b"\r\n"),
            _ => (b"", b"", b""),
        };
        let mut parts = [&**self.out, before, data, after, last, trailers, close].map(IoSlice::new);
        // Empty slices cost the kernel time; the common cases have one or two parts.
        let mut count = 0;
        for index in 0..parts.len() {
            if parts.get(index).is_some_and(|part| !part.is_empty()) {
                parts.swap(index, count);
                count += 1;
            }
        }
        let mut parts = parts.get_mut(..count).unwrap_or_default();
        IoSlice::advance_slices(&mut parts, written.at);
        let sent =
            poll_write_paced(self.transport, &mut parts, self.deadline, Some(&mut self.pace), false, written, cx);
        // Over TLS, bytes may be on their way before any of them counts as written.
        self.halfway = sent.is_pending();
        let sent = ready!(sent);
        self.out.clear();
        match sent {
            Ok(()) => self.sent += data.len() as u64,
            Err(_) => self.halfway = true,
        }
        Poll::Ready(sent.map_err(|error| self.gone(&error)))
    }

    fn passes(&self) -> bool {
        self.started && !self.chunked && !self.halfway && self.out.is_empty() && self.transport.passes()
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<(), ClientGone>> {
        while pipe.held() > 0 {
            match self.transport.try_drain(pipe) {
                Ok(0) => return Poll::Ready(Err(self.gone(&ErrorKind::WriteZero.into()))),
                Ok(n) => self.sent += n as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.transport.poll_write_ready(cx)).map_err(|error| self.gone(&error))?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(self.gone(&error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &Piece,
        written: &mut Written,
    ) -> Poll<Result<usize, ClientGone>> {
        let sent = ready!(poll_send(self.transport, piece, self.deadline, &mut self.pace, written, cx));
        Poll::Ready(sent.inspect(|&n| self.sent += n as u64).map_err(|error| self.gone(&error)))
    }

    async fn answer(&mut self, answer: &Answer<'_>) -> Result<(), ClientGone> {
        if self.prepare(answer) {
            return self.deliver().await;
        }
        // It is not copied: it waits for its client.
        let body = self.begin_with(answer);
        self.send_out(body).await
    }

    fn prepare(&mut self, answer: &Answer<'_>) -> bool {
        if answer.body.len() > COPIED {
            return false;
        }
        let body = self.begin_with(answer);
        self.out.extend_from_slice(body);
        true
    }

    #[inline]
    fn recall(&mut self, known: &Known, id: &[u8; 32]) -> bool {
        let recalls = self.is_usual() && *known.lines == *self.lines;
        if recalls {
            self.begin();
            known.write(id, self.out);
            self.sent += known.body;
        }
        recalls
    }

    async fn deliver(&mut self) -> Result<(), ClientGone> {
        self.send_out(&[]).await
    }

    fn keep(&self, id: Option<&[u8; 32]>) -> Option<Known> {
        // Nothing but the one answer has been written yet.
        self.is_plain().then(|| Known::new(self.out.clone(), id, self.sent, &self.lines))?
    }

    fn close(&mut self) {
        self.client.persists = false;
    }

    fn truncate(&mut self) {
        self.client.persists = false;
        // A body that ends with the connection has no other way of showing that it is not whole. Where a length or a last chunk is
        // missing, an ordinary close shows it, and what was sent still arrives.
        if self.until_close {
            self.transport.reset_on_close();
        }
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match poll_closed(self.transport, cx) {
            Poll::Ready(Closed::Yes) => {
                self.client.persists = false;
                Poll::Ready(())
            }
            // Bytes of the body that were not read yet, or of the next request. When they are gone, the next look tells.
            Poll::Ready(Closed::Unknown) | Poll::Pending => Poll::Pending,
        }
    }
}

//! The app's side of one exchange in HTTP/1: the request as it goes up, the answer as it comes down.

use std::io::{self, IoSlice};
use std::time::Duration;

use probegate_policies::reason::Reason;
use tokio::task::coop::consume_budget;

use super::chunked::{self, Decoder};
use super::framing::{self, Connection};
use super::io::{fill, read, write_paced};
use super::response::{MAX_HEAD, ResponseParser};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::head::{FieldView, Name, ResponseHead};
use crate::wire::pace::Pace;
use crate::wire::pipe::{Pipe, Pipes};
use crate::wire::transport::Transport;
use crate::wire::{Framing, Part, RequestSink, ResponseSource, WriteFailed};

/// Bodies are read in pieces of this size once they turn out to be large.
const LARGE: usize = 64 * 1024;

/// Sends a request.
#[derive(Debug)]
pub struct RequestWriter<'a, T> {
    transport: &'a T,
    deadline: &'a Deadline,
    /// Time for each wait; `None`: the deadline was armed for the whole exchange.
    each: Option<Duration>,
    /// What was not sent yet of the head.
    head: &'a [u8],
    chunked: bool,
}

impl<'a, T: Transport> RequestWriter<'a, T> {
    /// A request that begins with `head`, whose body is framed as it says.
    pub fn new(
        transport: &'a T,
        deadline: &'a Deadline,
        each: Option<Duration>,
        head: &'a [u8],
        framing: Framing,
    ) -> Self {
        Self { transport, deadline, each, head, chunked: framing == Framing::Chunked }
    }

    async fn send(&mut self, parts: &mut [IoSlice<'_>]) -> Result<(), WriteFailed> {
        let mut pace = self.each.map(Pace::patient);
        let before = self.transport.raw_sent();
        let sent = write_paced(self.transport, parts, self.deadline, pace.as_mut(), true).await;
        // A record that nobody called written may have arrived all the same.
        let pushed = |failed: WriteFailed| {
            let unreported = usize::from(self.transport.raw_sent() != before);
            WriteFailed { written: failed.written.max(unreported), ..failed }
        };
        sent.map_err(pushed)?;
        self.head = &[];
        consume_budget().await;
        Ok(())
    }
}

impl<T: Transport> RequestSink for RequestWriter<'_, T> {
    async fn head(&mut self) -> Result<(), WriteFailed> {
        let head = self.head;
        self.send(&mut [IoSlice::new(head)]).await
    }

    async fn part(&mut self, data: &[u8]) -> Result<(), WriteFailed> {
        let mut size = [0; 18];
        let (before, after): (&[u8], &[u8]) =
            if self.chunked { (chunked::header(data.len(), &mut size), b"\r\n") } else { (b"", b"") };
        let head = self.head;
        self.send(&mut [head, before, data, after].map(IoSlice::new)).await
    }

    async fn finish(&mut self, trailers: &[u8]) -> Result<(), WriteFailed> {
        if !self.chunked {
            return Ok(());
        }
        let head = self.head;
        self.send(&mut [head, b"0\r\n", trailers, b"\r\n"].map(IoSlice::new)).await
    }
}

/// Receives the answer.
#[derive(Debug)]
pub struct ResponseReader<'a, T> {
    transport: &'a T,
    deadline: &'a Deadline,
    /// Time for each wait; `None`: the deadline was armed for the whole exchange.
    each: Option<Duration>,
    buffer: &'a mut Buffer,
    head: &'a mut ResponseHead,
    /// Front of the buffer that was given out and is done with at the next step.
    given: usize,
    framing: Framing,
    left: u64,
    decoder: Decoder,
    received: bool,
    clean: bool,
    /// A part that was decoded to see whether there is one.
    decoded: Option<(usize, bool)>,
}

impl<'a, T: Transport> ResponseReader<'a, T> {
    /// The answer that comes over `transport`.
    pub fn new(
        transport: &'a T,
        deadline: &'a Deadline,
        each: Option<Duration>,
        buffer: &'a mut Buffer,
        head: &'a mut ResponseHead,
    ) -> Self {
        buffer.clear();
        Self {
            transport,
            deadline,
            each,
            buffer,
            head,
            given: 0,
            framing: Framing::None,
            left: 0,
            decoder: Decoder::default(),
            received: false,
            clean: false,
            decoded: None,
        }
    }

    async fn fill(&mut self) -> Result<usize, Reason> {
        self.get_ready().await;
        let n = read(self.transport, self.buffer, self.deadline).await.map_err(|error| failed(&error))?;
        self.received |= n > 0;
        Ok(n)
    }

    /// A wait for the app begins.
    async fn get_ready(&self) {
        if let Some(each) = self.each {
            self.deadline.arm(each);
        }
        consume_budget().await;
    }

    /// Decodes what is in the buffer: bytes of data at its front, and whether the body ends with them.
    fn decode(&mut self) -> Result<(usize, bool), Reason> {
        let (produced, end) = match self.framing {
            Framing::None => (0, true),
            Framing::Length(_) => {
                let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
                self.left -= part as u64;
                self.given = part;
                (part, self.left == 0)
            }
            Framing::UntilClose => {
                self.given = self.buffer.len();
                (self.given, false)
            }
            Framing::Chunked => {
                let decoded = self.decoder.decode(self.buffer.filled_mut()).map_err(|_| Reason::UpstreamInvalid)?;
                self.given = decoded.consumed;
                (decoded.produced, decoded.done)
            }
        };
        Ok((produced, end))
    }
}

impl<T: Transport> ResponseSource for ResponseReader<'_, T> {
    async fn head(&mut self) -> Result<(), Reason> {
        self.buffer.consume(std::mem::take(&mut self.given));
        self.buffer.compact();
        let mut parser = ResponseParser::default();
        while !parser.advance(self.buffer.filled(), self.head).map_err(|_| Reason::UpstreamInvalid)? {
            if self.buffer.room() == 0 {
                self.buffer.grow((self.buffer.size() * 2).min(MAX_HEAD));
            }
            match self.fill().await? {
                0 if self.buffer.is_empty() => return Err(Reason::UpstreamClosed),
                0 => return Err(Reason::UpstreamInvalid),
                _ => {}
            }
        }
        self.given = self.head.len;
        Ok(())
    }

    fn received(&self) -> bool {
        self.received
    }

    fn view(&self) -> (&ResponseHead, &[u8]) {
        (self.head, self.buffer.filled())
    }

    fn framing(&mut self, asked_head: bool) -> Result<Framing, Reason> {
        let bytes = self.buffer.filled();
        let framing = framing::response(self.head, bytes, asked_head).ok_or(Reason::UpstreamInvalid)?;
        let view = FieldView { bytes, fields: &self.head.fields };
        let connection = Connection::of(view);
        if connection.excessive {
            return Err(Reason::UpstreamInvalid);
        }
        // A server that answers HEAD, or a status without a body, with a body after all would have its bytes taken for the next
        // client's answer. Where the head speaks of one, the connection is not used again.
        let tells_of_body = view.first(Name::TransferEncoding).is_some()
            || view.first(Name::ContentLength).is_some_and(|length| length != b"0");
        self.clean = connection.persists(self.head.version)
            && framing != Framing::UntilClose
            && !(framing == Framing::None && tells_of_body);
        Ok(framing)
    }

    fn begin(&mut self, framing: Framing) {
        self.buffer.consume(std::mem::take(&mut self.given));
        self.framing = framing;
        self.left = match framing {
            Framing::None => 0,
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilClose => u64::MAX,
        };
    }

    fn has_buffered(&mut self) -> bool {
        if self.framing != Framing::None && self.buffer.len() <= self.given {
            return false;
        }
        self.buffer.consume(std::mem::take(&mut self.given));
        match self.decode() {
            // Framing alone is no part: whoever waits for one would wait for long.
            Ok((0, false)) => {
                self.buffer.consume(std::mem::take(&mut self.given));
                false
            }
            Ok(decoded) => {
                self.decoded = Some(decoded);
                true
            }
            // Reported again when the part is asked for: a broken coding stays broken.
            Err(_) => true,
        }
    }

    async fn part(&mut self) -> Result<Part<'_>, Reason> {
        let decoded = self.decoded.take();
        if decoded.is_none() {
            self.buffer.consume(std::mem::take(&mut self.given));
        }
        let (produced, end) = loop {
            if let Some(decoded) = decoded {
                break decoded;
            }
            // Nothing may be left because the rest has passed.
            if self.framing == Framing::None || self.left == 0 || !self.buffer.is_empty() {
                let (produced, end) = self.decode()?;
                if produced > 0 || end {
                    break (produced, end);
                }
                self.buffer.consume(std::mem::take(&mut self.given));
            }
            self.buffer.compact();
            if self.left > LARGE as u64 / 2 {
                self.buffer.grow(LARGE);
            }
            match self.fill().await? {
                0 if self.framing == Framing::UntilClose => break (0, true),
                0 => return Err(Reason::UpstreamClosed),
                _ => {}
            }
        };
        let data = self.buffer.filled().get(..produced).unwrap_or_default();
        Ok(Part { data, end: end.then(|| self.decoder.trailers()) })
    }

    fn passable(&self) -> u64 {
        let unseen = matches!(self.framing, Framing::Length(_)) && self.decoded.is_none();
        if unseen && self.buffer.len() == self.given && self.transport.passes() { self.left } else { 0 }
    }

    async fn pass(&mut self, pipes: &Pipes) -> Result<Option<Pipe>, Reason> {
        self.buffer.consume(std::mem::take(&mut self.given));
        self.get_ready().await;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let pipe = fill(self.transport, pipes, most, self.deadline).await.map_err(|error| failed(&error))?;
        match pipe.as_ref().map(Pipe::held) {
            Some(0) => Err(Reason::UpstreamClosed),
            held => {
                self.left -= held.unwrap_or_default() as u64;
                Ok(pipe)
            }
        }
    }

    fn is_reusable(&self) -> bool {
        self.clean && self.buffer.len() == self.given
    }

    fn leave_rest(self) {
        self.buffer.consume(self.given);
    }
}

fn failed(error: &io::Error) -> Reason {
    if error.kind() == io::ErrorKind::TimedOut { Reason::UpstreamTimeout } else { Reason::UpstreamClosed }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::UnixStream;

    use super::*;
    use crate::wire::deadline::{Deadlines, TICK};
    use crate::wire::transport::Socket;

    /// The reason why a head that nobody takes is given up, and how often the time was looked at until then, with a deadline of ten ticks.
    async fn stuck(each: Option<Duration>) -> (io::ErrorKind, u32) {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let socket = Socket::Unix(ours);
        let head = vec![b'x'; 4 << 20];
        let origin = Instant::now();
        let deadlines = Deadlines::new(origin);
        let deadline = deadlines.slot();
        deadline.arm(TICK * 10);
        let mut writer = RequestWriter::new(&socket, &deadline, each, &head, Framing::None);
        let mut sending = std::pin::pin!(writer.head());
        let mut ticks = 0;
        let failed = std::future::poll_fn(|cx| {
            ticks += 1;
            deadlines.sweep(origin + TICK * ticks);
            let polled = sending.as_mut().poll(cx);
            if polled.is_pending() {
                cx.waker().wake_by_ref();
            }
            polled
        });
        (failed.await.unwrap_err().error.kind(), ticks)
    }

    #[tokio::test]
    async fn a_head_that_does_not_fit_at_once_does_not_put_the_deadline_of_the_whole_exchange_off() {
        let (kind, ticks) = stuck(None).await;
        assert!(kind == io::ErrorKind::TimedOut && ticks <= 12, "{kind:?} {ticks}");
        let (kind, ticks) = stuck(Some(TICK * 100)).await;
        assert!(kind == io::ErrorKind::TimedOut && ticks >= 100, "{kind:?} {ticks}");
    }
}

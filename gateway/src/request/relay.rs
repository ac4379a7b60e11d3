//! The way of an answer: from the server's bytes to the client's.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use probegate_policies::reason::Reason;

use super::exchange::{Errand, Exchanged};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::h1::chunked::Decoder;
use crate::wire::h1::framing::{self, Connection};
use crate::wire::h1::io::read;
use crate::wire::h1::response::{MAX_HEAD, ResponseParser};
use crate::wire::head::{FieldView, Name, ResponseHead};
use crate::wire::transport::Socket;
use crate::wire::{ClientFraming, Framing, Responder};

/// Interim responses that are passed on before the app is taken for broken.
const MAX_INTERIM: usize = 16;

/// Body parts are read in pieces of this size once a body turns out to be large.
const LARGE: usize = 64 * 1024;

/// How an answer ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// The answer is not whole, or the client did not take it.
    pub failed: Option<Reason>,
    /// The connection stands at the next request.
    pub reusable: bool,
    /// The server switched protocols.
    pub switched: bool,
}

/// Receives one answer.
#[derive(Debug)]
pub struct Relay<'a, 'e> {
    errand: &'a Errand<'e>,
    socket: &'a Socket,
    deadline: &'a Deadline,
    buffer: &'a mut Buffer,
    head: &'a mut ResponseHead,
    done: &'a mut Exchanged,
    /// The server has the whole request.
    sent_whole: &'a Cell<bool>,
}

impl<'a, 'e> Relay<'a, 'e> {
    /// An answer from `socket`.
    pub fn new(
        errand: &'a Errand<'e>,
        socket: &'a Socket,
        deadline: &'a Deadline,
        buffer: &'a mut Buffer,
        head: &'a mut ResponseHead,
        done: &'a mut Exchanged,
        sent_whole: &'a Cell<bool>,
    ) -> Self {
        buffer.clear();
        Self { errand, socket, deadline, buffer, head, done, sent_whole }
    }

    /// Receives the answer and passes it on. An error means that nothing was passed on.
    pub async fn run<R: Responder>(&mut self, reply: &mut R) -> Result<Relayed, Reason> {
        for _ in 0..MAX_INTERIM {
            self.read_head(reply).await?;
            match self.head.status {
                101 => return self.switch(reply).await,
                100 if !self.errand.expects => {}
                100..=199 => {
                    let bytes = self.buffer.filled();
                    if reply.interim(self.head, bytes).await.is_err() {
                        return Err(Reason::ClientClosed);
                    }
                }
                _ => return self.pass(reply).await,
            }
            self.buffer.consume(self.head.len);
            self.buffer.compact();
        }
        Err(Reason::UpstreamInvalid)
    }

    async fn read_head<R: Responder>(&mut self, reply: &mut R) -> Result<(), Reason> {
        let mut parser = ResponseParser::default();
        loop {
            if parser.advance(self.buffer.filled(), self.head).map_err(|_| Reason::UpstreamInvalid)? {
                self.done.answered = Some(Instant::now());
                self.done.status = Some(self.head.status);
                return Ok(());
            }
            if self.buffer.room() == 0 {
                self.buffer.grow((self.buffer.size() * 2).min(MAX_HEAD));
            }
            match self.read(reply).await {
                Ok(0) if self.buffer.is_empty() => return Err(Reason::UpstreamClosed),
                Ok(0) => return Err(Reason::UpstreamInvalid),
                Ok(_) => {}
                Err(reason) => return Err(reason),
            }
        }
    }

    /// Reads from the server, and sees at the same time when the client goes away.
    async fn read<R: Responder>(&mut self, reply: &mut R) -> Result<usize, Reason> {
        if self.errand.total.is_none() {
            self.deadline.arm(self.errand.upstream.response_timeout);
        }
        let mut reading = pin!(read(self.socket, self.buffer, self.deadline));
        poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Ready(Ok(n)) => Poll::Ready(Ok(n)),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                Poll::Ready(Err(Reason::UpstreamTimeout))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Reason::UpstreamClosed)),
            // Whoever still reads the body sees it there, and would not leave this watch more than bytes of the body to find.
            Poll::Pending if !self.sent_whole.get() => Poll::Pending,
            Poll::Pending => reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed)),
        })
        .await
    }

    /// `101 Switching Protocols`, to what the client asked for and to nothing else.
    async fn switch<R: Responder>(&mut self, reply: &mut R) -> Result<Relayed, Reason> {
        let bytes = self.buffer.filled();
        let view = FieldView { bytes, fields: &self.head.fields };
        let agreed = {
            let mut protocols = view.of(Name::Upgrade);
            matches!((self.errand.upgrade, protocols.next(), protocols.next()),
                (Some(asked), Some(given), None) if asked.eq_ignore_ascii_case(given))
        };
        if !agreed {
            return Err(Reason::UpstreamInvalid);
        }
        reply.start(self.head, bytes, ClientFraming::None);
        let failed = reply.write(&[], None).await.err().map(|_| Reason::ClientClosed);
        self.buffer.consume(self.head.len);
        Ok(Relayed { failed, reusable: false, switched: failed.is_none() })
    }

    /// The final answer.
    async fn pass<R: Responder>(&mut self, reply: &mut R) -> Result<Relayed, Reason> {
        let bytes = self.buffer.filled();
        let framing = framing::response(self.head, bytes, self.errand.asks_head).ok_or(Reason::UpstreamInvalid)?;
        if self.errand.refuse_redirects && (300..400).contains(&self.head.status) {
            return Err(Reason::ProbeRedirected);
        }
        let view = FieldView { bytes, fields: &self.head.fields };
        let persists = Connection::of(view).persists(self.head.version);
        let client = match framing {
            _ if self.errand.to_head => ClientFraming::None,
            Framing::None if matches!(self.head.status, 204 | 304) => ClientFraming::None,
            Framing::None => ClientFraming::Length(0),
            Framing::Length(length) => ClientFraming::Length(length),
            Framing::Chunked | Framing::UntilClose => ClientFraming::Streamed,
        };
        if !self.sent_whole.get() {
            // The rest of the request is not waited for, so nobody would find the next one behind it.
            reply.close();
        }
        reply.start(self.head, bytes, client);
        self.buffer.consume(self.head.len);
        let failed = self.body(reply, framing).await;
        if failed.is_some() {
            reply.truncate();
        }
        let clean = self.sent_whole.get() && self.buffer.is_empty();
        let reusable = failed.is_none() && persists && framing != Framing::UntilClose && clean;
        Ok(Relayed { failed, reusable, switched: false })
    }

    /// The body, part by part. `Some`: it is not whole.
    async fn body<R: Responder>(&mut self, reply: &mut R, framing: Framing) -> Option<Reason> {
        let mut decoder = Decoder::default();
        let mut left = match framing {
            Framing::None => 0,
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilClose => u64::MAX,
        };
        loop {
            let (produced, consumed, end) = match framing {
                Framing::None => (0, 0, true),
                Framing::Length(_) => {
                    let part = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    left -= part as u64;
                    (part, part, left == 0)
                }
                Framing::UntilClose => (self.buffer.len(), self.buffer.len(), false),
                Framing::Chunked => match decoder.decode(self.buffer.filled_mut()) {
                    Ok(decoded) => (decoded.produced, decoded.consumed, decoded.done),
                    Err(_) => {
                        // Where not even the head went out yet: it does, so that the client sees that an answer broke off.
                        reply.write(&[], None).await.ok();
                        return Some(Reason::UpstreamInvalid);
                    }
                },
            };
            let data =
                if self.errand.to_head { &[][..] } else { self.buffer.filled().get(..produced).unwrap_or_default() };
            // The head has to go out even where the body keeps the client waiting.
            if !data.is_empty() || end || reply.sent() == 0 {
                let trailers = end.then(|| decoder.trailers());
                if reply.write(data, trailers).await.is_err() {
                    return Some(Reason::ClientClosed);
                }
            }
            self.buffer.consume(consumed);
            if end {
                return None;
            }
            self.buffer.compact();
            if left > LARGE as u64 / 2 {
                self.buffer.grow(LARGE);
            }
            match self.read(reply).await {
                Ok(0) if framing == Framing::UntilClose => {
                    return reply.write(&[], Some(&[])).await.err().map(|_| Reason::ClientClosed);
                }
                Ok(0) => return Some(Reason::UpstreamClosed),
                Ok(_) => {}
                Err(reason) => return Some(reason),
            }
        }
    }
}

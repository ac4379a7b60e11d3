//! A request body as it comes in.

use std::io;

use probegate_policies::reason::Reason;
use tokio::task::coop::consume_budget;

use super::chunked::Decoder;
use super::io::read;
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::pace::{Pace, TooSlow};
use crate::wire::transport::Transport;
use crate::wire::{Framing, RequestBody};

/// A request body.
#[derive(Debug)]
pub struct Body<'a, T> {
    transport: &'a T,
    deadline: &'a Deadline,
    /// How slowly it may come.
    pace: Pace,
    /// What was received behind the head; in the end, what belongs to the next request.
    buffer: &'a mut Buffer,
    framing: Framing,
    decoder: Decoder,
    /// Bytes of the body that are still missing; for chunked ones, whether any are.
    left: u64,
    /// Front of the buffer that the last `read` gave out.
    given: usize,
    received: u64,
    most: u64,
    /// What `has_buffered` found: the length of a part, or why there is none.
    ready: Option<Result<usize, Reason>>,
}

impl<'a, T: Transport> Body<'a, T> {
    /// The body that begins with what `buffer` holds and goes on in `transport`.
    pub fn new(transport: &'a T, deadline: &'a Deadline, pace: Pace, buffer: &'a mut Buffer, framing: Framing) -> Self {
        let left = match framing {
            Framing::None => 0,
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilClose => u64::MAX,
        };
        Self {
            transport,
            deadline,
            pace,
            buffer,
            framing,
            decoder: Decoder::default(),
            left,
            given: 0,
            received: 0,
            most: u64::MAX,
            ready: None,
        }
    }

    /// Ends the body: what is left in its buffer belongs to the next request.
    pub fn leftover(&mut self) -> &mut Buffer {
        self.buffer.consume(std::mem::take(&mut self.given));
        self.buffer
    }

    /// Receives once into the buffer. Over TLS, bytes of a record that is not whole yet are progress as well: a record may be 16 KiB, and slow
    /// clients need a minute for it.
    async fn receive(&mut self) -> Result<(), Reason> {
        let (mut raw, mut counted) = (self.transport.raw_received(), 0);
        loop {
            self.deadline.arm(self.pace.patience());
            let begun = self.deadline.now();
            let came = read(self.transport, self.buffer, self.deadline).await;
            // The client is waited for here and nowhere else: how long the app takes over a part does not count.
            let waited = self.deadline.now().saturating_sub(begun);
            let step = match came {
                Ok(0) => return Err(Reason::ClientClosed),
                Ok(n) => self.pace.step(waited, n.saturating_sub(counted)).map(|()| true),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let before = std::mem::replace(&mut raw, self.transport.raw_received());
                    let news = usize::try_from(raw.saturating_sub(before)).unwrap_or(usize::MAX);
                    counted += news;
                    if news == 0 {
                        let silent = self.pace.is_silence(waited);
                        return Err(if silent { Reason::BodyTimeout } else { Reason::BodyTooSlow });
                    }
                    self.pace.step(waited, news).map(|()| false)
                }
                Err(_) => return Err(Reason::ClientClosed),
            };
            if step.map_err(|TooSlow| Reason::BodyTooSlow)? {
                return Ok(());
            }
        }
    }

    /// The next part that is already in the buffer, as its length. `None`: nothing is there, or the body is complete.
    fn take_buffered(&mut self) -> Result<Option<usize>, Reason> {
        if self.left == 0 {
            // What was given out last stays where it is, for whoever goes back to it.
            return Ok(None);
        }
        self.buffer.consume(std::mem::take(&mut self.given));
        while self.left > 0 && !self.buffer.is_empty() {
            let produced = if self.framing == Framing::Chunked {
                let decoded = self.decoder.decode(self.buffer.filled_mut()).map_err(|_| Reason::BodyInvalid)?;
                self.given = decoded.consumed;
                if decoded.done {
                    self.left = 0;
                }
                decoded.produced
            } else {
                let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.buffer.len());
                self.left -= part as u64;
                self.given = part;
                part
            };
            self.received += produced as u64;
            if self.received > self.most {
                return Err(Reason::BodyTooLarge);
            }
            if produced > 0 {
                return Ok(Some(produced));
            }
            self.buffer.consume(std::mem::take(&mut self.given));
        }
        Ok(None)
    }
}

impl<T: Transport> RequestBody for Body<'_, T> {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn is_complete(&self) -> bool {
        self.left == 0
    }

    fn has_buffered(&mut self) -> bool {
        if self.ready.is_none() {
            self.ready = self.take_buffered().transpose();
        }
        self.ready.is_some() || self.left == 0
    }

    fn received(&self) -> u64 {
        self.received
    }

    async fn read(&mut self) -> Result<Option<&[u8]>, Reason> {
        if let Some(ready) = self.ready.take() {
            let produced = ready?;
            return Ok(self.buffer.filled().get(..produced));
        }
        loop {
            if let Some(produced) = self.take_buffered()? {
                return Ok(self.buffer.filled().get(..produced));
            }
            if self.left == 0 {
                return Ok(None);
            }
            self.buffer.compact();
            consume_budget().await;
            self.receive().await?;
        }
    }

    fn limit(&mut self, most: u64) {
        self.most = most;
    }

    fn discard(&mut self) -> bool {
        self.ready = None;
        loop {
            match self.take_buffered() {
                Ok(Some(_)) => {}
                Ok(None) => return self.is_complete(),
                Err(_) => return false,
            }
        }
    }

    fn trailers(&self) -> &[u8] {
        self.decoder.trailers()
    }

    fn is_repeatable(&self) -> bool {
        self.framing == Framing::None || self.is_at_hand() && self.received == self.given as u64
    }

    fn rewind(&mut self) -> bool {
        let whole = matches!(self.framing, Framing::Length(_)) && self.received == self.given as u64;
        if whole {
            // All that was read lies in front of the buffer.
            self.left += self.received;
            (self.received, self.given, self.ready) = (0, 0, None);
        }
        whole || self.received == 0
    }

    fn is_at_hand(&self) -> bool {
        let there = self.buffer.len().saturating_sub(self.given);
        matches!(self.framing, Framing::Length(_)) && self.left <= there as u64
    }
}

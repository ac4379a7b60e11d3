//! A request body that is complete before the app is asked: a slow client keeps nobody waiting but itself.

use probegate_policies::reason::Reason;

use crate::spool::{Full, Next, Spool};
use crate::wire::{Framing, RequestBody, Responder};

/// A body from its first byte to its last.
#[derive(Debug)]
pub struct Collected {
    spool: Spool,
    /// The part that was given out.
    part: Vec<u8>,
    given: u64,
    trailers: Vec<u8>,
}

/// Takes the whole body. `expects`: the client waits to be told that it is wanted.
///
/// # Errors
/// The reason the request must end: the client's, as [`RequestBody::read`] tells it, or that there is no room for the body.
pub async fn collect<B: RequestBody, R: Responder>(
    mut spool: Spool,
    expects: bool,
    body: &mut B,
    reply: &mut R,
) -> Result<Collected, Reason> {
    if expects {
        reply.go_on().await?;
    }
    while let Some(part) = body.read().await? {
        spool.push(part).map_err(|Full| Reason::BuffersFull)?;
        if let Some(moving) = spool.overflow() {
            let settled = match moving.await {
                Ok(block) => spool.settle(block),
                Err(error) => Err(error),
            };
            settled.map_err(|error| {
                tracing::warn!(%error, "a request body cannot be written to a temporary file");
                Reason::BufferFailed
            })?;
        }
    }
    Ok(Collected { spool, part: Vec::new(), given: 0, trailers: body.trailers().to_vec() })
}

impl RequestBody for Collected {
    fn framing(&self) -> Framing {
        match self.spool.len() {
            // Only the chunked coding has a place for trailers.
            _ if !self.trailers.is_empty() => Framing::Chunked,
            0 => Framing::None,
            length => Framing::Length(length),
        }
    }

    fn is_complete(&self) -> bool {
        self.given == self.spool.len()
    }

    fn has_buffered(&mut self) -> bool {
        true
    }

    fn received(&self) -> u64 {
        self.given
    }

    async fn read(&mut self) -> Result<Option<&[u8]>, Reason> {
        self.part = match self.spool.take() {
            Next::Bytes(bytes) => bytes,
            Next::Reading(reading) => {
                let read = reading.await.and_then(|read| read);
                read.map_err(|error| {
                    tracing::warn!(%error, "a temporary file cannot be read");
                    Reason::BufferFailed
                })?
            }
            Next::Nothing => return Ok(None),
        };
        self.given += self.part.len() as u64;
        Ok(Some(&self.part))
    }

    fn limit(&mut self, _most: u64) {
        // It was kept to while the body came in.
    }

    fn discard(&mut self) -> bool {
        true
    }

    fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    fn is_at_hand(&self) -> bool {
        true
    }

    fn forget(&mut self) {
        self.spool.forget();
        self.part = Vec::new();
    }

    fn is_repeatable(&self) -> bool {
        self.spool.is_kept()
    }

    fn rewind(&mut self) -> bool {
        self.given = 0;
        self.spool.rewind()
    }
}

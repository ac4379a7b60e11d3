//! The request on its way up to the app.

use std::cell::Cell;
use std::io;

use probegate_policies::reason::Reason;

use super::deliver::Progress;
use super::exchange::Errand;
use crate::wire::{RequestBody, RequestSink, WriteFailed};

/// Why a request could not be sent whole.
pub(super) enum Stopped {
    /// The client's part of it failed.
    Client(Reason),
    /// The server does not take it; its answer, or that there is none, tells why.
    Server {
        /// It took nothing for too long.
        timed_out: bool,
        /// It took nothing at all.
        unsent: bool,
    },
}

/// Sends head and body.
pub(super) async fn send<K: RequestSink, B: RequestBody>(
    errand: &Errand<'_>,
    sink: &mut K,
    body: &mut B,
    progress: &Progress,
) -> Result<(), Stopped> {
    let begun = Cell::new(false);
    let refused = |failed: WriteFailed| Stopped::Server {
        timed_out: failed.error.kind() == io::ErrorKind::TimedOut,
        unsent: !begun.get() && failed.written == 0,
    };
    // Head and first part go out together where the part is at hand. A client that waits for `100 Continue` would wait for ever.
    if !body.has_buffered() {
        sink.head().await.map_err(refused)?;
        begun.set(true);
    }
    loop {
        progress.awaits_client.set(true);
        let part = body.read().await.map_err(Stopped::Client)?;
        progress.awaits_client.set(false);
        match part {
            Some(part) => sink.part(part).await.map_err(refused)?,
            None => break,
        }
        begun.set(true);
    }
    sink.finish(&errand.trailers(body.trailers())).await.map_err(refused)
}

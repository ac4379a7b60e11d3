//! The way of an answer: from the app to the client.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use probegate_policies::reason::Reason;

use super::exchange::{Errand, Exchanged, Spools};
use super::release::Rest;
use crate::spool::Spool;
use crate::wire::head::{FieldView, Name, ResponseHead};
use crate::wire::{ClientFraming, Framing, Responder, ResponseSource, Written};

/// Interim responses that are passed on before the app is taken for broken.
const MAX_INTERIM: usize = 16;

/// How an answer ended.
#[derive(Debug, Default)]
pub struct Relayed {
    /// The answer is not whole, or the client did not take it.
    pub failed: Option<Reason>,
    /// The connection stands at the next request.
    pub reusable: bool,
    /// The server switched protocols.
    pub switched: bool,
    /// The server is done, the client is not.
    pub rest: Option<Box<Rest>>,
}

/// Where the request stands, for those who wait for its answer.
#[derive(Debug, Default)]
pub struct Progress {
    /// The app has the whole request.
    pub whole: Cell<bool>,
    /// The next part of the body is waited for: whoever waits sees the client go.
    pub awaits_client: Cell<bool>,
    /// The answer is being passed on.
    pub answering: Cell<bool>,
}

/// Receives one answer and passes it on. An error means that nothing but interim responses was passed on.
pub async fn run<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
    done: &mut Exchanged,
) -> Result<Relayed, Reason> {
    for _ in 0..MAX_INTERIM {
        watched(source.head(), reply, progress).await?;
        let (head, bytes) = source.view();
        done.answered = Some(Instant::now());
        done.status = Some(head.status);
        if (head.status == 101 || head.status >= 200) && !reply.accepts(head, bytes) {
            return Err(Reason::UpstreamInvalid);
        }
        match head.status {
            101 => return switch(errand, source, reply).await,
            100 if !errand.expects => {}
            100..=199 => reply.interim(head, bytes).await.map_err(Reason::from)?,
            _ => return pass(errand, source, reply, progress).await,
        }
    }
    Err(Reason::UpstreamInvalid)
}

/// `101 Switching Protocols`, to what the client asked for and to nothing else.
async fn switch<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
) -> Result<Relayed, Reason> {
    let (head, bytes) = source.view();
    let view = FieldView { bytes, fields: &head.fields };
    let agreed = {
        let mut protocols = view.of(Name::Upgrade);
        matches!((errand.upgrade, protocols.next(), protocols.next()),
            (Some(asked), Some(given), None) if asked.eq_ignore_ascii_case(given))
    };
    if !agreed {
        return Err(Reason::UpstreamInvalid);
    }
    reply.start(head, bytes, ClientFraming::None);
    let failed = reply.write(&[], None).await.err().map(Reason::from);
    Ok(Relayed { failed, switched: failed.is_none(), ..Relayed::default() })
}

/// The final answer.
async fn pass<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Relayed, Reason> {
    let (head, bytes) = source.view();
    let spools = errand.spools.filter(|_| !errand.to_head && may_wait(head, bytes));
    let status = head.status;
    if errand.refuse_redirects && (300..400).contains(&status) {
        return Err(Reason::ProbeRedirected);
    }
    let framing = source.framing(errand.asks_head)?;
    let client = match framing {
        _ if errand.to_head => ClientFraming::None,
        Framing::None if matches!(status, 204 | 304) => ClientFraming::None,
        Framing::None => ClientFraming::Length(0),
        Framing::Length(length) => ClientFraming::Length(length),
        Framing::Chunked | Framing::UntilClose => ClientFraming::Streamed,
    };
    if !progress.whole.get() {
        // The rest of the request is not waited for, so nobody would find the next one behind it.
        reply.close();
    }
    progress.answering.set(true);
    let (head, bytes) = source.view();
    reply.start(head, bytes, client);
    source.begin(framing);
    let ended = match spools {
        Some(spools) => buffered(spools, source, reply, progress).await,
        None => body(errand, source, reply, progress).await.map(|()| None),
    };
    let (failed, rest) = match ended {
        Ok(rest) => (None, rest),
        Err(reason) => (Some(reason), None),
    };
    if let Some(reason) = failed {
        // A body that is broken from its first part on, behind a head that is still here: it was no answer.
        if reason == Reason::UpstreamInvalid && reply.retract() {
            progress.answering.set(false);
            return Err(reason);
        }
        // Where not even the head went out yet: it does, so that the client sees that an answer broke off.
        reply.write(&[], None).await.ok();
        reply.truncate();
    }
    let reusable = failed.is_none() && progress.whole.get() && source.is_reusable();
    Ok(Relayed { failed, reusable, switched: false, rest })
}

/// Whether an answer may wait for its client. What is told as it happens never does, and an app may say that it does not want it (nginx's
/// `X-Accel-Buffering: no`).
fn may_wait(head: &ResponseHead, bytes: &[u8]) -> bool {
    let view = FieldView { bytes, fields: &head.fields };
    let told = |prefix: &[u8]| {
        let is = |kind: &[u8]| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        view.first(Name::ContentType).is_some_and(is)
    };
    !told(b"text/event-stream")
        && !told(b"application/grpc")
        && !view.of(Name::Accel).any(|value| value.eq_ignore_ascii_case(b"no"))
}

/// The body, part by part. What the client has not taken when the app is done is for later.
async fn buffered<S: ResponseSource, R: Responder>(
    spools: Spools<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Option<Box<Rest>>, Reason> {
    let mut rest: Option<Box<Rest>> = None;
    if !source.has_buffered() {
        // The head has to go out even where the body keeps the client waiting.
        reply.write(&[], None).await?;
    }
    loop {
        let part = watched(source.part(), reply, progress).await?;
        let mut written = Written::default();
        let taken = poll_fn(|cx| Poll::Ready(reply.poll_write(cx, part.data, part.end, &mut written))).await;
        if let Poll::Ready(taken) = taken {
            taken?;
            if part.end.is_some() {
                return Ok(None);
            }
            continue;
        }
        // The client keeps the app waiting.
        let behind = rest.get_or_insert_with(|| Box::new(Rest::new(Spool::new(spools.buffers, spools.budget, false))));
        behind.take_over(&part, written);
        // In a box: clients that keep up must not hold the room for it.
        Box::pin(behind.fill(spools.buffers.disk, source, reply)).await?;
        if behind.is_complete() {
            return Ok(rest);
        }
        // The client has caught up.
    }
}

/// The body, part by part. An error: it is not whole.
async fn body<S: ResponseSource, R: Responder>(
    errand: &Errand<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<(), Reason> {
    if !source.has_buffered() {
        // The head has to go out even where the body keeps the client waiting.
        reply.write(&[], None).await.map_err(Reason::from)?;
    }
    loop {
        let part = watched(source.part(), reply, progress).await?;
        let data = if errand.to_head { &[][..] } else { part.data };
        reply.write(data, part.end).await.map_err(Reason::from)?;
        if part.end.is_some() {
            return Ok(());
        }
    }
}

/// Waits for the app, and sees at the same time when the client goes away. While a part of the request's body is waited for, it is
/// seen there; this watch would find nothing but bytes of the body.
async fn watched<T, R: Responder>(
    step: impl Future<Output = Result<T, Reason>>,
    reply: &mut R,
    progress: &Progress,
) -> Result<T, Reason> {
    let mut step = pin!(step);
    poll_fn(|cx| match step.as_mut().poll(cx) {
        Poll::Pending if progress.awaits_client.get() => Poll::Pending,
        Poll::Pending => reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed)),
        ready @ Poll::Ready(_) => ready,
    })
    .await
}

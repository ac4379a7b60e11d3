//! The last step of every answer with a body: from where it comes, the app or a file, to the client.
//!
//! Invariant: nothing here knows where an answer comes from, nor the protocol of the client.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;

use super::encode::{Compressing, Encoded, Encoding};
use super::exchange::Spools;
use super::portion::Portion;
use super::release::{PATIENCE, Rest};
use super::stall::Stall;
use super::throttle::{Throttle, Throttling};
use crate::spool::Spool;
use crate::wire::head::{FieldView, Name, ResponseHead};
use crate::wire::pipe::Pipes;
use crate::wire::turn::turn;
use crate::wire::{ClientFraming, ClientGone, Framing, Responder, ResponseSource, Written};

/// What is left of a body has to be larger than this, in bytes, for a pipe to be worth its while: it takes two calls as a copy does, but these cost more where
/// there is little to copy. For 36 KiB, it saves a tenth of the request.
const LARGE: u64 = 16 * 1024;

/// How an answer is delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery<'a> {
    /// The client expects no body in the answer, or none is wanted.
    pub to_head: bool,
    /// The source was asked with HEAD, so its answer has no body.
    pub asks_head: bool,
    /// Where the answer may wait for a slow client; `None`: its source does.
    pub spools: Option<Spools<'a>>,
    /// Whether the answer may be compressed; `None`: it goes out as it is.
    pub compressing: Option<Compressing<'a>>,
    /// How fast the answer may go; `None`: as fast as it can.
    pub throttling: Option<Throttling<'a>>,
}

/// What the client got.
#[derive(Debug, Default)]
pub struct Delivered {
    /// The answer is not whole, or the client did not take it.
    pub failed: Option<Reason>,
    /// The source is done, the client is not.
    pub rest: Option<Box<Rest>>,
}

/// Where the request stands, for those who wait for its answer.
#[derive(Debug, Default)]
pub struct Progress {
    /// Its body, if it has one, is where it belongs: nothing more is read of it.
    pub whole: Cell<bool>,
    /// The next part of the body is waited for: whoever waits sees the client go.
    pub awaits_client: Cell<bool>,
    /// The answer is being passed on.
    pub answering: Cell<bool>,
    /// It could not be sent, and not a byte of it has left this process.
    pub unsent: Cell<bool>,
    /// How long its source has waited for the client.
    pub stall: Stall,
}

impl Progress {
    /// Nothing of the request is waited for.
    pub fn over() -> Self {
        Self { whole: Cell::new(true), ..Self::default() }
    }
}

/// Delivers the answer behind the head that `source` has found. Its client is watched: when it goes, the source is not asked for more. A body that
/// breaks off ends so that the client sees it.
///
/// # Errors
/// Nothing of it was told to the client: something else may still be answered.
pub async fn deliver<S: ResponseSource, R: Responder>(
    delivery: &Delivery<'_>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Delivered, Reason> {
    let framing = source.framing(delivery.asks_head)?;
    let (head, bytes) = source.view();
    let spools = delivery.spools.filter(|_| !delivery.to_head && may_wait(head, bytes));
    let client = match framing {
        _ if delivery.to_head => ClientFraming::None,
        Framing::None if matches!(head.status, 204 | 304) => ClientFraming::None,
        Framing::None => ClientFraming::Length(0),
        Framing::Length(length) => ClientFraming::Length(length),
        Framing::Chunked | Framing::UntilClose => ClientFraming::Streamed,
    };
    let throttle = delivery.throttling.filter(|_| !delivery.to_head).and_then(|rates| rates.apply(head, bytes));
    if !progress.whole.get() {
        // The rest of the request is not waited for, so nobody would find the next one behind it.
        reply.close();
    }
    progress.answering.set(true);
    let encoding = match delivery.compressing.and_then(|it| it.apply(head, bytes, framing, delivery.to_head)) {
        Some(other) => {
            let client = if other.encoding.is_some() { ClientFraming::Streamed } else { client };
            reply.start(&other.head, &other.bytes, client);
            other.encoding
        }
        None => {
            reply.start(head, bytes, client);
            None
        }
    };
    source.begin(framing);
    match encoding {
        None => carry(delivery, spools, throttle, source, reply, progress).await,
        // In a box: most answers are not compressed, and idle connections must not hold the room for it.
        Some(encoding) => Box::pin(compressed(delivery, spools, throttle, encoding, source, reply, progress)).await,
    }
}

/// [`carry`], through an encoder.
async fn compressed<S: ResponseSource, R: Responder>(
    delivery: &Delivery<'_>,
    spools: Option<Spools<'_>>,
    throttle: Option<Box<Throttle>>,
    encoding: Box<Encoding>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Delivered, Reason> {
    carry(delivery, spools, throttle, &mut Encoded::new(source, encoding), reply, progress).await
}

/// The body, behind a head that is on its way.
async fn carry<S: ResponseSource, R: Responder>(
    delivery: &Delivery<'_>,
    spools: Option<Spools<'_>>,
    throttle: Option<Box<Throttle>>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Delivered, Reason> {
    // What was read is written when others have read theirs.
    turn().await;
    let ended = match spools {
        Some(spools) => buffered(spools, throttle, source, reply, progress).await,
        None => body(delivery, throttle, source, reply, progress).await.map(|()| None),
    };
    let (failed, rest) = match ended {
        Ok(rest) => (None, rest),
        Err(reason) => (Some(reason), None),
    };
    if let Some(reason) = failed {
        // A body that is broken from its first part on, behind a head that is still here: it was no answer.
        if matches!(reason, Reason::UpstreamInvalid | Reason::FileFailed) && reply.retract() {
            progress.answering.set(false);
            return Err(reason);
        }
        // Where not even the head went out yet: it does, so that the client sees that an answer broke off.
        reply.write(&[], None).await.ok();
        reply.truncate();
    }
    Ok(Delivered { failed, rest })
}

/// Whether an answer may wait for its client. What is told as it happens never does, and an app may say that it does not want it (nginx's
/// `X-Accel-Buffering: no`).
fn may_wait(head: &ResponseHead, bytes: &[u8]) -> bool {
    let kind = FieldView { bytes, fields: &head.fields }.first(Name::ContentType).unwrap_or_default();
    let told = |prefix: &[u8]| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    !told(b"text/event-stream")
        && !told(b"application/grpc")
        && !head.fields.of(Name::Accel).any(|field| {
            field.name.of(bytes).eq_ignore_ascii_case(b"x-accel-buffering")
                && field.value.of(bytes).eq_ignore_ascii_case(b"no")
        })
}

/// The body, part by part. What the client has not taken when the source is done is for later.
async fn buffered<S: ResponseSource, R: Responder>(
    spools: Spools<'_>,
    throttle: Option<Box<Throttle>>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Option<Box<Rest>>, Reason> {
    let kept = |throttle| Box::new(Rest::new(Spool::new(spools.buffers, spools.budget, false), throttle));
    // Who is held back is a slow client from the beginning.
    let held_back = throttle.is_some();
    let mut rest: Option<Box<Rest>> = throttle.map(|throttle| kept(Some(throttle)));
    if !source.has_buffered() {
        // The head has to go out even where the body keeps the client waiting.
        reply.write(&[], None).await?;
    }
    let (mut patience, mut portion) = (PATIENCE, Portion::default());
    loop {
        // Whoever has used up the app's patience is a slow client from then on.
        if !held_back && !patience.is_zero() && source.passable() > LARGE && reply.passes() {
            // In a box: small answers must not hold the room for it.
            let left = Box::pin(pass(spools.pipes, &mut patience, &mut portion, source, reply, progress)).await?;
            if !left.is_empty() {
                let behind = rest.get_or_insert_with(|| kept(None));
                behind.keep(left);
                Box::pin(behind.fill(spools.buffers.disk, source, reply, &mut patience, &progress.stall)).await?;
                if behind.is_complete() {
                    return Ok(rest);
                }
                continue;
            }
        }
        let part = watched(source.part(), reply, progress).await?;
        let mut written = Written::default();
        let mut throttle = rest.as_deref_mut().and_then(Rest::throttle);
        let taken =
            poll_fn(|cx| Poll::Ready(put(throttle.as_deref_mut(), cx, reply, part.data, part.end, &mut written))).await;
        if let Poll::Ready(taken) = taken {
            taken?;
            if part.end.is_some() {
                return Ok(None);
            }
            let bytes = part.data.len();
            portion.took(bytes).await;
            continue;
        }
        // The client keeps the app waiting.
        let behind = rest.get_or_insert_with(|| kept(None));
        behind.take_over(&part, written);
        // In a box: clients that keep up must not hold the room for it.
        Box::pin(behind.fill(spools.buffers.disk, source, reply, &mut patience, &progress.stall)).await?;
        if behind.is_complete() {
            return Ok(rest);
        }
        // The client has caught up.
    }
}

/// Lets bytes of the body pass without looking at them, for as long as the client keeps up. What it does not take is returned.
/// `patience`: what is left of the time for which the app waits.
async fn pass<S: ResponseSource, R: Responder>(
    pipes: &Pipes,
    patience: &mut Duration,
    portion: &mut Portion,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<Vec<u8>, Reason> {
    while source.passable() > LARGE {
        let Some(mut pipe) = watched(source.pass(pipes), reply, progress).await? else { break };
        let bytes = pipe.held();
        // Most often, the client takes it at once, and nobody looks at a clock.
        let taken = poll_fn(|cx| Poll::Ready(reply.poll_pass(cx, &mut pipe))).await;
        if let Poll::Ready(taken) = taken {
            taken?;
            portion.took(bytes).await;
            continue;
        }
        let begun = Instant::now();
        match tokio::time::timeout(*patience, poll_fn(|cx| reply.poll_pass(cx, &mut pipe))).await {
            Ok(taken) => taken?,
            Err(_) => *patience = Duration::ZERO,
        }
        *patience = patience.saturating_sub(begun.elapsed());
        if pipe.held() > 0 {
            return pipe.take().map_err(|error| {
                tracing::warn!(%error, "a pipe cannot be read");
                Reason::BufferFailed
            });
        }
    }
    Ok(Vec::new())
}

/// The body, part by part. An error: it is not whole.
async fn body<S: ResponseSource, R: Responder>(
    delivery: &Delivery<'_>,
    mut throttle: Option<Box<Throttle>>,
    source: &mut S,
    reply: &mut R,
    progress: &Progress,
) -> Result<(), Reason> {
    if !source.has_buffered() {
        // The head has to go out even where the body keeps the client waiting.
        reply.write(&[], None).await.map_err(Reason::from)?;
    }
    let mut portion = Portion::default();
    loop {
        if throttle.is_none()
            && reply.passes()
            && let Some(piece) = watched(source.piece(), reply, progress).await?
        {
            let mut written = Written::default();
            let sent = progress.stall.during(poll_fn(|cx| reply.poll_send(cx, &piece, &mut written))).await?;
            source.sent(sent);
            if sent > 0 {
                portion.took(sent).await;
                continue;
            }
            // What can not be sent is read; where the file has become shorter, that shows it.
        }
        let part = watched(source.part(), reply, progress).await?;
        let data = if delivery.to_head { &[][..] } else { part.data };
        match &mut throttle {
            None => progress.stall.during(reply.write(data, part.end)).await?,
            Some(throttle) => {
                progress.stall.during(poll_fn(|cx| throttle.poll_write(cx, reply, data, part.end))).await?;
            }
        }
        if part.end.is_some() {
            return Ok(());
        }
        let bytes = part.data.len();
        portion.took(bytes).await;
    }
}

/// Writes a part, or as much of it as may go and is taken. What is pending has to be gone on with.
pub fn put<R: Responder>(
    throttle: Option<&mut Throttle>,
    cx: &mut Context<'_>,
    reply: &mut R,
    data: &[u8],
    end: Option<&[u8]>,
    written: &mut Written,
) -> Poll<Result<(), ClientGone>> {
    match throttle {
        None => reply.poll_write(cx, data, end, written),
        Some(throttle) => throttle.poll_write(cx, reply, data, end),
    }
}

/// Waits for the source, and sees at the same time when the client goes away. While a part of the request's body is waited for, it is
/// seen there; this watch would find nothing but bytes of the body.
pub async fn watched<T, R: Responder>(
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

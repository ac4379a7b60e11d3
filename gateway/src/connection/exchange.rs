//! One request on a connection of HTTP/1, from its head to the state of the connection after it.
//!
//! Everything that takes no waiting is done in one call ([`open`]): for a request that is refused, or asks a probe that the gateway answers, that is
//! usually all. Whatever else there is to do is a future. Invariant: a panic ends its request and its connection, and nothing else.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use probegate_policies::reason::Reason;

use super::head::Came;
use super::{Facts, Next, Waits, boxed};
use crate::request::finish::finish_unread;
use crate::request::{self, After, Begun, Received};
use crate::state::Active;
use crate::wire::h1::body::Body;
use crate::wire::h1::framing;
use crate::wire::h1::io::write_paced;
use crate::wire::h1::reply::{Client, Reply};
use crate::wire::h1::tunnel::{self, End};
use crate::wire::head::{FieldView, Version};
use crate::wire::pace::Pace;
use crate::wire::transport::Transport;
use crate::wire::{Framing, RequestBody};
use crate::worker::Worker;
use crate::worker::workspace::Workspace;

/// How far a request has come without waiting.
pub(super) enum Step<F> {
    /// It is answered; the answer lies in the workspace, and is to be [`deliver`]ed.
    Answered(Next),
    /// It was lost in a panic.
    Lost,
    /// This is left to do.
    Rest(F),
}

/// A request that was read and judged, and what it is answered with.
#[expect(clippy::redundant_allocation, reason = "as the worker keeps it")]
struct Opened<'a, T> {
    active: Rc<Arc<Active>>,
    received: Received<'a>,
    begun: Begun<'a>,
    body: Body<'a, T>,
    reply: Reply<'a, T>,
    tools: request::Tools<'a>,
}

/// Begins with a request whose head has been read, and does all that takes no waiting. The rest of it ends with what becomes of the connection.
pub(super) fn open<'a, T: Transport>(
    worker: &'a Worker,
    transport: &'a T,
    facts: &'a Facts,
    waits: &'a Waits,
    workspace: &'a mut Workspace,
    came: Came,
) -> Step<Pin<Box<impl Future<Output = Next> + use<'a, T>>>> {
    waits.answered.set(false);
    // What a panic may leave half-changed is memory of this request alone: the workspace is emptied before anyone uses it again, and
    // counters and tables are atomic.
    let begun = catch_unwind(AssertUnwindSafe(move || {
        // Once and for all: what is left to do borrows it.
        let workspace = workspace;
        workspace.part();
        let active = worker.active();
        let (timeouts, bounds) = (&active.plan.timeouts, &active.plan.bounds);
        let Workspace { head, body, request, judge, errand, answer, response, reply, text } = workspace;
        let (head, bytes) = (&*request, head.filled());
        let connection = framing::Connection::of(FieldView { bytes, fields: &head.fields });
        let framed = match framing::request(head, bytes) {
            Ok(_) if connection.excessive => Err(Reason::FieldInvalid),
            framed => framed,
        };
        let client = Client {
            version: head.version,
            to_head: head.method.of(bytes) == b"HEAD",
            persists: framed.is_ok()
                && connection.persists(head.version)
                && !worker.state.is_draining()
                && !waits.last.get(),
        };
        let (framing, broken) = (framed.unwrap_or(Framing::None), framed.err());
        let pace = Pace::new(timeouts.body, bounds.body_rate);
        let mut body = Body::new(transport, &waits.body, pace, body, framing);
        let pace = Pace::new(timeouts.write, bounds.write_rate);
        let mut reply = Reply::new(transport, &waits.client, pace, reply, worker.date.get(), client);
        reply.announce_to(&waits.answered);
        let received = Received {
            head,
            bytes,
            broken,
            asks_upgrade: connection.upgrade,
            demands_upgrade: false,
            started: came.started,
            complete: came.complete,
            at: came.at,
            facts,
            ended: None,
        };
        let mut begun = request::begin(worker, &active, &received, judge);
        if reply.is_usual() && request::prompt(worker, &active, &received, &mut begun, text, &mut body, &mut reply) {
            return Ok(next(transport, broken, &mut body, &reply));
        }
        let tools = request::Tools { errand, answer, response, text, deadline: &waits.server };
        Err(boxed(|| rest(worker, transport, waits, Opened { active, received, begun, body, reply, tools })))
    }));
    match begun {
        Ok(Ok(next)) => Step::Answered(next),
        Ok(Err(rest)) => Step::Rest(rest),
        Err(_) => Step::Lost,
    }
}

/// What becomes of the connection after an answer. `broken`: nobody knows where the request ends.
fn next<T: Transport>(transport: &T, broken: Option<Reason>, body: &mut Body<'_, T>, reply: &Reply<'_, T>) -> Next {
    let whole = body.discard();
    let leftover = body.leftover();
    if reply.persists() && whole {
        Next::Again
    } else if whole && broken.is_none() && leftover.is_empty() && !transport.has_unread() {
        Next::Close
    } else {
        // Closing on bytes that were not read would reset the connection, and the answer with it.
        Next::Linger
    }
}

/// Sends the answer to a request that is over otherwise, as far as that takes no waiting. `false`: [`deliver_late`] sends the rest, or finds out what is wrong.
pub(super) fn deliver<T: Transport>(transport: &T, answer: &mut Vec<u8>) -> bool {
    let sent = transport.try_write(&[IoSlice::new(answer)]).unwrap_or(0);
    answer.drain(..sent);
    answer.is_empty()
}

/// Sends what is left of such an answer, to a client that takes its time.
pub(super) async fn deliver_late<T: Transport>(
    worker: &Worker,
    transport: &T,
    waits: &Waits,
    answer: &mut Vec<u8>,
    next: Next,
) -> Next {
    let active = worker.active();
    let (timeouts, bounds) = (&active.plan.timeouts, &active.plan.bounds);
    let mut pace = Pace::new(timeouts.write, bounds.write_rate);
    // It is not idle any more.
    waits.client.arm(timeouts.write);
    let sent = write_paced(transport, &mut [IoSlice::new(answer)], &waits.client, Some(&mut pace), false).await;
    answer.clear();
    match sent {
        Ok(()) => next,
        Err(failed) => {
            if failed.error.kind() == ErrorKind::TimedOut {
                // The kernel would go on offering what it holds to somebody who does not take it.
                transport.reset_on_close();
            }
            Next::Close
        }
    }
}

/// Serves what could not be answered at once. `None`: it was lost in a panic.
pub(super) async fn contained<F: Future>(mut rest: Pin<Box<F>>) -> Option<F::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| rest.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(next)) => Poll::Ready(Some(next)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// What could not be done at once.
#[expect(clippy::manual_async_fn, reason = "the arguments of an `async fn` lie in its future twice")]
fn rest<'a, T: Transport>(
    worker: &'a Worker,
    transport: &'a T,
    waits: &'a Waits,
    mut opened: Opened<'a, T>,
) -> impl Future<Output = Next> + use<'a, T> {
    async move {
        // It is not idle any more.
        waits.client.arm(opened.active.plan.timeouts.head);
        let after = {
            let Opened { active, received, begun, body, reply, tools } = &mut opened;
            request::serve(worker, active, received, begun, tools, body, reply).await
        };
        match after {
            After::Done => next(transport, opened.received.broken, &mut opened.body, &opened.reply),
            After::Abort => Next::Close,
            After::Switched(socket, _held) => {
                let patience = opened.active.plan.timeouts.tunnel;
                let client = End { transport, buffer: opened.body.leftover(), deadline: &waits.client };
                let server = End { transport: &socket, buffer: opened.tools.answer, deadline: &waits.server };
                let passed = tunnel::run(client, server, patience).await;
                tracing::debug!(up = passed.up, down = passed.down, "tunnel ended");
                Next::Close
            }
        }
    }
}

/// Ends a connection whose request never became one, or was lost. `answered`: an answer had begun, so that nothing can be said any more.
pub(super) async fn last_words<T: Transport>(
    worker: &Worker,
    transport: &T,
    facts: &Facts,
    waits: &Waits,
    workspace: &mut Workspace,
    reason: Reason,
    answered: bool,
) -> Next {
    let active = worker.active();
    let date = worker.date.get();
    let client = Client { version: Version::Http11, to_head: false, persists: false };
    let Workspace { reply, text, head, .. } = workspace;
    let pace = Pace::new(active.plan.timeouts.write, active.plan.bounds.write_rate);
    let mut reply = Reply::new(transport, &waits.client, pace, reply, date, client);
    if answered {
        // What kind of answer it was is lost with the request: the reset shows that it is not whole, whatever it was.
        transport.reset_on_close();
        finish_unread(worker, &active, facts, reason, head.filled(), &worker.request_id(), 0);
        return Next::Close;
    }
    request::refuse_unread(worker, &active, facts, reason, head.filled(), text, &mut reply).await;
    Next::Linger
}

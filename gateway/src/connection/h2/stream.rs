//! One request on an HTTP/2 connection: a task from its head to the end of its stream.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use ::h2::server::SendResponse;
use ::h2::{Reason as Code, RecvStream};
use bytes::Bytes;
use probegate_policies::reason::Reason;

use super::{Shared, Working};
use crate::connection::{Facts, Waits};
use crate::request::finish::finish_unread;
use crate::request::{self, After, Received};
use crate::upstream::Link;
use crate::wire::h1::request::HeadBounds;
use crate::wire::h1::tunnel::{self, End};
use crate::wire::h2::body::Body;
use crate::wire::h2::io::Below;
use crate::wire::h2::reply::{Asked, Reply, Way};
use crate::wire::h2::tunnel::Tunnel;
use crate::wire::h2::{head, websocket};
use crate::wire::pace::Pace;
use crate::wire::{Framing, RequestBody};
use crate::worker::Worker;
use crate::worker::workspace::Workspace;

/// Serves one request to the end of its stream.
pub(super) async fn run(
    worker: Rc<Worker>,
    facts: Rc<Facts>,
    working: Working,
    below: Weak<dyn Below>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let started = Instant::now();
    let at = worker.deadlines.observe(started);
    let waits = Waits::new(&worker);
    let mut workspace = worker.workspaces.take();
    workspace.furnish_answer();
    let (parts, mut receive) = request.into_parts();
    let mut way = Way::Waiting(respond);
    let answered = Cell::new(false);
    let caught = {
        let mut exchange = pin!(exchange(
            &worker,
            &facts,
            &working.0,
            &waits,
            &mut workspace,
            parts,
            &mut receive,
            (&mut way, &below),
            (started, at),
            &answered
        ));
        // As on a connection of HTTP/1: what a panic may leave half-changed is memory of this request alone.
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(switched)) => Poll::Ready(Ok(switched)),
            Err(_) => Poll::Ready(Err(())),
        })
        .await
    };
    match caught {
        Ok(None) => {}
        Ok(Some((socket, _held))) => {
            if let Way::Streaming(send) = way {
                let client = Tunnel::new(receive, send);
                workspace.furnish();
                workspace.body.clear();
                let patience = worker.active().plan.timeouts.tunnel;
                let Workspace { body, answer, .. } = &mut *workspace;
                let client = End { transport: &client, buffer: body, deadline: &waits.client };
                let server = End { transport: &socket, buffer: answer, deadline: &waits.server };
                let passed = tunnel::run(client, server, patience).await;
                tracing::debug!(up = passed.up, down = passed.down, "tunnel ended");
            }
        }
        Err(()) => last_words(&worker, &facts, &waits, &mut workspace, (&mut way, &below), answered.get()).await,
    }
    worker.workspaces.put(workspace);
    drop(working);
}

/// The request itself. `Some`: the app switched protocols.
#[expect(clippy::too_many_arguments, reason = "what a task owns, lent to the part of it that may panic")]
async fn exchange(
    worker: &Worker,
    facts: &Facts,
    shared: &Shared,
    waits: &Waits,
    workspace: &mut Workspace,
    parts: http::request::Parts,
    receive: &mut RecvStream,
    (way, below): (&mut Way, &Weak<dyn Below>),
    (started, at): (Instant, Duration),
    answered: &Cell<bool>,
) -> Option<(Link, request::Held)> {
    let active = worker.active();
    let (timeouts, bounds) = (&active.plan.timeouts, &active.plan.bounds);
    let date = worker.date.get();
    // The head lies where HTTP/1 builds its answers; here, those need no memory.
    let Workspace { request, judge, errand, answer, response, reply: bytes, text, .. } = workspace;
    let head_bounds = HeadBounds { head: bounds.head, fields: bounds.fields, target: bounds.target };
    let written = head::write(&parts, || websocket::key(worker.nonce()), &head_bounds, bytes, request);
    let tunnel = written.ok().flatten();
    let framing = match tunnel {
        Some(_) => Ok(Framing::None),
        None => head::framing(&parts.headers, receive.is_end_stream()),
    };
    drop(parts);
    let asked = Asked {
        to_head: request.method.of(bytes) == b"HEAD",
        accept: tunnel.map(|tunnel| websocket::accept(&tunnel.key)),
    };
    let mut body =
        Body::new(receive, &waits.body, Pace::new(timeouts.body, bounds.body_rate), framing.unwrap_or(Framing::None));
    let mut reply = Reply::new(way, below, &waits.client, Pace::new(timeouts.write, bounds.write_rate), &date, asked);
    reply.announce_to(answered);
    let received = Received {
        head: request,
        bytes,
        broken: written.err().or_else(|| framing.err()),
        asks_upgrade: tunnel.is_some(),
        demands_upgrade: tunnel.is_some(),
        started,
        complete: started,
        at,
        facts,
        ended: Some(&shared.ended),
    };
    let mut begun = request::begin(worker, &active, &received, judge);
    let mut tools = request::Tools { errand, answer, response, text, deadline: &waits.server };
    match request::serve(worker, &active, &received, &mut begun, &mut tools, &mut body, &mut reply).await {
        After::Switched(socket, held) => Some((socket, held)),
        After::Done => {
            // What came of the body meanwhile is not worth a reset, if it is all of it.
            body.discard();
            None
        }
        After::Abort => {
            reply.abandon(Code::CANCEL);
            None
        }
    }
}

/// Ends a stream whose request was lost in a panic.
async fn last_words(
    worker: &Worker,
    facts: &Facts,
    waits: &Waits,
    workspace: &mut Workspace,
    (way, below): (&mut Way, &Weak<dyn Below>),
    answered: bool,
) {
    let active = worker.active();
    let Workspace { reply: bytes, text, .. } = workspace;
    if answered {
        way.reset(Code::INTERNAL_ERROR);
        finish_unread(worker, &active, facts, Reason::Panicked, bytes, &worker.request_id(), 0);
        return;
    }
    let date = worker.date.get();
    let mut reply =
        Reply::new(way, below, &waits.client, Pace::patient(active.plan.timeouts.write), &date, Asked::default());
    request::refuse_unread(worker, &active, facts, Reason::Panicked, bytes, text, &mut reply).await;
}

//! The exchange with the app: the request goes up while the answer comes down, neither faster than the other side takes it.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use probegate_policies::access::Permit;
use probegate_policies::fields::FieldName;
use probegate_policies::proxy;
use probegate_policies::reason::Reason;

use super::again::{Again, Asked, Next};
use super::deliver::{Delivery, Progress};
use super::files::Pointer;
use super::intercept::Taken;
use super::relay::{self, Relayed};
use super::send::{Stopped, send};
use super::shield::Shared;
use crate::plan::{Buffers, Errors, Upstream};
use crate::servers::{Place, Servers};
use crate::slots::Chosen;
use crate::spool::Budget;
use crate::upstream::{Channel, Connection, Link, Pools};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::h1::trailers;
use crate::wire::head::ResponseHead;
use crate::wire::pipe::Pipes;
use crate::wire::{Framing, RequestBody, RequestSink, Responder, ResponseSource, WriteFailed, h1, h2};

/// What is put to the app, and under which conditions.
#[derive(Debug)]
pub struct Errand<'a> {
    /// Where the app is.
    pub upstream: &'a Upstream,
    /// What is known about its servers.
    pub servers: &'a Arc<Servers>,
    /// What keeps the request together with others, where servers are chosen by that.
    pub key: Option<u64>,
    /// The slot it goes to.
    pub chosen: Chosen,
    /// The request head as it is sent.
    pub head: &'a [u8],
    /// How the body behind it ends. [`Framing::None`]: whatever the client sends as a body stays here (probes).
    pub framing: Framing,
    /// Fields with the gateway's own tokens, which do not pass as trailers either.
    pub private: &'a [FieldName],
    /// Fields that the configuration changes: they do not come back as trailers.
    pub edited: &'a [FieldName],
    /// The method is idempotent (RFC 9110 §9.2.2), and may be repeated.
    pub idempotent: bool,
    /// What becomes of the answer.
    pub delivery: Delivery<'a>,
    /// The protocol the app may switch to.
    pub upgrade: Option<&'a [u8]>,
    /// The client waits for `100 Continue`.
    pub expects: bool,
    /// Whose request it is, for apps that are told by the PROXY protocol.
    pub client: proxy::Header,
    /// The body of an answer may be replaced by a page.
    pub errors: Option<&'a Errors>,
    /// Fields of the app's that do not pass.
    pub drops: &'a [FieldName],
    /// An answer may point to a file that is sent in its place.
    pub may_point: bool,
    /// A redirect is a failure (probes, D15).
    pub refuse_redirects: bool,
    /// Time for the whole exchange; without it, the upstream's times for each step.
    pub total: Option<Duration>,
}

impl Errand<'_> {
    /// Those of the request's trailers that go on.
    pub(super) fn trailers<'t>(&self, section: &'t [u8]) -> Cow<'t, [u8]> {
        match trailers::without(section, self.private) {
            Cow::Borrowed(section) => trailers::without(section, self.edited),
            Cow::Owned(section) => Cow::Owned(trailers::without(&section, self.edited).into_owned()),
        }
    }
}

/// Where bodies may wait.
#[derive(Clone, Copy, Debug)]
pub struct Spools<'a> {
    /// How much of each.
    pub buffers: &'a Buffers,
    /// How much of all.
    pub budget: &'a Arc<Budget>,
    /// For bodies that pass as long as the client keeps up.
    pub pipes: &'a Pipes,
}

/// What the worker lends to an exchange.
#[derive(Debug)]
pub struct Tools<'a> {
    /// Connections.
    pub pools: &'a Pools,
    /// For waits on the server.
    pub deadline: &'a Deadline,
    /// Memory for what the server sends.
    pub buffer: &'a mut Buffer,
    /// Memory for the index of its head.
    pub response: &'a mut ResponseHead,
}

/// An exchange that came to an end.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// Index of the server that was asked last.
    pub server: Option<usize>,
    /// Its status, where an answer came.
    pub status: Option<u16>,
    /// When the answer's head was complete.
    pub answered: Option<Instant>,
    /// Why it is not a proper end.
    pub failed: Option<Reason>,
    /// The server switched protocols: the connection, and bytes behind its head are in the buffer. The place is taken as long as it lasts.
    pub switched: Option<(Link, Place<'static>)>,
    /// How often the request was sent.
    pub sent: u32,
    /// The app's answer points to a file, which is to be sent instead.
    pub pointer: Option<Box<Pointer>>,
    /// What stays of the app's answer, whose body is to be replaced by a page.
    pub taken: Option<Box<Taken>>,
    /// A file answered in the place of the server, with this status.
    pub filed: Option<u16>,
    /// A probe was answered from behind its shield.
    pub shared: Option<Shared>,
}

/// Runs the exchange. The permit is the proof that the request was judged; there is no other way to the app.
pub async fn run<B: RequestBody, R: Responder>(
    _permit: Permit,
    errand: &Errand<'_>,
    tools: &mut Tools<'_>,
    body: &mut B,
    reply: &mut R,
) -> Exchanged {
    let mut done = Exchanged::default();
    if let Some(total) = errand.total {
        tools.deadline.arm(total);
    }
    let mut again = Again::new(errand, tools.pools);
    let (mut rest, mut held) = (None, None);
    loop {
        let mut place = match held.take() {
            Some(place) => place,
            None => match again.place(tools.deadline, reply).await {
                Ok(place) => place,
                Err(reason) => {
                    done.failed = Some(reason);
                    break;
                }
            },
        };
        done.server = Some(place.server());
        let each = errand.total.is_none().then_some(errand.upstream.connect_timeout);
        let connect =
            tools.pools.connect(errand.upstream, place.server(), again.reuse(), &errand.client, tools.deadline, each);
        let connection = match connect.await {
            Ok(connection) => connection,
            Err(reason) => {
                if again.unreachable(&place, reason) {
                    continue;
                }
                done.failed = Some(reason);
                break;
            }
        };
        place.sent(tools.pools.worker());
        done.sent += 1;
        // What an attempt before this one was answered is nobody's answer.
        (done.status, done.answered, done.pointer, done.taken) = (None, None, None, None);
        let asked = again.asked(&place, body);
        match attempt(&asked, tools, &connection, body, reply, &mut done).await {
            Ok(relayed) => {
                done.failed = relayed.delivered.failed;
                if let Some(reason) = done.failed.or(relayed.broken) {
                    let reset = matches!(&connection.channel, Channel::Shared(stream) if stream.is_reset());
                    again.broke_off(&place, reason, relayed.unprovoked, reset);
                }
                rest = relayed.delivered.rest;
                match connection.channel {
                    Channel::Own(link) if relayed.switched => done.switched = Some((link, place.keep())),
                    _ if relayed.reusable => tools.pools.put(errand.upstream, connection),
                    _ => {}
                }
                break;
            }
            Err(broken) => match again.broken(&place, &broken, connection.reused, done.status, body) {
                Next::Same => held = Some(place),
                Next::Other => {}
                Next::Stop => {
                    done.failed = Some(broken.reason);
                    break;
                }
            },
        }
    }
    if let Some(rest) = rest {
        body.forget();
        // The app is free already. In a box, as most clients keep up.
        done.failed = Box::pin(rest.finish(reply)).await.err();
    }
    done
}

/// An attempt that brought no answer.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) reason: Reason,
    /// Not a byte of the request left this process.
    pub(super) sent_nothing: bool,
    /// The connection ended without a byte of an answer.
    pub(super) stale: bool,
    /// Something of an answer was received.
    received: bool,
    /// The app gave this one answer up, and nothing else.
    pub(super) reset: bool,
    /// The app has not looked at the request, and said so.
    pub(super) unprocessed: bool,
    /// The app was given no reason to end the connection: it did not wait for the client.
    pub(super) unprovoked: bool,
}

/// The one place that knows which protocols apps are spoken to in.
async fn attempt<B: RequestBody, R: Responder>(
    asked: &Asked<'_>,
    tools: &mut Tools<'_>,
    connection: &Connection,
    body: &mut B,
    reply: &mut R,
    done: &mut Exchanged,
) -> Result<Relayed, Broken> {
    let errand = asked.errand;
    let (deadline, patience) = (tools.deadline, errand.upstream.response_timeout);
    // Where the time is for the whole exchange, no step of it begins a time of its own.
    let each = errand.total.is_none().then_some(patience);
    let (buffer, response) = (&mut *tools.buffer, &mut *tools.response);
    match &connection.channel {
        Channel::Own(link) => {
            let sink = h1::client::RequestWriter::new(link, deadline, each, errand.head, errand.framing);
            let source = h1::client::ResponseReader::new(link, deadline, each, buffer, response);
            converse(asked, deadline, sink, source, body, reply, done).await
        }
        Channel::Shared(stream) => {
            let secured = errand.upstream.tls.is_some();
            let sink = h2::client::RequestWriter::new(stream, deadline, each, errand.head, errand.framing, secured);
            let source = h2::client::ResponseReader::new(stream, deadline, each, buffer, response);
            // In a box: idle connections of clients must not hold the room for it.
            let relayed = Box::pin(converse(asked, deadline, sink, source, body, reply, done)).await;
            let failed = relayed
                .as_ref()
                .map_or_else(|broken| Some(broken.reason), |relayed| relayed.delivered.failed.or(relayed.broken));
            if failed == Some(Reason::UpstreamTimeout) {
                stream.timed_out();
            }
            relayed.map_err(|broken| Broken {
                // Whoever began to answer has looked at it.
                unprocessed: stream.is_unprocessed() && !broken.received,
                reset: stream.is_reset(),
                // A connection that carries others is not stale because the app gave one request up.
                stale: broken.stale && !stream.is_reset(),
                ..broken
            })
        }
    }
}

/// Asks and passes the answer on.
async fn converse<K: RequestSink, S: ResponseSource, B: RequestBody, R: Responder>(
    asked: &Asked<'_>,
    deadline: &Deadline,
    mut sink: K,
    mut source: S,
    body: &mut B,
    reply: &mut R,
    done: &mut Exchanged,
) -> Result<Relayed, Broken> {
    let errand = asked.errand;
    let progress = Progress::default();
    let relayed = if errand.framing == Framing::None {
        // The common case: one write, then the answer.
        sink.head().await.map_err(|failed| broken(&failed))?;
        progress.whole.set(true);
        relay::run(asked, &mut source, reply, &progress, done).await
    } else {
        // In a box: most requests have no body, and idle connections must not hold the room for both directions.
        Box::pin(both(asked, deadline, &mut sink, &mut source, body, reply, &progress, done)).await
    };
    match relayed {
        Ok(relayed) => {
            if relayed.switched {
                source.leave_rest();
            }
            Ok(Relayed { unprovoked: progress.whole.get() && !progress.stall.is_long(), ..relayed })
        }
        Err(reason) => {
            let received = source.received();
            Err(Broken {
                reason,
                sent_nothing: progress.unsent.get(),
                stale: reason == Reason::UpstreamClosed && !received,
                received,
                reset: false,
                unprocessed: false,
                unprovoked: progress.whole.get() || progress.unsent.get(),
            })
        }
    }
}

/// Sends the request while its answer is waited for and passed on.
#[expect(clippy::too_many_arguments, reason = "two directions, and what they share")]
async fn both<K: RequestSink, S: ResponseSource, B: RequestBody, R: Responder>(
    asked: &Asked<'_>,
    deadline: &Deadline,
    sink: &mut K,
    source: &mut S,
    body: &mut B,
    reply: &mut R,
    progress: &Progress,
    done: &mut Exchanged,
) -> Result<Relayed, Reason> {
    let errand = asked.errand;
    let mut send = pin!(send(errand, sink, body, progress));
    let mut receive = pin!(relay::run(asked, source, reply, progress, done));
    let mut sending = true;
    poll_fn(|cx| {
        if sending && let Poll::Ready(sent) = send.as_mut().poll(cx) {
            sending = false;
            progress.awaits_client.set(false);
            progress.whole.set(sent.is_ok());
            if let Err(Stopped::Client(reason)) = sent
                && !progress.answering.get()
            {
                return Poll::Ready(Err(reason));
            }
            match sent {
                // The deadline has passed: whoever waits for the answer sees it.
                Err(Stopped::Server { timed_out: true, .. }) => return receive.as_mut().poll(cx),
                // Nobody answers what was not asked.
                Err(Stopped::Server { unsent: true, .. }) if !progress.answering.get() => {
                    progress.unsent.set(true);
                    return Poll::Ready(Err(Reason::UpstreamClosed));
                }
                _ => {}
            }
            // The app's time to answer begins now. It may also have answered before it read everything (413, 403), or go on with
            // an answer for which it needs nothing more.
            if errand.total.is_none() {
                deadline.arm(errand.upstream.response_timeout);
            }
        }
        if sending && progress.awaits_client.get() && errand.total.is_none() {
            // While the client keeps the app waiting, the client's own deadline runs, and the app's does not.
            deadline.disarm();
        }
        receive.as_mut().poll(cx)
    })
    .await
}

fn broken(failed: &WriteFailed) -> Broken {
    let timed_out = failed.error.kind() == io::ErrorKind::TimedOut;
    Broken {
        reason: if timed_out { Reason::UpstreamTimeout } else { Reason::UpstreamClosed },
        sent_nothing: failed.written == 0,
        stale: !timed_out,
        received: false,
        reset: false,
        unprocessed: false,
        unprovoked: true,
    }
}

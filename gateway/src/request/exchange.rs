//! The exchange with the app: the request goes up while the answer comes down, neither faster than the other side takes it.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use probegate_policies::access::Permit;
use probegate_policies::fields::FieldName;
use probegate_policies::reason::Reason;

use super::relay::{Relay, Relayed};
use crate::plan::Upstream;
use crate::upstream::{Connection, Pools};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::h1::chunked;
use crate::wire::h1::io::{WriteFailed, write_all};
use crate::wire::head::ResponseHead;
use crate::wire::transport::Socket;
use crate::wire::{Framing, RequestBody, Responder};

/// What is put to the app, and under which conditions.
#[derive(Debug)]
pub struct Errand<'a> {
    /// The servers.
    pub upstream: &'a Upstream,
    /// The request head as it is sent.
    pub head: &'a [u8],
    /// How the body behind it ends. [`Framing::None`]: whatever the client sends as a body stays here (probes).
    pub framing: Framing,
    /// Fields with the gateway's own tokens, which do not pass as trailers either.
    pub private: &'a [FieldName],
    /// The method is idempotent (RFC 9110 §9.2.2): it may be repeated where a server closed an unused connection.
    pub idempotent: bool,
    /// The client expects no body in the answer, or none is wanted.
    pub to_head: bool,
    /// The method on the way to the app is HEAD, so its answer has no body.
    pub asks_head: bool,
    /// The protocol the app may switch to.
    pub upgrade: Option<&'a [u8]>,
    /// The client waits for `100 Continue`.
    pub expects: bool,
    /// A redirect is a failure (probes, D15).
    pub refuse_redirects: bool,
    /// Time for the whole exchange; without it, the upstream's times for each step.
    pub total: Option<Duration>,
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
    /// The server switched protocols: the connection, and bytes behind its head are in the buffer.
    pub switched: Option<Socket>,
    /// The request was sent a second time on a new connection.
    pub retried: bool,
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
    let mut reuse = true;
    loop {
        if errand.total.is_none() {
            tools.deadline.arm(errand.upstream.connect_timeout);
        }
        let connection = match tools.pools.connect(errand.upstream, reuse, tools.deadline).await {
            Ok(connection) => connection,
            Err(reason) => {
                done.failed = Some(reason);
                break;
            }
        };
        done.server = Some(connection.server);
        match attempt(errand, tools, &connection, body, reply, &mut done).await {
            Ok(relayed) => {
                done.failed = relayed.failed;
                if relayed.switched {
                    done.switched = Some(connection.socket);
                } else if relayed.reusable {
                    tools.pools.put(errand.upstream, connection, Instant::now());
                }
                break;
            }
            // The server closed the unused connection just when it was taken: nobody has answered, and asking again does no harm
            // where nothing arrived or where twice is the same as once.
            Err(Broken { reason: _, sent_nothing, stale: true })
                if connection.reused && body.received() == 0 && (sent_nothing || errand.idempotent) =>
            {
                done.retried = true;
                reuse = false;
            }
            Err(broken) => {
                done.failed = Some(broken.reason);
                break;
            }
        }
    }
    done
}

/// An attempt that brought no answer.
#[derive(Debug)]
struct Broken {
    reason: Reason,
    /// Not a byte of the request left this process.
    sent_nothing: bool,
    /// The connection ended without a byte of an answer.
    stale: bool,
}

async fn attempt<B: RequestBody, R: Responder>(
    errand: &Errand<'_>,
    tools: &mut Tools<'_>,
    connection: &Connection,
    body: &mut B,
    reply: &mut R,
    done: &mut Exchanged,
) -> Result<Relayed, Broken> {
    let sent_nothing = Cell::new(true);
    let sent_whole = Cell::new(errand.framing == Framing::None);
    let socket = &connection.socket;
    let patience = errand.upstream.response_timeout;
    let mut relay = Relay::new(errand, socket, tools.deadline, tools.buffer, tools.response, done, &sent_whole);
    if sent_whole.get() {
        // The common case: one write, then the answer.
        write_all(socket, &mut [IoSlice::new(errand.head)], tools.deadline, patience)
            .await
            .map_err(|failed| broken(&failed))?;
        let mut receive = pin!(relay.run(reply));
        return poll_fn(|cx| receive.as_mut().poll(cx)).await.map_err(|reason| Broken {
            reason,
            sent_nothing: false,
            stale: reason == Reason::UpstreamClosed,
        });
    }
    let awaits_client = Cell::new(false);
    let mut send = pin!(send(errand, socket, tools.deadline, patience, body, &sent_nothing, &awaits_client));
    let mut receive = pin!(relay.run(reply));
    let mut sending = true;
    poll_fn(|cx| {
        if sending && let Poll::Ready(sent) = send.as_mut().poll(cx) {
            sending = false;
            match sent {
                Ok(()) => sent_whole.set(true),
                // The app may have answered before it read everything (413, 403): its answer still counts.
                Err(Stopped::Server) => {}
                Err(Stopped::Client(reason)) => {
                    return Poll::Ready(Err(Broken { reason, sent_nothing: false, stale: false }));
                }
            }
        }
        if sending && awaits_client.get() {
            // The app's time to answer begins when it has the whole request. Until then the client's own deadline runs.
            tools.deadline.arm(patience);
        }
        receive.as_mut().poll(cx).map_err(|reason| Broken {
            reason,
            sent_nothing: sent_nothing.get(),
            stale: reason == Reason::UpstreamClosed,
        })
    })
    .await
}

/// Why a request could not be sent whole.
enum Stopped {
    /// The client's part of it failed.
    Client(Reason),
    /// The server does not take it; its answer, or that there is none, tells why.
    Server,
}

/// Sends head and body. `awaits_client` is set while it waits for the client.
async fn send<B: RequestBody>(
    errand: &Errand<'_>,
    socket: &Socket,
    deadline: &Deadline,
    patience: Duration,
    body: &mut B,
    sent_nothing: &Cell<bool>,
    awaits_client: &Cell<bool>,
) -> Result<(), Stopped> {
    let chunked = errand.framing == Framing::Chunked;
    // Head and first part go out together where the part is at hand. A client that waits for `100 Continue` would wait for ever.
    let mut head = errand.head;
    if !body.has_buffered() {
        write_all(socket, &mut [IoSlice::new(head)], deadline, patience).await.map_err(|_| Stopped::Server)?;
        sent_nothing.set(false);
        head = &[];
    }
    loop {
        awaits_client.set(true);
        let part = body.read().await.map_err(Stopped::Client)?;
        awaits_client.set(false);
        let Some(part) = part else { break };
        let mut size = [0; 18];
        let (before, after): (&[u8], &[u8]) =
            if chunked { (chunked::header(part.len(), &mut size), b"\r\n") } else { (b"", b"") };
        let mut parts = [head, before, part, after].map(IoSlice::new);
        sent_nothing.set(false);
        write_all(socket, &mut parts, deadline, patience).await.map_err(|_| Stopped::Server)?;
        head = &[];
    }
    if chunked {
        let trailers = public(body.trailers(), errand.private);
        let mut parts = [head, b"0\r\n", &trailers, b"\r\n"].map(IoSlice::new);
        write_all(socket, &mut parts, deadline, patience).await.map_err(|_| Stopped::Server)?;
    }
    Ok(())
}

/// The trailers without those that are named like a private field.
fn public<'t>(trailers: &'t [u8], private: &[FieldName]) -> Cow<'t, [u8]> {
    let is_private = |line: &&[u8]| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        private.iter().any(|private| private.matches(name))
    };
    let lines = || trailers.split_inclusive(|&byte| byte == b'\n');
    if lines().any(|line| is_private(&line)) {
        Cow::Owned(lines().filter(|line| !is_private(line)).flatten().copied().collect())
    } else {
        Cow::Borrowed(trailers)
    }
}

fn broken(failed: &WriteFailed) -> Broken {
    let timed_out = failed.error.kind() == io::ErrorKind::TimedOut;
    Broken {
        reason: if timed_out { Reason::UpstreamTimeout } else { Reason::UpstreamClosed },
        sent_nothing: failed.written == 0,
        stale: !timed_out,
    }
}

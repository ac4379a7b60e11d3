//! The life of a client's HTTP/1 connection: wait for bytes → read a head → serve the request → again, or end.
//!
//! `preface` tells HTTP/2 apart where nothing else does; its life is in `h2`.

mod facts;
mod h2;
mod preface;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;
use tokio::task::coop::consume_budget;

pub use self::facts::{ClientCertificate, Facts, Judged, Secured};
use crate::request::finish::finish_unread;
use crate::request::{self, After, Received};
use crate::wire::deadline::Deadline;
use crate::wire::h1::body::Body;
use crate::wire::h1::framing;
use crate::wire::h1::io::{linger, read};
use crate::wire::h1::reply::{Client, Reply};
use crate::wire::h1::request::{HeadBounds, RequestParser};
use crate::wire::h1::tunnel::{self, End};
use crate::wire::head::{FieldView, Version};
use crate::wire::pace::Pace;
use crate::wire::transport::Transport;
use crate::wire::{Framing, RequestBody};
use crate::worker::workspace::Workspace;
use crate::worker::{NEWCOMER, Worker};

/// The waits of one connection, and how much of its life is left.
#[derive(Debug)]
struct Waits {
    /// For a head, for the next request, and for the client to take an answer.
    client: Deadline,
    /// For a request body, which may come in while an answer goes out.
    body: Deadline,
    /// For the app.
    server: Deadline,
    /// The request at hand is the last one: the connection has served as many as it may, or is as old as it may become.
    last: Cell<bool>,
}

impl Waits {
    fn new(worker: &Worker) -> Self {
        Self {
            client: worker.deadlines.slot(),
            body: worker.deadlines.slot(),
            server: worker.deadlines.slot(),
            last: Cell::new(false),
        }
    }
}

/// What becomes of the connection after a request.
enum Next {
    /// Another request may come.
    Again,
    /// It ends at once.
    Close,
    /// It ends when the client has had time to read the answer.
    Linger,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2, as the TLS handshake agreed.
    Http2,
    /// The first bytes tell.
    Either,
}

/// Serves a connection to its end.
pub async fn begin<T: Transport + 'static>(worker: &Rc<Worker>, transport: T, facts: Facts, protocol: Protocol) {
    match protocol {
        Protocol::Http1 => serve(worker, transport, facts).await,
        // In a box: an idle connection of HTTP/1 must not carry what one of HTTP/2 needs.
        Protocol::Http2 => Box::pin(h2::serve(worker, transport, Vec::new(), facts)).await,
        Protocol::Either => Box::pin(preface::serve(worker, transport, facts)).await,
    }
}

/// Serves a connection of HTTP/1 to its end.
pub async fn serve<T: Transport>(worker: &Worker, transport: T, facts: Facts) {
    http1(worker, transport, facts, Waits::new(worker), None).await;
}

/// Serves an HTTP/1 connection to its end. `carried`: bytes of its first request, which have been read already.
async fn http1<T: Transport>(
    worker: &Worker,
    transport: T,
    facts: Facts,
    waits: Waits,
    carried: Option<Box<Workspace>>,
) {
    let (mut born, mut served) = (None, 0_usize);
    // Bytes of the next request that arrived with the one before.
    let mut carried = carried;
    let mut newcomer = true;
    loop {
        if carried.is_none() && !wait(worker, &transport, &waits.client, newcomer).await {
            return;
        }
        newcomer = false;
        // The time is known since the wait for the first request began.
        let born = *born.get_or_insert_with(|| worker.deadlines.now());
        served = served.saturating_add(1);
        {
            let plan = &worker.active().plan;
            let age = worker.deadlines.now().saturating_sub(born);
            waits.last.set(served >= plan.bounds.requests_per_connection || age >= plan.timeouts.connection);
        }
        // A client that sends requests faster than it waits for answers shares the worker with the others.
        consume_budget().await;
        let mut workspace = carried.take().unwrap_or_else(|| worker.workspaces.take());
        // In a box, although that costs an allocation for each request (some 30 ns): what a request needs is four times as large as what the
        // connection itself does, and ten thousand idle connections would hold it as well.
        let next = boxed(|| one_request(worker, &transport, &facts, &waits, &mut workspace)).await;
        match next {
            Next::Again if !workspace.head.is_empty() => carried = Some(workspace),
            Next::Again => worker.workspaces.put(workspace),
            Next::Close => return worker.workspaces.put(workspace),
            Next::Linger => {
                workspace.furnish();
                linger(&transport, &mut workspace.answer, &waits.client).await;
                return worker.workspaces.put(workspace);
            }
        }
    }
}

/// A future in a box. The memory first: one that is made before it would be copied into it, all of it and not only the few words that are there at first.
/// Not where it is awaited, because whoever awaits would keep room for what was moved away.
fn boxed<F>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}

/// Waits for the first byte of a request, holding no buffer. `false`: none will come.
///
/// When the gateway goes down, a connection that has been served ends here at once. One that is new gets the chance to send the
/// request it was made for.
async fn wait<T: Transport>(worker: &Worker, transport: &T, deadline: &Deadline, newcomer: bool) -> bool {
    // The request before has told the time when it ended.
    let begun = newcomer.then(Instant::now);
    if let Some(begun) = begun {
        worker.deadlines.observe(begun);
    }
    {
        // Who just came is expected to ask for something, as if the first byte were here already.
        let timeouts = &worker.active().plan.timeouts;
        deadline.arm_idle(if newcomer { timeouts.head } else { timeouts.keep_alive });
    }
    let (mut hurried, mut looked) = (false, false);
    poll_fn(|cx| {
        // Tokio takes an accepted socket for readable before it has asked, and one whose last read just filled the buffer as well: the
        // first time, only a look tells whether something has come.
        let ready = if looked { transport.poll_read_ready(cx) } else { transport.poll_peek(cx).map_ok(|_| ()) };
        looked = true;
        if let Poll::Ready(ready) = ready {
            return Poll::Ready(ready.is_ok());
        }
        // The worker wakes all its connections when the gateway begins to go down, and when its listeners are closed.
        if let Some(begun) = begun
            && worker.state.is_closing()
            && !hurried
        {
            hurried = true;
            worker.deadlines.observe(Instant::now());
            deadline.arm(NEWCOMER.saturating_sub(begun.elapsed()));
        }
        let leaves = !newcomer && worker.state.is_draining();
        if leaves || deadline.poll_expired(cx) { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// Reads one request head and serves the request.
async fn one_request<T: Transport>(
    worker: &Worker,
    transport: &T,
    facts: &Facts,
    waits: &Waits,
    workspace: &mut Workspace,
) -> Next {
    match read_head(worker, transport, &waits.client, workspace).await {
        Ok(Some(came)) => {
            workspace.furnish();
            // What came behind the head belongs to the body, or to the next request.
            let behind = workspace.head.filled().get(workspace.request.len..).unwrap_or_default();
            workspace.body.clear();
            workspace.body.grow(behind.len());
            workspace.body.extend(behind);
            workspace.head.truncate(workspace.request.len);
            contained(worker, transport, facts, waits, workspace, came).await
        }
        Ok(None) => Next::Close,
        Err(reason) => last_words(worker, transport, facts, waits, workspace, reason, false).await,
    }
}

/// Ends a connection whose request never became one, or was lost. `answered`: an answer had begun, so that nothing can be said any more.
async fn last_words<T: Transport>(
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
    let mut reply = Reply::new(transport, &waits.client, pace, reply, &date, client);
    if answered {
        // What kind of answer it was is lost with the request: the reset shows that it is not whole, whatever it was.
        transport.reset_on_close();
        finish_unread(worker, &active, facts, reason, head.filled(), &worker.request_id(), 0);
        return Next::Close;
    }
    request::refuse_unread(worker, &active, facts, reason, head.filled(), text, &mut reply).await;
    Next::Linger
}

/// When a request came.
#[derive(Clone, Copy, Debug)]
struct Came {
    /// Its first byte.
    started: Instant,
    /// The last one of its head.
    complete: Instant,
    /// The same, since the worker's origin.
    at: Duration,
}

/// Reads a request head. `None`: the connection ended before one began.
async fn read_head<T: Transport>(
    worker: &Worker,
    transport: &T,
    deadline: &Deadline,
    workspace: &mut Workspace,
) -> Result<Option<Came>, Reason> {
    let active = worker.active();
    let bounds = &active.plan.bounds;
    let bounds = HeadBounds { head: bounds.head, fields: bounds.fields, target: bounds.target };
    let mut parser = RequestParser::default();
    // Bytes that came with the request before are a part that was read, too.
    let mut reads = usize::from(!workspace.head.is_empty());
    let started = Instant::now();
    let at = worker.deadlines.observe(started);
    deadline.arm(active.plan.timeouts.head);
    loop {
        if !workspace.head.is_empty() && parser.advance(workspace.head.filled(), &bounds, &mut workspace.request)? {
            if reads == 1 {
                return Ok(Some(Came { started, complete: started, at }));
            }
            let complete = Instant::now();
            return Ok(Some(Came { started, complete, at: worker.deadlines.observe(complete) }));
        }
        if workspace.head.room() == 0 {
            workspace.head.compact();
            workspace.head.grow((workspace.head.size() * 2).min(bounds.head.max(1)));
        }
        match read(transport, &mut workspace.head, deadline).await {
            Ok(0) if workspace.head.is_empty() => return Ok(None),
            Ok(0) => return Err(Reason::ClientClosed),
            Ok(_) => reads += 1,
            Err(error) if error.kind() == io::ErrorKind::TimedOut && workspace.head.is_empty() => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && worker.state.is_cutting() => {
                return Err(Reason::ShuttingDown);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Reason::HeadTimeout),
            Err(_) if workspace.head.is_empty() => return Ok(None),
            Err(_) => return Err(Reason::ClientClosed),
        }
    }
}

/// Serves one request. A panic ends this request and its connection, and nothing else.
async fn contained<T: Transport>(
    worker: &Worker,
    transport: &T,
    facts: &Facts,
    waits: &Waits,
    workspace: &mut Workspace,
    came: Came,
) -> Next {
    let answered = Cell::new(false);
    let caught = {
        let mut exchange = pin!(exchange(worker, transport, facts, waits, workspace, came, &answered));
        // What a panic may leave half-changed is memory of this request alone: the workspace is emptied before anyone uses it again, and
        // counters and tables are atomic.
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(next)) => Poll::Ready(Some(next)),
            Err(_) => Poll::Ready(None),
        })
        .await
    };
    match caught {
        Some(next) => next,
        None => last_words(worker, transport, facts, waits, workspace, Reason::Panicked, answered.get()).await,
    }
}

/// One request from its head to the state of the connection after it.
async fn exchange<T: Transport>(
    worker: &Worker,
    transport: &T,
    facts: &Facts,
    waits: &Waits,
    workspace: &mut Workspace,
    came: Came,
    answered: &Cell<bool>,
) -> Next {
    let active = worker.active();
    let (timeouts, bounds) = (&active.plan.timeouts, &active.plan.bounds);
    let date = worker.date.get();
    let Workspace { head, body, request, judge, errand, answer, response, reply, text } = workspace;
    let bytes = head.filled();
    let connection = framing::Connection::of(FieldView { bytes, fields: &request.fields });
    let framed = match framing::request(request, bytes) {
        Ok(_) if connection.excessive => Err(Reason::FieldInvalid),
        framed => framed,
    };
    let framed_well = framed.is_ok();
    let client = Client {
        version: request.version,
        to_head: request.method.of(bytes) == b"HEAD",
        persists: framed_well
            && connection.persists(request.version)
            && !worker.state.is_draining()
            && !waits.last.get(),
    };
    let mut body = Body::new(
        transport,
        &waits.body,
        Pace::new(timeouts.body, bounds.body_rate),
        body,
        framed.unwrap_or(Framing::None),
    );
    let mut reply =
        Reply::new(transport, &waits.client, Pace::new(timeouts.write, bounds.write_rate), reply, &date, client);
    reply.announce_to(answered);
    let received = Received {
        head: request,
        bytes,
        broken: framed.err(),
        asks_upgrade: connection.upgrade,
        demands_upgrade: false,
        started: came.started,
        complete: came.complete,
        at: came.at,
        facts,
        ended: None,
    };
    let tools = request::Tools { judge, errand, answer, response, text, deadline: &waits.server };
    let after = request::serve(worker, &active, &received, tools, &mut body, &mut reply).await;
    let whole = body.discard();
    let persists = reply.persists();
    let leftover = body.into_leftover();
    match after {
        After::Done if persists && whole => {
            head.clear();
            head.grow(leftover.len());
            head.extend(leftover.filled());
            Next::Again
        }
        // Closing on bytes that were not read would reset the connection, and the answer with it.
        After::Done if whole && framed_well && leftover.is_empty() && !transport.has_unread() => Next::Close,
        After::Done => Next::Linger,
        After::Abort => Next::Close,
        After::Switched(socket, _held) => {
            let client = End { transport, buffer: leftover, deadline: &waits.client };
            let server = End { transport: &socket, buffer: answer, deadline: &waits.server };
            let passed = tunnel::run(client, server, timeouts.tunnel).await;
            tracing::debug!(up = passed.up, down = passed.down, "tunnel ended");
            Next::Close
        }
    }
}

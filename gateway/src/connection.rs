//! The life of a client's HTTP/1 connection: wait for bytes → read a head → serve the request → again, or end. Between these steps it lets other
//! connections do theirs, see [`crate::wire::turn`].
//!
//! `preface` tells HTTP/2 apart where nothing else does; its life is in `h2`.

mod exchange;
mod facts;
mod h2;
mod head;
mod preface;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use probegate_policies::reason::Reason;
use tokio::task::coop::{consume_budget, has_budget_remaining};

use self::exchange::{Step, contained, deliver_late, last_words};
pub use self::facts::{ClientCertificate, Facts, Judged, Secured};
use crate::wire::deadline::Deadline;
use crate::wire::h1::io::linger;
use crate::wire::transport::Transport;
use crate::wire::turn::turn;
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
    /// An answer to the request at hand has begun: whoever ends it now can not say anything else.
    answered: Cell<bool>,
}

impl Waits {
    fn new(worker: &Worker) -> Self {
        Self {
            client: worker.deadlines.slot(),
            body: worker.deadlines.slot(),
            server: worker.deadlines.slot(),
            last: Cell::new(false),
            answered: Cell::new(false),
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
        // A client that sends requests faster than it waits for answers shares the worker with the others.
        consume_budget().await;
        let mut workspace = carried.take().unwrap_or_else(|| worker.workspaces.take());
        let read = {
            let active = worker.active();
            let age = worker.deadlines.now().saturating_sub(born);
            let (most, longest) = (active.plan.bounds.requests_per_connection, active.plan.timeouts.connection);
            waits.last.set(served >= most || age >= longest);
            head::at_once(worker, &active, &transport, &mut workspace)
        };
        if matches!(read, Some(Ok(Some(_)))) {
            // First all whose requests are here are read, then they are judged.
            turn().await;
        }
        // What waits is in a box, although that costs an allocation (some 30 ns): what a request needs is four times as large as what the connection
        // itself does, and ten thousand idle connections would hold it as well.
        let read = match read {
            Some(read) => read,
            None => boxed(|| head::whole(worker, &transport, &waits.client, &mut workspace)).await,
        };
        let mut is_prepared = false;
        let lost = match read {
            Ok(Some(came)) => {
                let next = match exchange::open(worker, &transport, &facts, &waits, &mut workspace, came) {
                    Step::Answered(next) => {
                        is_prepared = true;
                        Some(next)
                    }
                    Step::Rest(rest) => contained(rest).await,
                    Step::Lost => {
                        // What may have been prepared was not sent.
                        waits.answered.set(false);
                        None
                    }
                };
                next.ok_or_else(|| (Reason::Panicked, waits.answered.get()))
            }
            Ok(None) => Ok(Next::Close),
            Err(reason) => Err((reason, false)),
        };
        let mut next = match lost {
            Ok(next) => next,
            Err((reason, answered)) => {
                boxed(|| last_words(worker, &transport, &facts, &waits, &mut workspace, reason, answered)).await
            }
        };
        if is_prepared {
            turn().await;
            if !exchange::deliver(&transport, &mut workspace.reply) {
                next = boxed(|| deliver_late(worker, &transport, &waits, &mut workspace.reply, next)).await;
            }
            if matches!(next, Next::Close) && transport.has_unread() {
                // It came meanwhile.
                next = Next::Linger;
            }
        }
        match next {
            Next::Again if workspace.carry() => carried = Some(workspace),
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
        // A task that has used up its time is told that nothing has come, whatever there is.
        looked = looked || has_budget_remaining();
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

//! Reading the head of a request on a connection of HTTP/1.

use std::io;
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;

use crate::state::Active;
use crate::wire::deadline::Deadline;
use crate::wire::h1::io::read;
use crate::wire::h1::request::{HeadBounds, RequestParser};
use crate::wire::transport::Transport;
use crate::worker::Worker;
use crate::worker::workspace::Workspace;

/// When a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// Its first byte.
    pub(super) started: Instant,
    /// The last one of its head.
    pub(super) complete: Instant,
    /// The same, since the worker's origin.
    pub(super) at: Duration,
}

/// A head that was read. `None`: the connection ended before one began.
pub(super) type Read = Result<Option<Came>, Reason>;

/// Reads a request head that is there already, as nearly all are when their first byte is. `None`: more has to come. Nothing is lost then.
pub(super) fn at_once<T: Transport>(
    worker: &Worker,
    active: &Active,
    transport: &T,
    workspace: &mut Workspace,
) -> Option<Read> {
    let started = Instant::now();
    let at = worker.deadlines.observe(started);
    if workspace.head.is_empty() {
        match transport.try_read(workspace.head.spare()) {
            Ok(0) => return Some(Ok(None)),
            Ok(n) => workspace.head.fill(n),
            // Whoever waits finds out whether there is more to it than that nothing has come.
            Err(_) => return None,
        }
    }
    let advanced = RequestParser::default().advance(workspace.head.filled(), &bounds(active), &mut workspace.request);
    match advanced {
        Ok(true) => Some(Ok(Some(Came { started, complete: started, at }))),
        Ok(false) => None,
        Err(reason) => Some(Err(reason)),
    }
}

/// Waits for what is missing of a request head.
pub(super) async fn whole<T: Transport>(
    worker: &Worker,
    transport: &T,
    deadline: &Deadline,
    workspace: &mut Workspace,
) -> Read {
    let active = worker.active();
    let bounds = bounds(&active);
    let mut parser = RequestParser::default();
    // Bytes that are there were read before.
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

/// What a head may not exceed.
fn bounds(active: &Active) -> HeadBounds {
    let bounds = &active.plan.bounds;
    HeadBounds { head: bounds.head, fields: bounds.fields, target: bounds.target }
}

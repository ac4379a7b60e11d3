//! Connections to the servers of services: choosing a server, connecting, and keeping the connections of one worker.
//!
//! In HTTP/1 a request has a connection to itself (`link`, kept in `idle` between requests); in HTTP/2 it has a stream on one that
//! others use as well (`shared`). `dial` makes both.

mod dial;
mod idle;
mod link;
mod names;
mod shared;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use probegate_policies::proxy;
use probegate_policies::reason::Reason;

use self::dial::Dialler;
use self::idle::Idle;
pub use self::link::Link;
use self::shared::{Fresh, Shared};
use crate::plan::{Server, Upstream, UpstreamProtocol};
use crate::wire::deadline::{Deadline, Deadlines};
use crate::wire::h2::session::Stream;

/// How long a server that could not be connected to is asked only when no other is left.
const SHUNNED: Duration = Duration::from_secs(3);

/// The connections of one worker, and what it knows about servers.
#[derive(Debug)]
pub struct Pools {
    dialler: Rc<Dialler>,
    idle: Idle,
    shared: Shared,
    /// Servers that could not be connected to, and until when.
    shunned: RefCell<HashMap<u64, Instant, ahash::RandomState>>,
    /// Where the round over the servers of an upstream stands.
    turn: Cell<usize>,
}

/// A way to a server, for one request.
#[derive(Debug)]
pub struct Connection {
    /// What the request goes through.
    pub channel: Channel,
    /// It served another request before, so that the server may close it at any moment.
    pub reused: bool,
    /// Index of the server in its upstream.
    pub server: usize,
}

/// What a request goes through.
#[derive(Debug)]
pub enum Channel {
    /// A connection of its own, in HTTP/1.
    Own(Link),
    /// A place on a connection in HTTP/2.
    Shared(Stream),
}

impl Pools {
    /// None yet; waits are measured by `deadlines`.
    pub fn new(deadlines: Rc<Deadlines>) -> Self {
        let dialler = Rc::new(Dialler::new(deadlines));
        Self {
            idle: Idle::default(),
            shared: Shared::new(Rc::clone(&dialler)),
            dialler,
            shunned: RefCell::default(),
            turn: Cell::default(),
        }
    }

    /// A connection to one of the servers: an unused one where `reuse` allows it and one is at hand, else a new one. A server that
    /// can not be connected to is passed over as long as there is another (nothing was sent yet), and for a while after that.
    ///
    /// `client` is told to servers that want to know whose connection it is. `each` is the time for each server; without it, the caller
    /// has armed `deadline` for the whole.
    pub async fn connect(
        &self,
        upstream: &Upstream,
        reuse: bool,
        client: &proxy::Header,
        deadline: &Deadline,
        each: Option<Duration>,
    ) -> Result<Connection, Reason> {
        let count = upstream.servers.len();
        let first = if count > 1 { self.turn.replace(self.turn.get().wrapping_add(1)) } else { 0 };
        let mut failed = Reason::UpstreamUnreachable;
        let shunned = self.shunned(upstream);
        // Servers that failed a moment ago are asked only when no other is left.
        for last_resort in [false, true] {
            for step in 0..count {
                let index = first.wrapping_add(step) % count;
                let Some(server) = upstream.servers.get(index) else { continue };
                if (shunned >> index.min(63) & 1 == 1) != last_resort {
                    continue;
                }
                match self.channel(upstream, server, reuse, client, deadline, each).await {
                    Ok((channel, reused)) => return Ok(Connection { channel, reused, server: index }),
                    Err(reason) => {
                        tracing::debug!(server = &*server.label, reason = reason.label(), "cannot connect");
                        failed = reason;
                        // What this gateway lacks itself is not the server's fault.
                        if reason != Reason::UpstreamBusy {
                            self.shunned.borrow_mut().insert(server.key, Instant::now() + SHUNNED);
                        }
                    }
                }
            }
        }
        Err(failed)
    }

    /// A way to this server, and whether it was there before.
    async fn channel(
        &self,
        upstream: &Upstream,
        server: &Server,
        reuse: bool,
        client: &proxy::Header,
        deadline: &Deadline,
        each: Option<Duration>,
    ) -> Result<(Channel, bool), Reason> {
        let own = upstream.protocol == UpstreamProtocol::Http1;
        if own
            && reuse
            && let Some(link) = self.idle.take(server.key)
        {
            return Ok((Channel::Own(link), true));
        }
        if let Some(each) = each {
            deadline.arm(each);
        }
        // A connection that names a client serves this client only.
        let preamble = upstream.proxy.then_some(client);
        if own {
            let target = self.dialler.target(upstream, server).ok_or(Reason::UpstreamTlsFailed)?;
            // In a box, as below: every connection of a client holds the room of its longest way, while it is idle as well. This one is rare.
            let link = Box::pin(self.dialler.open(&target, preamble, deadline)).await?;
            return Ok((Channel::Own(link), false));
        }
        let (stream, fresh) = match preamble {
            Some(_) => (Box::pin(self.shared.exclusive(upstream, server, preamble, deadline)).await?, Fresh::Yes),
            None => Box::pin(self.shared.stream(upstream, server, reuse, deadline)).await?,
        };
        Ok((Channel::Shared(stream), fresh == Fresh::No))
    }

    /// Keeps a connection of its own for the next request.
    pub fn put(&self, upstream: &Upstream, connection: Connection, now: Instant) {
        let Some(server) = upstream.servers.get(connection.server) else { return };
        if let Channel::Own(link) = connection.channel
            && !upstream.proxy
        {
            self.idle.put(server.key, link, upstream.max_idle, now + upstream.idle_timeout);
        }
    }

    /// Closes connections that were unused for too long or that their server has closed.
    pub fn sweep(&self, now: Instant) {
        self.idle.sweep(now);
        self.shared.sweep(now);
        self.shunned.borrow_mut().retain(|_, until| now < *until);
    }

    /// Which servers failed a moment ago, as bits by index. The only server of an upstream is always worth a try.
    fn shunned(&self, upstream: &Upstream) -> u64 {
        let shunned = self.shunned.borrow();
        if shunned.is_empty() || upstream.servers.len() < 2 {
            return 0;
        }
        // Beyond 63 servers the rest is never avoided.
        let servers = upstream.servers.iter().enumerate().take(63);
        servers.filter(|(_, server)| shunned.contains_key(&server.key)).fold(0, |bits, (index, _)| bits | 1 << index)
    }
}

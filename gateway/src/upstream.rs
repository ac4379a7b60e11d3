//! Connections to the servers of services: connecting, and keeping the connections of one worker. Which server is asked is chosen before
//! ([`crate::servers`]).
//!
//! In HTTP/1 a request has a connection to itself (`link`, kept in `idle` between requests); in HTTP/2 it has a stream on one that
//! others use as well (`shared`). `dial` makes both.

mod dial;
mod idle;
mod link;
mod names;
mod resolver;
mod shared;
mod tls;

use std::cell::RefCell;
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

/// The connections of one worker.
#[derive(Debug)]
pub struct Pools {
    dialler: Rc<Dialler>,
    idle: Idle,
    shared: Shared,
    worker: usize,
    random: RefCell<fastrand::Rng>,
}

/// A way to a server, for one request.
#[derive(Debug)]
pub struct Connection {
    /// What the request goes through.
    pub channel: Channel,
    /// Which answer of the resolver led to the server, where its address is a name.
    edition: u32,
    /// It served another request before, so that the server may close it at any moment.
    pub reused: bool,
    /// Index of the server in its upstream.
    pub server: usize,
}

/// Whether a connection that was kept may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// A new one is wanted.
    No,
    /// It may.
    Yes,
    /// It may, and the kernel is asked before whether its server has closed it: the request could not be sent again.
    Checked,
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
    /// None yet, of this worker; waits are measured by `deadlines`.
    pub fn new(worker: usize, deadlines: Rc<Deadlines>) -> Self {
        let dialler = Rc::new(Dialler::new(deadlines));
        Self {
            idle: Idle::default(),
            shared: Shared::new(Rc::clone(&dialler)),
            dialler,
            worker,
            random: RefCell::new(fastrand::Rng::new()),
        }
    }

    /// A connection to this server: an unused one where `reuse` lets it and one is at hand, else a new one.
    ///
    /// `client` is told to servers that want to know whose connection it is. `each` is the time to connect; without it, the caller has armed
    /// `deadline` for the whole.
    ///
    /// # Errors
    /// Why it can not be connected to. Nothing was sent.
    pub async fn connect(
        &self,
        upstream: &Upstream,
        server: usize,
        reuse: Reuse,
        client: &proxy::Header,
        deadline: &Deadline,
        each: Option<Duration>,
    ) -> Result<Connection, Reason> {
        let Some(at) = upstream.servers.get(server) else { return Err(Reason::UpstreamUnreachable) };
        match self.channel(upstream, at, reuse, client, deadline, each).await {
            Ok((channel, reused, edition)) => Ok(Connection { channel, edition, reused, server }),
            Err(reason) => {
                tracing::debug!(server = &*at.label, reason = reason.label(), "cannot connect");
                Err(reason)
            }
        }
    }

    /// The number of the worker whose connections these are.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Random bits that nobody has to be unable to guess.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// A way to this server, and whether it was there before.
    async fn channel(
        &self,
        upstream: &Upstream,
        server: &Server,
        reuse: Reuse,
        client: &proxy::Header,
        deadline: &Deadline,
        each: Option<Duration>,
    ) -> Result<(Channel, bool, u32), Reason> {
        let own = upstream.protocol == UpstreamProtocol::Http1;
        if own
            && reuse != Reuse::No
            && let Some((link, edition)) = self.unused(server, reuse)
        {
            return Ok((Channel::Own(link), true, edition));
        }
        if let Some(each) = each {
            deadline.arm(each);
        }
        // A connection that names a client serves this client only.
        let preamble = upstream.proxy.then_some(client);
        if own {
            let target = self.dialler.target(upstream, server).ok_or(Reason::UpstreamTlsFailed)?;
            // In a box, as below: every connection of a client holds the room of its longest way, while it is idle as well. This one is rare.
            let (link, edition) = Box::pin(self.dialler.open(&target, preamble, deadline)).await?;
            return Ok((Channel::Own(link), false, edition));
        }
        // Nor is one kept that was made to see whether it can be.
        let alone = preamble.is_some() || matches!(client, proxy::Header::Own);
        let (stream, fresh) = if alone {
            (Box::pin(self.shared.exclusive(upstream, server, preamble, deadline)).await?, Fresh::Yes)
        } else {
            Box::pin(self.shared.stream(upstream, server, reuse != Reuse::No, deadline)).await?
        };
        Ok((Channel::Shared(stream), fresh == Fresh::No, 0))
    }

    /// An unused connection that leads to the server as its name is understood now.
    fn unused(&self, server: &Server, reuse: Reuse) -> Option<(Link, u32)> {
        loop {
            let (link, edition) = self.idle.take(server.key, reuse)?;
            if self.dialler.is_current(server, edition) {
                return Some((link, edition));
            }
        }
    }

    /// Keeps a connection of its own for the next request.
    pub fn put(&self, upstream: &Upstream, connection: Connection) {
        let Some(server) = upstream.servers.get(connection.server) else { return };
        if let Channel::Own(link) = connection.channel
            && !upstream.proxy
            && self.dialler.is_current(server, connection.edition)
        {
            let until = self.dialler.deadlines.now() + upstream.idle_timeout;
            self.idle.put(server.key, (link, connection.edition), upstream.max_idle, until);
        }
    }

    /// Closes connections that were unused for too long or that their server has closed.
    pub fn sweep(&self, now: Instant) {
        self.idle.sweep(self.dialler.deadlines.now());
        self.shared.sweep(now);
    }
}

//! Connections to the servers of services: choosing a server, connecting, and keeping unused connections of one worker.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;

use crate::plan::{Server, ServerAddress, Upstream};
use crate::wire::deadline::Deadline;
use crate::wire::transport::Socket;

/// How long the addresses of a name are used before it is resolved again.
const NAME_TTL: Duration = Duration::from_secs(5);

/// Unused connections and resolved names of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    idle: RefCell<HashMap<u64, Vec<Idle>, ahash::RandomState>>,
    names: RefCell<HashMap<Box<str>, Resolved>>,
    /// Where the round over the servers of an upstream stands.
    turn: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    until: Instant,
}

#[derive(Debug)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    until: Instant,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: Socket,
    /// It served another request before, so that the server may close it at any moment.
    pub reused: bool,
    /// Index of the server in its upstream.
    pub server: usize,
}

impl Pools {
    /// A connection to one of the servers: an unused one where `reuse` allows it and one is at hand, else a new one. A server that
    /// can not be connected to is passed over as long as there is another; nothing was sent yet.
    ///
    /// The caller has armed `deadline` for all of this.
    pub async fn connect(&self, upstream: &Upstream, reuse: bool, deadline: &Deadline) -> Result<Connection, Reason> {
        let count = upstream.servers.len();
        let first = if count > 1 { self.turn.replace(self.turn.get().wrapping_add(1)) } else { 0 };
        let mut failed = Reason::UpstreamUnreachable;
        for step in 0..count {
            let index = first.wrapping_add(step) % count;
            let Some(server) = upstream.servers.get(index) else {
                continue;
            };
            if reuse && let Some(socket) = self.take(server.key) {
                return Ok(Connection { socket, reused: true, server: index });
            }
            match self.open(server, deadline).await {
                Ok(socket) => {
                    return Ok(Connection { socket, reused: false, server: index });
                }
                Err(reason) => {
                    tracing::debug!(server = &*server.label, reason = reason.label(), "cannot connect");
                    failed = reason;
                }
            }
            if failed == Reason::UpstreamConnectTimeout {
                break;
            }
        }
        Err(failed)
    }

    /// Keeps a connection for the next request.
    pub fn put(&self, upstream: &Upstream, connection: Connection, now: Instant) {
        let Some(server) = upstream.servers.get(connection.server) else {
            return;
        };
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(server.key).or_default();
        if list.len() < upstream.max_idle {
            list.push(Idle { socket: connection.socket, until: now + upstream.idle_timeout });
        }
    }

    /// Closes connections that were unused for too long or that their server has closed.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| now < idle.until && idle.socket.is_quiet());
            !list.is_empty()
        });
    }

    /// How many unused connections there are.
    pub fn idle(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// The connection that was used last is the one whose server has closed it least likely.
    fn take(&self, key: u64) -> Option<Socket> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(&key)?;
        while let Some(found) = list.pop() {
            if found.socket.is_quiet() {
                return Some(found.socket);
            }
        }
        None
    }

    async fn open(&self, server: &Server, deadline: &Deadline) -> Result<Socket, Reason> {
        let opened = match &server.address {
            ServerAddress::Tcp(address) => until(Socket::connect_tcp(*address), deadline).await,
            ServerAddress::Unix(path) => until(Socket::connect_unix(path), deadline).await,
            ServerAddress::Name(name, port) => until(self.open_name(name, *port), deadline).await,
        };
        opened.map_err(|error| reason(&error))
    }

    async fn open_name(&self, name: &str, port: u16) -> io::Result<Socket> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.resolve(name, port).await? {
            match Socket::connect_tcp(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses of a name. When it can not be resolved any more, the last good answer is used on.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let now = Instant::now();
        let known = self.names.borrow().get(name).map(|known| (known.addresses.clone(), known.until));
        if let Some((addresses, until)) = &known
            && now < *until
        {
            return Ok(addresses.clone());
        }
        match (tokio::net::lookup_host((name, port)).await, known) {
            (Ok(found), _) => {
                let addresses: Vec<SocketAddr> = found.collect();
                let resolved = Resolved { addresses: addresses.clone(), until: now + NAME_TTL };
                self.names.borrow_mut().insert(name.into(), resolved);
                Ok(addresses)
            }
            (Err(_), Some((addresses, _))) => Ok(addresses),
            (Err(error), None) => Err(error),
        }
    }
}

/// Waits for `future`, at the longest until the deadline.
async fn until<T>(future: impl Future<Output = io::Result<T>>, deadline: &Deadline) -> io::Result<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Pending if deadline.poll_expired(cx) => {
            std::task::Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        }
        other => other,
    })
    .await
}

/// Whose fault it is that a connection can not be made: out of descriptors, ports, memory or the server's queue is not the same as
/// nobody listening.
fn reason(error: &io::Error) -> Reason {
    const EXHAUSTED: [i32; 6] =
        [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN];
    if error.kind() == io::ErrorKind::TimedOut {
        Reason::UpstreamConnectTimeout
    } else if error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code)) {
        Reason::UpstreamBusy
    } else {
        Reason::UpstreamUnreachable
    }
}

//! Connections to the servers of services: choosing a server, connecting, and keeping unused connections of one worker.

mod names;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;

use self::names::Names;
use crate::plan::{Server, ServerAddress, Upstream};
use crate::wire::deadline::Deadline;
use crate::wire::transport::Socket;

/// How long a server that could not be connected to is asked only when no other is left.
const SHUNNED: Duration = Duration::from_secs(3);

/// Unused connections and resolved names of one worker.
#[derive(Debug, Default)]
pub struct Pools {
    idle: RefCell<HashMap<u64, Vec<Idle>, ahash::RandomState>>,
    names: Names,
    /// Servers that could not be connected to, and until when.
    shunned: RefCell<HashMap<u64, Instant, ahash::RandomState>>,
    /// Where the round over the servers of an upstream stands.
    turn: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
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
    /// can not be connected to is passed over as long as there is another (nothing was sent yet), and for a while after that.
    ///
    /// `each` is the time for each server; without it, the caller has armed `deadline` for the whole.
    pub async fn connect(
        &self,
        upstream: &Upstream,
        reuse: bool,
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
                if reuse && let Some(socket) = self.take(server.key) {
                    return Ok(Connection { socket, reused: true, server: index });
                }
                if let Some(each) = each {
                    deadline.arm(each);
                }
                match self.open(server, deadline).await {
                    Ok(socket) => return Ok(Connection { socket, reused: false, server: index }),
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

    /// Keeps a connection for the next request.
    pub fn put(&self, upstream: &Upstream, connection: Connection, now: Instant) {
        let Some(server) = upstream.servers.get(connection.server) else { return };
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
            ServerAddress::Name(name, port) => until(self.open_name(server.key, name, *port), deadline).await,
        };
        opened.map_err(|error| reason(&error))
    }

    async fn open_name(&self, key: u64, name: &str, port: u16) -> io::Result<Socket> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.names.resolve(key, name, port).await?.iter() {
            match Socket::connect_tcp(*address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        self.names.distrust(key);
        Err(last)
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

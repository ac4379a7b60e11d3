//! Making a connection: name → socket → PROXY protocol header → TLS.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use probegate_policies::proxy;
use probegate_policies::reason::Reason;

use super::Link;
use super::names::Names;
use super::tls::{Secure, Settings};
use crate::plan::{Server, ServerAddress, Upstream};
use crate::wire::deadline::{Deadline, Deadlines};
use crate::wire::transport::{Socket, Transport};

/// Makes the connections of one worker.
#[derive(Debug)]
pub(super) struct Dialler {
    names: Names,
    settings: Settings,
    pub(super) deadlines: Rc<Deadlines>,
}

/// What there is to know about a server in order to connect to it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) key: u64,
    address: ServerAddress,
    pub(super) label: Box<str>,
    /// TLS is spoken, as this says.
    secure: Option<Secure>,
}

impl Dialler {
    pub(super) fn new(deadlines: Rc<Deadlines>) -> Self {
        Self { names: Names::default(), settings: Settings::default(), deadlines }
    }

    /// What there is to know about `server`. `None`: its TLS can not be had, which never happens with a plan that was made.
    pub(super) fn target(&self, upstream: &Upstream, server: &Server) -> Option<Target> {
        let secure = match (&upstream.tls, &server.name) {
            (Some(tls), Some(name)) => Some(self.settings.of(tls, upstream.protocol, name)?),
            (Some(_), None) => return None,
            (None, _) => None,
        };
        Some(Target { key: server.key, address: server.address.clone(), label: server.label.clone(), secure })
    }

    /// Connects, at the longest until the deadline; begins with `preamble`, where there is one.
    pub(super) async fn open(
        &self,
        target: &Target,
        preamble: Option<&proxy::Header>,
        deadline: &Deadline,
    ) -> Result<Link, Reason> {
        let opened = match &target.address {
            ServerAddress::Tcp(address) => until(Socket::connect_tcp(*address), deadline).await,
            ServerAddress::Unix(path) => until(Socket::connect_unix(path), deadline).await,
            ServerAddress::Name(name, port) => until(self.open_name(target.key, name, *port), deadline).await,
        };
        let socket = opened.ok_or(Reason::UpstreamConnectTimeout)?.map_err(|error| reason(&error))?;
        if let Some(header) = preamble {
            let header = proxy::write(header);
            let sent = until(send(&socket, header.as_bytes()), deadline).await;
            sent.ok_or(Reason::UpstreamConnectTimeout)?.map_err(|error| reason(&error))?;
        }
        let Some(secure) = target.secure.clone() else { return Ok(Link::Plain(socket)) };
        match secure.shake(socket, deadline).await {
            Ok(tls) => Ok(Link::Secure(Box::new(tls))),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Reason::UpstreamConnectTimeout),
            Err(error) => {
                tracing::debug!(server = &*target.label, %error, "TLS handshake failed");
                Err(Reason::UpstreamTlsFailed)
            }
        }
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

async fn send(socket: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    std::future::poll_fn(|cx| {
        while !bytes.is_empty() {
            match socket.try_write(&[IoSlice::new(bytes)]) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(socket.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// Waits for `future`, at the longest until the deadline. `None`: the time is over.
pub(super) async fn until<T>(future: impl Future<Output = T>, deadline: &Deadline) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(None),
        other => other.map(Some),
    })
    .await
}

/// Whose fault it is that a connection can not be made: out of descriptors, ports, memory or the server's queue is not the same as
/// nobody listening.
pub(super) fn reason(error: &io::Error) -> Reason {
    const EXHAUSTED: [i32; 6] =
        [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN];
    if error.kind() == io::ErrorKind::TimedOut {
        // The kernel gave up before us.
        Reason::UpstreamConnectTimeout
    } else if error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code)) {
        Reason::UpstreamBusy
    } else {
        Reason::UpstreamUnreachable
    }
}

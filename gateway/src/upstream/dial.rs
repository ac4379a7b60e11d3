//! Making a connection: name → socket → PROXY protocol header → TLS.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use probegate_policies::proxy;
use probegate_policies::reason::Reason;

use super::Link;
use super::names::{Names, Question};
use super::tls::{Secure, Settings};
use crate::plan::{Server, ServerAddress, Upstream};
use crate::wire::deadline::{Deadline, Deadlines};
use crate::wire::transport::{Socket, Transport};

/// How long one address of a name is tried alone.
const MOMENT: Duration = Duration::from_millis(250);

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
    /// Who is asked where the address is a name; `None`: as the system says.
    resolver: Option<Arc<[SocketAddr]>>,
}

impl Dialler {
    pub(super) fn new(deadlines: Rc<Deadlines>) -> Self {
        Self { names: Names::new(), settings: Settings::default(), deadlines }
    }

    /// What there is to know about `server`. `None`: its TLS can not be had, which never happens with a plan that was made.
    pub(super) fn target(&self, upstream: &Upstream, server: &Server) -> Option<Target> {
        let secure = match (&upstream.tls, &server.name) {
            (Some(tls), Some(name)) => Some(self.settings.of(tls, upstream.protocol, name)?),
            (Some(_), None) => return None,
            (None, _) => None,
        };
        let (address, label, resolver) = (server.address.clone(), server.label.clone(), upstream.resolver.clone());
        Some(Target { key: server.key, address, label, secure, resolver })
    }

    /// Whether a connection that was made with this answer of the resolver still leads to the server.
    pub(super) fn is_current(&self, server: &Server, edition: u32) -> bool {
        !matches!(server.address, ServerAddress::Name(..)) || self.is_known(server.key, edition)
    }

    /// The same for the server with this key.
    pub(super) fn is_known(&self, key: u64, edition: u32) -> bool {
        self.names.is_current(key, edition)
    }

    /// Connects, at the longest until the deadline; begins with `preamble`, where there is one. Also says which answer of the resolver led there.
    pub(super) async fn open(
        &self,
        target: &Target,
        preamble: Option<&proxy::Header>,
        deadline: &Deadline,
    ) -> Result<(Link, u32), Reason> {
        let mut edition = 0;
        let opened = match &target.address {
            ServerAddress::Tcp(address) => until(Socket::connect_tcp(*address), deadline).await,
            ServerAddress::Unix(path) => until(Socket::connect_unix(path), deadline).await,
            ServerAddress::Name(name, port) => {
                let (key, resolver) = (target.key, target.resolver.clone());
                let question = Question { key, name: name.clone(), port: *port, resolver };
                let opened = until(self.open_name(question, &mut edition), deadline).await;
                if opened.is_none() {
                    // Addresses that swallow everything may be those of yesterday.
                    self.names.distrust(key);
                }
                opened
            }
        };
        let socket = opened.ok_or(Reason::UpstreamConnectTimeout)?.map_err(|error| reason(&error))?;
        if let Some(header) = preamble {
            let header = proxy::write(header);
            let sent = until(send(&socket, header.as_bytes()), deadline).await;
            sent.ok_or(Reason::UpstreamConnectTimeout)?.map_err(|error| reason(&error))?;
        }
        let Some(secure) = target.secure.clone() else { return Ok((Link::Plain(socket), edition)) };
        match secure.shake(socket, deadline).await {
            Ok(tls) => Ok((Link::Secure(Box::new(tls)), edition)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Reason::UpstreamConnectTimeout),
            Err(error) => {
                tracing::debug!(server = &*target.label, %error, "TLS handshake failed");
                Err(Reason::UpstreamTlsFailed)
            }
        }
    }

    async fn open_name(&self, question: Question, edition: &mut u32) -> io::Result<Socket> {
        let key = question.key;
        let (addresses, which) = self.names.resolve(question).await?;
        *edition = which;
        let opened = race(addresses, |address, worked| self.names.tried(key, address, worked)).await;
        opened.inspect_err(|_| self.names.distrust(key))
    }
}

/// Connects to the first of several addresses that lets us. Each has a moment before the next one is tried beside it, so that one that swallows everything
/// does not use up the time of all (RFC 8305 §5). `tried` is told of those that failed, were overtaken, or worked.
async fn race(addresses: Vec<SocketAddr>, tried: impl Fn(SocketAddr, bool)) -> io::Result<Socket> {
    let mut waiting = addresses.into_iter();
    let mut running = Vec::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            running.push((address, Box::pin(Socket::connect_tcp(address))));
        } else if running.is_empty() {
            return Err(last);
        }
        let more = waiting.len() > 0;
        let mut moment = pin!(tokio::time::sleep(MOMENT));
        let ended = std::future::poll_fn(|cx| {
            for (index, (_, connecting)) in running.iter_mut().enumerate() {
                if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                    return Poll::Ready(Some((index, connected)));
                }
            }
            if more { moment.as_mut().poll(cx).map(|()| None) } else { Poll::Pending }
        });
        let Some((index, connected)) = ended.await else { continue };
        let (address, _) = running.remove(index);
        tried(address, connected.is_ok());
        match connected {
            Ok(socket) => {
                for (slower, _) in running.iter().take(index) {
                    tried(*slower, false);
                }
                return Ok(socket);
            }
            Err(error) => last = error,
        }
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use socket2::{Domain, Protocol, Socket as Raw, Type};

    use super::*;

    /// A listener whose queue is full: connections wait.
    fn full() -> (SocketAddr, Vec<Raw>) {
        let new = || Raw::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let listener = new();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = vec![listener];
        loop {
            let filler = new();
            filler.set_nonblocking(true).unwrap();
            filler.connect(&address).ok();
            let connected = filler.peer_addr();
            std::thread::sleep(Duration::from_millis(5));
            let entered = connected.is_ok() || filler.peer_addr().is_ok();
            held.push(filler);
            if !entered {
                return (address.as_socket().unwrap(), held);
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_does_not_use_up_the_time_of_all() {
        let (swallows, _held) = full();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let works = listener.local_addr().unwrap();
        let tried = RefCell::new(Vec::new());
        let begun = Instant::now();
        race(vec![swallows, works], |address, worked| tried.borrow_mut().push((address, worked))).await.unwrap();
        assert!(begun.elapsed() >= MOMENT, "the first one was not given its time");
        assert_eq!(*tried.borrow(), [(works, true), (swallows, false)]);
    }

    #[tokio::test]
    async fn addresses_that_refuse_are_passed_over_at_once_and_the_last_error_is_told() {
        let refuses = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.local_addr().unwrap()
        };
        let failed = race(vec![refuses(), refuses()], |_, worked| assert!(!worked)).await.err().unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(vec![], |_, _| {}).await.err().unwrap().kind(), io::ErrorKind::AddrNotAvailable);
    }
}

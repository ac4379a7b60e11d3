//! Listening sockets: bound before anything else happens, so that a taken address ends the program at once and a reload that can not
//! bind changes nothing.
//!
//! Each worker has a socket of its own for every address (`SO_REUSEPORT`): the kernel spreads new connections, and no two workers
//! wake up for the same one.

mod activation;
mod inherit;

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, IntoRawFd};

use pingora::server::ListenFds;
use socket2::{Domain, Protocol, Socket, Type};

pub use self::activation::{Activated, ActivationFailed};

/// Pingora hands over at most this many sockets to a new process.
pub const MOST_SOCKETS: usize = 32;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8192;

/// An address and its sockets, one for each worker or fewer where the limit of a hand-over demands it.
#[derive(Debug)]
pub struct Listening {
    /// As configured: the identity of the listener over reloads and hand-overs.
    pub configured: SocketAddr,
    /// As bound: differs from `configured` where that says port 0.
    pub bound: SocketAddr,
    /// The sockets.
    pub sockets: Vec<TcpListener>,
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(*.address, .error))]
pub struct BindFailed {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub error: io::Error,
}

/// What to do about it, where that is known.
fn hint(address: SocketAddr, error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied && (1..1024).contains(&address.port()) {
        ". Ports below 1024 are for root, for programs with a capability (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; elsewhere: setcap \
         cap_net_bind_service=+ep on the program), and for sockets that systemd opens (a .socket unit)"
    } else {
        ""
    }
}

/// The user whose rights this process has.
pub fn user() -> u32 {
    inherit::user()
}

/// Bytes that were written to this socket and that the other side has not acknowledged.
///
/// # Errors
/// The system does not say.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    inherit::unacknowledged(socket)
}

/// Binds `address` with a socket for each of `workers` workers, of a program with `listeners` addresses that has no sockets yet.
pub fn bind(address: SocketAddr, workers: usize, listeners: usize) -> Result<Listening, BindFailed> {
    bind_within(address, workers, MOST_SOCKETS / listeners.max(1))
}

/// Binds `address` with a socket for each of `workers` workers, and `most` at the most; one in any case.
pub fn bind_within(address: SocketAddr, workers: usize, most: usize) -> Result<Listening, BindFailed> {
    let count = workers.min(most).max(1);
    let all = || {
        // Without SO_REUSEPORT first: with it, a second program of the same user would share the port without either noticing. Nobody is heard
        // there, because whoever was would be cut off when it closes.
        let bound = if address.port() == 0 { address } else { local(&hold(address, false)?)? };
        let first = open(bound)?;
        let bound = local(&first)?;
        let mut sockets: Vec<TcpListener> = vec![first.into()];
        while sockets.len() < count {
            sockets.push(open(bound)?.into());
        }
        Ok((bound, sockets))
    };
    let (bound, sockets) = all().map_err(|error| BindFailed { address, error })?;
    Ok(Listening { configured: address, bound, sockets })
}

/// Binds `address` beside an old process that still listens there and is about to end.
pub fn join(address: SocketAddr) -> Result<Listening, BindFailed> {
    let joined = open(address).and_then(|socket| Ok((local(&socket)?, vec![socket.into()])));
    let (bound, sockets) = joined.map_err(|error| BindFailed { address, error })?;
    Ok(Listening { configured: address, bound, sockets })
}

/// The sockets of `address` that an old process has handed over, if it has.
pub fn inherit(address: SocketAddr, fds: &ListenFds) -> Option<Listening> {
    let fds = fds.lock();
    let raw: Vec<_> = (0..MOST_SOCKETS).map_while(|index| fds.get(&key(address, index)).copied()).collect();
    let sockets: Vec<TcpListener> = raw.into_iter().map(inherit::adopt).collect::<io::Result<_>>().ok()?;
    let bound = sockets.first()?.local_addr().ok()?;
    Some(Listening { configured: address, bound, sockets })
}

/// Registers the sockets for a later hand-over. The table has descriptors of its own, which live as long as their entries; those of
/// inherited sockets are in it already.
///
/// # Errors
/// The system has no descriptors left.
pub fn register(listening: &Listening, fds: &ListenFds) -> io::Result<()> {
    let mut fds = fds.lock();
    for (index, socket) in listening.sockets.iter().enumerate() {
        let key = key(listening.configured, index);
        if fds.get(&key).is_none() {
            fds.add(key, socket.try_clone()?.into_raw_fd());
        }
    }
    Ok(())
}

/// Takes everything but the sockets of `keep` out of the table and closes it: a socket that stays open without anybody who accepts
/// swallows connections.
pub fn unregister_others(keep: &[SocketAddr], fds: &ListenFds) {
    let keys: HashSet<String> = keep.iter().copied().flat_map(keys).collect();
    fds.lock().close_unclaimed(&keys);
}

/// How the sockets of a listener may be called in a hand-over. There may be more of them than this process has workers.
pub fn keys(address: SocketAddr) -> impl Iterator<Item = String> {
    (0..MOST_SOCKETS).map(move |index| key(address, index))
}

fn key(address: SocketAddr, index: usize) -> String {
    format!("{address}#{index}")
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// A socket on which connections arrive.
fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = hold(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// A socket that has the address, and hears nobody.
fn hold(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        // `[::]` accepts IPv4 as well; such peers are made canonical (D3).
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it: without it, small answers would wait for the acknowledgement of the ones before.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_an_error_although_ports_are_shared_between_workers() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 3, 1).unwrap();
        assert_eq!(first.sockets.len(), 3);
        let taken = bind(first.bound, 3, 1).unwrap_err();
        assert!(taken.to_string().contains(&first.bound.to_string()), "{taken}");
    }

    #[test]
    fn who_comes_while_it_is_found_out_whether_an_address_is_taken_is_refused_and_not_cut_off() {
        let address = local(&hold("127.0.0.1:0".parse().unwrap(), false).unwrap()).unwrap();
        let held = hold(address, false).unwrap();
        let came = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(came.kind(), io::ErrorKind::ConnectionRefused);
        drop(held);
        let listening = bind(address, 2, 1).unwrap();
        assert_eq!(listening.bound, address);
        std::net::TcpStream::connect(address).unwrap();
    }
}

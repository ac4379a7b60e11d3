//! Sockets that a supervisor has opened for this process: systemd's socket activation (`sd_listen_fds(3)`).
//!
//! They are matched to listeners by address. One that belongs to none is an error: clients that the supervisor lets in would never be answered.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Socket, Type};

use super::{Listening, inherit, local};

/// The sockets that no listener has claimed yet.
#[derive(Debug, Default)]
pub struct Activated {
    sockets: Vec<(String, SocketAddr, Socket)>,
}

/// A socket of the supervisor's that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationFailed {
    /// The environment contradicts itself.
    #[error("socket activation: {0}")]
    Environment(#[from] io::Error),
    /// It is something else.
    #[error("socket activation: `{0}` is not a listening TCP socket")]
    NoListener(String),
    /// No listener has its address.
    #[error("socket activation: no listener is configured for `{name}`, which listens on {address}")]
    Unclaimed {
        /// What the supervisor calls it.
        name: String,
        /// Where it listens.
        address: SocketAddr,
    },
}

impl Activated {
    /// Takes what the supervisor has opened. Must be called while the process has one thread.
    ///
    /// # Errors
    /// The environment contradicts itself, or names something that is not a listening TCP socket.
    pub fn take() -> Result<Self, ActivationFailed> {
        let found = inherit::activated()?;
        let sockets = found.into_iter().map(|(name, fd)| socket(name, fd)).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// The socket for the listener configured as `address`. Two addresses that stand for every interface are alike: systemd opens `[::]:80`
    /// where the file says `ListenStream=80`.
    pub fn claim(&mut self, address: SocketAddr) -> Option<Listening> {
        let every = |bound: SocketAddr| {
            bound.port() == address.port() && bound.ip().is_unspecified() && address.ip().is_unspecified()
        };
        let at = |is_it: &dyn Fn(SocketAddr) -> bool| self.sockets.iter().position(|(_, bound, _)| is_it(*bound));
        let index = at(&|bound| bound == address).or_else(|| at(&every))?;
        let (_, bound, socket) = self.sockets.swap_remove(index);
        Some(Listening { configured: address, bound, sockets: vec![socket.into()] })
    }

    /// All listeners have claimed theirs.
    ///
    /// # Errors
    /// One is left.
    pub fn finish(self) -> Result<(), ActivationFailed> {
        match self.sockets.into_iter().next() {
            Some((name, address, _)) => Err(ActivationFailed::Unclaimed { name, address }),
            None => Ok(()),
        }
    }
}

fn socket(name: String, fd: OwnedFd) -> Result<(String, SocketAddr, Socket), ActivationFailed> {
    let socket = Socket::from(fd);
    let listens = || -> io::Result<SocketAddr> {
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let address = local(&socket)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        Ok(address)
    };
    match listens() {
        Ok(address) => Ok((name, address, socket)),
        Err(_) => Err(ActivationFailed::NoListener(name)),
    }
}

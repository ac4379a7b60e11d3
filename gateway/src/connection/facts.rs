//! What is known about a connection before its first request.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use probegate_policies::forwarded::Scheme;
use probegate_policies::proxy::Header;

use crate::request::judge::Handshake;

/// What is known about a connection from the start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The other side's address, canonical.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// The address it connected to, canonical.
    pub local: IpAddr,
    /// The port it connected to.
    pub local_port: u16,
    /// How it is protected.
    pub scheme: Scheme,
    /// What the handshake told, on a TLS connection.
    pub secured: Option<Rc<Secured>>,
    /// Requests are redirected to HTTPS on this port.
    pub redirect_https: Option<u16>,
}

/// What a TLS handshake told about a connection.
#[derive(Clone, Debug)]
pub struct Secured {
    /// The name the client asked for, lower-case.
    pub server_name: Option<Box<str>>,
    /// The version of TLS, as it is logged.
    pub version: &'static str,
    /// The cipher suite, as it is logged.
    pub cipher: &'static str,
    /// The client's certificate, verified.
    pub certificate: Option<ClientCertificate>,
}

/// A client's certificate, after it was verified.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The sets it belongs to, a bit for each of [`crate::plan::Plan::client_certificates`].
    pub sets: u64,
    /// Whom it names, as it is logged.
    pub subject: Box<str>,
}

impl Facts {
    /// What the judgement has to know of the handshake.
    pub fn handshake(&self) -> Option<Handshake<'_>> {
        let secured = self.secured.as_ref()?;
        let certificate = secured.certificate.as_ref().map(|certificate| certificate.sets);
        Some(Handshake { server_name: secured.server_name.as_deref(), certificate })
    }

    /// The facts of a plain TCP connection.
    pub fn plain(peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            peer: probegate_policies::ip::canonical(peer.ip()),
            peer_port: peer.port(),
            local: probegate_policies::ip::canonical(local.ip()),
            local_port: local.port(),
            scheme: Scheme::Http,
            secured: None,
            redirect_https: None,
        }
    }

    /// A PROXY protocol header speaks for the connection: from here on, the client it names is the peer.
    pub fn relayed(&mut self, header: &Header) {
        if let Header::Relayed { source, destination } = header {
            self.peer = source.ip();
            self.peer_port = source.port();
            self.local = probegate_policies::ip::canonical(destination.ip());
            self.local_port = destination.port();
        }
    }
}

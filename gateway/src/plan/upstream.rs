//! Where apps are found, and how they are spoken to.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{Balancing, HealthCheck, Slots};

/// The servers of a service and how they are spoken to.
#[derive(Debug)]
pub struct Upstream {
    /// At least one, and [`Upstream::MOST`] at the most; none where there is no app ([`Upstream::nobody`]).
    pub servers: Vec<Server>,
    /// Groups of them, of which one gets the requests; `None`: all do.
    pub slots: Option<Box<Slots>>,
    /// Who of them gets a request, and what is done when one fails.
    pub balancing: Balancing,
    /// How servers are checked; `None`: they are not.
    pub health: Option<HealthCheck>,
    /// To establish a connection, name resolution included.
    pub connect_timeout: Duration,
    /// From the complete request to the first byte of the answer, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long an unused connection is kept. Must stay below the app's own keep-alive time (gunicorn: 2 s).
    pub idle_timeout: Duration,
    /// Unused connections kept for each server and worker that nobody needed for a tick; 0: none at all.
    pub max_idle: usize,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// The servers of DNS that are asked for the names of [`Upstream::servers`]; `None`: as the system says.
    pub resolver: Option<Arc<[SocketAddr]>>,
    /// It is spoken over TLS.
    pub tls: Option<UpstreamTls>,
    /// Every connection begins with a PROXY protocol header (version 2) that names the client, and serves this client's requests only.
    pub proxy: bool,
}

impl Upstream {
    /// Where a service has no app, and nothing is ever put to one.
    pub fn nobody() -> Self {
        Self {
            servers: Vec::new(),
            slots: None,
            balancing: Balancing::default(),
            health: None,
            connect_timeout: Duration::ZERO,
            response_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            max_idle: 0,
            protocol: UpstreamProtocol::Http1,
            resolver: None,
            tls: None,
            proxy: false,
        }
    }
}

/// The protocol an app speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN where there is TLS, with prior knowledge where there is none.
    Http2,
}

/// TLS towards an app.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Authorities to believe; none where nothing is verified.
    pub authorities: Arc<[CertificateDer<'static>]>,
    /// The gateway's own certificate and key, for apps that ask for one.
    pub certificate: Option<Arc<OwnCertificate>>,
    /// The app's certificate is verified. Only `verify: false` in the configuration makes it otherwise.
    pub verify: bool,
    /// Stands for all of the above: for what is in the files, not for their names.
    pub fingerprint: u64,
}

/// A certificate that the gateway shows to apps.
#[derive(Debug)]
pub struct OwnCertificate {
    /// The certificate, and those that lead to its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Upstream {
    /// How many servers there may be.
    pub const MOST: usize = 128;

    /// It is not simply spoken to in HTTP/1.1.
    pub fn is_special(&self) -> bool {
        self.protocol != UpstreamProtocol::Http1 || self.tls.is_some() || self.proxy
    }
}

/// What is spoken, for people.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.protocol {
            UpstreamProtocol::Http1 => "HTTP/1.1",
            UpstreamProtocol::Http2 => "HTTP/2",
        })?;
        match &self.tls {
            Some(tls) if tls.verify => f.write_str(" over TLS")?,
            Some(_) => f.write_str(" over TLS without verification")?,
            None => {}
        }
        if self.proxy { f.write_str(" behind a PROXY protocol header") } else { Ok(()) }
    }
}

/// One server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: ServerAddress,
    /// As written in the configuration; a log field.
    pub label: Box<str>,
    /// The name that its certificate must carry, where TLS is spoken.
    pub name: Option<ServerName<'static>>,
    /// Its share of the requests, relative to the others'. At least 1.
    pub weight: u32,
    /// It is asked only when no other may be.
    pub backup: bool,
    /// How many requests it gets at a time, from all workers together.
    pub max_in_flight: Option<u32>,
    /// Identifies everything that connections to it share: equal keys may share a connection, across reloads too.
    pub key: u64,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// An address known when the configuration was read.
    Tcp(SocketAddr),
    /// A name and a port. All of its addresses are one server, and used in turn.
    Name(Box<str>, u16),
    /// A Unix socket, such as gunicorn's `--bind unix:/run/app.sock`.
    Unix(PathBuf),
}

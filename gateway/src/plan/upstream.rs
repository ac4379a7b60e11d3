//! Where apps are found, and how they are spoken to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The servers of a service and how they are spoken to.
#[derive(Debug)]
pub struct Upstream {
    /// At least one.
    pub servers: Vec<Server>,
    /// To establish a connection, name resolution included.
    pub connect_timeout: Duration,
    /// From the complete request to the first byte of the answer, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long an unused connection is kept. Must stay below the app's own keep-alive time (gunicorn: 2 s).
    pub idle_timeout: Duration,
    /// Unused connections kept for each server and worker.
    pub max_idle: usize,
    /// What is spoken.
    pub protocol: UpstreamProtocol,
    /// It is spoken over TLS.
    pub tls: Option<UpstreamTls>,
    /// Every connection begins with a PROXY protocol header (version 2) that names the client, and serves this client's requests only.
    pub proxy: bool,
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Authorities to believe, a PEM file; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate and key, for apps that ask for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The name the app's certificate must carry; `None`: the host of the server.
    pub server_name: Option<Box<str>>,
    /// The certificate is verified. Only `verify: false` in the configuration makes it otherwise.
    pub verify: bool,
}

/// One server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: ServerAddress,
    /// As written in the configuration; a log field.
    pub label: Box<str>,
    /// Identifies everything that connections to it share: equal keys may share a connection, across reloads too.
    pub key: u64,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// An address known when the configuration was read.
    Tcp(SocketAddr),
    /// A name and a port, resolved when a connection is made (the answer is kept for a few seconds).
    Name(Box<str>, u16),
    /// A Unix socket, such as gunicorn's `--bind unix:/run/app.sock`.
    Unix(PathBuf),
}

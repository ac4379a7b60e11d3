//! Where clients are accepted, and with which certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use probegate_policies::client::Missing;
use probegate_policies::ip::IpSet;

/// One listening address.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address to bind. Port 0 lets the kernel choose; the choice is logged.
    pub address: SocketAddr,
    /// It speaks TLS.
    pub tls: Option<ListenerTls>,
    /// Requests are redirected to HTTPS on this port, all but those for probes and ACME challenges.
    pub redirect_https: Option<u16>,
    /// Nothing is served but the probes of all services, for every host.
    pub probes_only: bool,
    /// Who the client is when a trusted proxy sent no address; `None`: as everywhere.
    pub missing: Option<Missing>,
    /// Every connection begins with a PROXY protocol header.
    pub proxy: Option<ProxyHeader>,
    /// HTTP/2 is spoken: by ALPN where there is TLS, with prior knowledge where there is none (RFC 9113 §3.3).
    pub http2: bool,
}

impl Listener {
    /// Plain HTTP/1 on `address`.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, redirect_https: None, probes_only: false, missing: None, proxy: None, http2: false }
    }
}

/// The PROXY protocol on a listener.
#[derive(Clone, Debug)]
pub struct ProxyHeader {
    /// Who may send it; connections from elsewhere are refused.
    pub from: IpSet,
    /// For the whole header.
    pub timeout: Duration,
}

/// TLS on a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// What clients are shown, by the server name they ask for.
    pub certificates: Vec<Certificate>,
    /// The name whose certificate those see who ask for none of the names, or for no name; `None`: they are refused.
    pub default: Option<Box<str>>,
    /// Clients are asked for a certificate.
    pub clients: Option<ClientCertificates>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Files in PEM, watched for changes. Paths are absolute or relative to the working directory.
    Files {
        /// The chain, the server's own certificate first.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Ordered from an authority.
    Acme(Acme),
}

/// A certificate that is ordered by ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The names in it, lower-case.
    pub domains: Vec<Box<str>>,
    /// Whom the authority writes to.
    pub email: Option<Box<str>>,
    /// URL of the authority's directory.
    pub directory: Box<str>,
    /// The authority's own root, where the system does not know it.
    pub ca: Option<PathBuf>,
    /// How control over the names is shown, in the order in which they are tried.
    pub challenges: Vec<Challenge>,
}

/// How control over a name is shown to an ACME authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By a text on port 80 (RFC 8555 §8.3).
    Http01,
    /// By a certificate on port 443 (RFC 8737).
    TlsAlpn01,
}

/// Which client certificates are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Indices into [`super::Plan::client_certificates`].
    pub accept: Vec<usize>,
    /// Who shows none is refused.
    pub required: bool,
}

/// A set of client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSet {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// The authorities that sign them: a PEM file.
    pub ca: PathBuf,
    /// Names of which a certificate must carry one, as DNS name, e-mail address or URI in its subjectAltName, or as common name where it has
    /// none of them; empty: every certificate of the authorities is in the set.
    pub names: Vec<Box<str>>,
}

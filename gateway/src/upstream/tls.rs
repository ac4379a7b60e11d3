//! TLS towards apps.
//!
//! A worker keeps what it shakes hands with for as long as it is used, across reloads too: sessions are resumed. Whatever belongs to it,
//! the contents of files included, is in its key; a change of any of it begins anew.
//!
//! Invariant: a certificate goes unverified only where the plan says so in so many words.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::plan::{UpstreamProtocol, UpstreamTls};
use crate::wire::deadline::Deadline;
use crate::wire::tls::Tls;
use crate::wire::transport::Socket;

/// How long settings are kept that nobody uses any more.
const KEPT: Duration = Duration::from_secs(3600);

/// What the worker shakes hands with, by fingerprint.
#[derive(Debug, Default)]
pub(super) struct Settings {
    known: RefCell<HashMap<(u64, UpstreamProtocol), Known>>,
}

#[derive(Debug)]
struct Known {
    config: Arc<ClientConfig>,
    used: Instant,
}

/// What a handshake needs.
#[derive(Clone, Debug)]
pub(super) struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// Nothing else may be spoken.
    http2: bool,
}

impl Settings {
    /// For handshakes with the server that proves to be `name`. `None`: the plan's certificates can not be used, which was found out
    /// when it was made.
    pub(super) fn of(
        &self,
        tls: &UpstreamTls,
        protocol: UpstreamProtocol,
        name: &ServerName<'static>,
    ) -> Option<Secure> {
        let now = Instant::now();
        let mut known = self.known.borrow_mut();
        let key = (tls.fingerprint, protocol);
        let config = match known.get_mut(&key) {
            Some(found) => {
                found.used = now;
                Arc::clone(&found.config)
            }
            None => {
                known.retain(|_, known| now < known.used + KEPT);
                let config = Arc::new(config(tls, protocol)?);
                known.insert(key, Known { config: Arc::clone(&config), used: now });
                config
            }
        };
        Some(Secure { config, name: name.clone(), http2: protocol == UpstreamProtocol::Http2 })
    }
}

impl Secure {
    /// Shakes hands over `socket`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] at the deadline; anything else means that the server can not be trusted, or does not want to speak
    /// with us.
    pub(super) async fn shake(self, socket: Socket, deadline: &Deadline) -> io::Result<Tls<Socket>> {
        let session = ClientConnection::new(self.config, self.name).map_err(io::Error::other)?;
        let tls = Tls::new(socket, session);
        tls.handshake(deadline).await?;
        if self.http2 && tls.with_session(|session| session.alpn_protocol() != Some(b"h2")) {
            return Err(io::Error::other("it does not speak HTTP/2"));
        }
        Ok(tls)
    }
}

fn config(tls: &UpstreamTls, protocol: UpstreamProtocol) -> Option<ClientConfig> {
    let provider = crate::tls::provider();
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().ok()?;
    let builder = if tls.verify {
        let mut roots = RootCertStore::empty();
        // A system's store may hold what nobody can read; such an authority is not believed.
        roots.add_parsable_certificates(tls.authorities.iter().cloned());
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    };
    let mut config = match &tls.certificate {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).ok()?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![match protocol {
        UpstreamProtocol::Http1 => b"http/1.1".to_vec(),
        UpstreamProtocol::Http2 => b"h2".to_vec(),
    }];
    Some(config)
}

/// Takes any certificate, for `verify: false`. Whoever shows it must have its key, which says nothing about who that is.
struct Anybody(Arc<CryptoProvider>);

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

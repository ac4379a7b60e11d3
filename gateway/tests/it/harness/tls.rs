//! What TLS tests need: authorities that sign certificates, and the settings of clients that believe them.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A TLS connection that blocks.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// An authority of a test's own.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) cert: String,
    /// Its key.
    pub(crate) key: String,
}

/// How a certificate is made.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    params: CertificateParams,
    rsa: bool,
}

impl Wish {
    /// For these hosts.
    pub(crate) fn hosts(names: &[&str]) -> Self {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name = DistinguishedName::new();
        Self { params, rsa: false }
    }

    /// For a client with this common name and no other name.
    pub(crate) fn client(common_name: &str) -> Self {
        let mut wish = Self::hosts(&[]);
        wish.params.distinguished_name.push(DnType::CommonName, common_name);
        wish.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        wish
    }

    /// With another name in subjectAltName: an e-mail address, or a URI.
    pub(crate) fn also(mut self, name: &str) -> Self {
        let text = name.try_into().unwrap();
        self.params.subject_alt_names.push(if name.contains("://") {
            SanType::URI(text)
        } else if name.contains('@') {
            SanType::Rfc822Name(text)
        } else {
            SanType::DnsName(text)
        });
        self
    }

    /// With an RSA key instead of an ECDSA one.
    pub(crate) fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Valid from `from` to `to`, in days from now.
    pub(crate) fn days(mut self, from: i64, to: i64) -> Self {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let at = |days: i64| {
            let unix = u64::try_from(now + days * 24 * 3600).unwrap();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix)
        };
        (self.params.not_before, self.params.not_after) = (at(from), at(to));
        self
    }
}

impl Authority {
    /// One with this name.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Signs a certificate.
    pub(crate) fn sign(&self, wish: &Wish) -> Issued {
        let algorithm = if wish.rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(algorithm).unwrap();
        let cert = wish.params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }

    /// Signs a certificate for these hosts.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.sign(&Wish::hosts(names))
    }

    /// The settings of a client that believes this authority, and shows `certificate` where it is asked for one.
    pub(crate) fn client(&self, certificate: Option<&Issued>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        match certificate {
            None => builder.with_no_client_auth(),
            Some(Issued { cert, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        }
    }
}

/// Shakes hands over a connection, as far as the client's part goes.
pub(crate) fn shake(stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

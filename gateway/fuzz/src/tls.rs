//! Of TLS, what the files that a configuration names are checked with. The target finds none of them.

pub mod pem;

pub mod clients {
    //! Authorities of clients.
    use rustls::RootCertStore;
    use rustls::pki_types::CertificateDer;

    /// Whether clients can be checked against these authorities.
    pub fn check(authorities: &[CertificateDer<'static>]) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        authorities.iter().try_for_each(|authority| roots.add(authority.clone()).map_err(|error| error.to_string()))
    }
}

/// As the gateway's.
pub fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

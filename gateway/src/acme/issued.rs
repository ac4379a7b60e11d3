//! A certificate with its key, as it is stored: the chain and the key in one PEM text.

use std::sync::Arc;

use instant_acme::CertificateIdentifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use super::schedule::Life;

/// One that can be shown: the key is the certificate's.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    /// As TLS shows it.
    pub(super) certified: Arc<CertifiedKey>,
    /// The names in it, lower-case.
    pub(super) names: Vec<Box<str>>,
    /// When it is valid.
    pub(super) life: Life,
    /// A number that is the certificate's own, for choosing a moment by chance and yet the same one after a restart.
    pub(super) chance: u32,
}

impl Issued {
    /// Reads what is stored, or what an authority has sent with our key behind it.
    ///
    /// # Errors
    /// It is no certificate, or the key belongs to another one.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("the certificate can not be read: {error}"))?;
        let leaf = chain.first().ok_or("there is no certificate in it")?.clone();
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("the key can not be read: {error}"))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| format!("certificate and key can not be used together: {error}"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf)
            .map_err(|error| format!("the certificate can not be read: {error}"))?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let validity = parsed.validity();
        let life = Life { not_before: seconds(validity.not_before), not_after: seconds(validity.not_after) };
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        });
        let names = names.collect();
        let chance =
            leaf.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Ok(Self { certified: Arc::new(certified), names, life, chance })
    }

    /// How many of `domains` it carries.
    pub(super) fn carries(&self, domains: &[Box<str>]) -> usize {
        domains.iter().filter(|&domain| self.names.contains(domain)).count()
    }

    /// Whether it is for these names, and still valid.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn suits(&self, domains: &[Box<str>], now: u64) -> Result<(), String> {
        if let Some(missing) = domains.iter().find(|&domain| !self.names.contains(domain)) {
            return Err(format!("the certificate does not carry {missing}"));
        }
        if now > self.life.not_after { Err("the certificate has expired".to_owned()) } else { Ok(()) }
    }

    /// How an authority calls it where renewal is concerned (RFC 9773 §4.1); `None` where it has not what that takes.
    pub(super) fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        CertificateIdentifier::try_from(self.certified.end_entity_cert().ok()?)
            .ok()
            .map(CertificateIdentifier::into_owned)
    }

    /// Whether both are the same certificate.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

//! A certificate with its key, as it is stored: the chain and the key in one PEM text.

use instant_acme::CertificateIdentifier;

use super::schedule::Life;
use crate::tls::pem::{self, Certified};

/// One that can be shown: the key is the certificate's.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    /// As TLS shows it.
    pub(super) certified: Certified,
    /// A number that is the certificate's own, for choosing a moment by chance and yet the same one after a restart.
    pub(super) chance: u32,
}

impl Issued {
    /// Reads what is stored, or what an authority has sent with our key behind it.
    ///
    /// # Errors
    /// It is no certificate, or the key belongs to another one.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let certified = pem::certified(pem, pem).map_err(|error| error.to_string())?;
        let own = certified.key.cert.first().map(AsRef::as_ref).unwrap_or_default();
        let chance = own.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Ok(Self { certified, chance })
    }

    /// When it is valid.
    pub(super) fn life(&self) -> Life {
        Life { not_before: self.certified.not_before, not_after: self.certified.not_after }
    }

    /// How many of `domains` it carries.
    pub(super) fn carries(&self, domains: &[Box<str>]) -> usize {
        domains.iter().filter(|domain| self.certified.covers(domain)).count()
    }

    /// Whether it is for these names, and has not expired.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn suits(&self, domains: &[Box<str>], now: u64) -> Result<(), String> {
        if let Some(missing) = domains.iter().find(|domain| !self.certified.covers(domain)) {
            return Err(format!("the certificate does not carry {missing}"));
        }
        if now > self.certified.not_after { Err("the certificate has expired".to_owned()) } else { Ok(()) }
    }

    /// How an authority calls it where renewal is concerned (RFC 9773 §4.1); `None` where it has not what that takes.
    pub(super) fn identifier(&self) -> Option<CertificateIdentifier<'static>> {
        let own = self.certified.key.end_entity_cert().ok()?;
        CertificateIdentifier::try_from(own).ok().map(CertificateIdentifier::into_owned)
    }

    /// Whether both are the same certificate.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.certified.key.cert == other.certified.key.cert
    }
}

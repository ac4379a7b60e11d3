//! Client certificates: which are let through a handshake, and which sets of the configuration they belong to.
//!
//! In the handshake, one verifier knows the authorities of all accepted sets. Afterwards (resumed sessions included: the certificate
//! in a ticket was verified when the ticket was given, not now) each set is asked on its own, by its authorities and its names.
//! Invariant: a bit is set only for a certificate that its set has verified in this very connection.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::connection::ClientCertificate;

/// The longest subject that is logged, in characters.
const LONGEST_SUBJECT: usize = 256;

/// One set of client certificates, ready to verify.
#[derive(Debug)]
pub struct Set {
    /// Its index in [`crate::plan::Plan::client_certificates`].
    pub index: usize,
    /// Its authorities, as read from its file.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Names of which a certificate must carry one; empty: any.
    pub names: Vec<Box<str>>,
}

/// Verifies the certificates of clients.
#[derive(Debug)]
pub struct Clients {
    sets: Vec<Member>,
    union: Arc<dyn ClientCertVerifier>,
    required: bool,
}

/// A set in its own right.
#[derive(Debug)]
struct Member {
    bit: u64,
    verifier: Arc<dyn ClientCertVerifier>,
    names: Vec<Box<str>>,
}

fn verifier(authorities: &[CertificateDer<'static>]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| format!("an authority in it cannot be used: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider());
    let built = builder.build().map_err(|error| error.to_string())?;
    Ok(built)
}

/// Whether these certificates can be authorities.
///
/// # Errors
/// What is wrong with one of them.
pub fn check(authorities: &[CertificateDer<'static>]) -> Result<(), String> {
    verifier(authorities).map(drop)
}

impl Clients {
    /// Accepts the certificates of `sets`, at least one.
    ///
    /// # Errors
    /// An authority can not be used as one.
    pub fn new(sets: &[&Set], required: bool) -> Result<Self, String> {
        let all: Vec<_> = sets.iter().flat_map(|set| set.authorities.iter().cloned()).collect();
        let verified = sets.iter().map(|set| {
            let bit = u32::try_from(set.index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0);
            Ok(Member { bit, verifier: verifier(&set.authorities)?, names: set.names.clone() })
        });
        Ok(Self { sets: verified.collect::<Result<_, String>>()?, union: verifier(&all)?, required })
    }

    /// The sets that a certificate belongs to, as bits.
    fn sets(&self, own: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> u64 {
        let belongs = |set: &&Member| {
            let verified = set.verifier.verify_client_cert(own, chain, now).is_ok();
            verified && (set.names.is_empty() || carries_one(own, &set.names))
        };
        self.sets.iter().filter(belongs).fold(0, |bits, set| bits | set.bit)
    }

    /// The sets that the client belongs to, as bits, by what the handshake, new or resumed, has shown of it.
    ///
    /// # Errors
    /// A certificate is required, and none was shown that is valid now.
    pub fn judge(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<u64, CertificateError> {
        let Some((own, chain)) = chain.and_then(<[_]>::split_first) else {
            return if self.required { Err(CertificateError::UnknownIssuer) } else { Ok(0) };
        };
        let sets = self.sets(own, chain, UnixTime::now());
        if self.required && sets == 0 {
            return Err(CertificateError::ApplicationVerificationFailure);
        }
        Ok(sets)
    }
}

/// In the handshake: a certificate has to be valid under some authority; where one is required, it has to belong to a set.
impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.union.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.union.verify_client_cert(end_entity, intermediates, now)?;
        if self.required && self.sets(end_entity, intermediates, now) == 0 {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.union.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.union.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.union.supported_verify_schemes()
    }
}

/// Whether a certificate carries one of the names: in its subjectAltName, or as common name where it has no names there. Case makes no
/// difference in DNS names and in the domain of an e-mail address (RFC 5280 §7.2, §7.5); everything else is exact.
fn carries_one(own: &CertificateDer<'_>, names: &[Box<str>]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(own) else { return false };
    let wanted = |same: fn(&str, &str) -> bool, name: &str| names.iter().any(|known| same(known, name));
    let mut has_names = false;
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            let found = match name {
                GeneralName::DNSName(name) => wanted(str::eq_ignore_ascii_case, name),
                GeneralName::RFC822Name(name) => wanted(same_mailbox, name),
                GeneralName::URI(name) => wanted(str::eq, name),
                _ => continue,
            };
            has_names = true;
            if found {
                return true;
            }
        }
    }
    !has_names && parsed.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| wanted(str::eq, name)))
}

/// Whether two e-mail addresses are the same: what stands before the `@` exactly, the domain without case.
fn same_mailbox(one: &str, other: &str) -> bool {
    let parts = (one.rsplit_once('@'), other.rsplit_once('@'));
    let (Some((one, its_domain)), Some((other, domain))) = parts else { return one == other };
    one == other && its_domain.eq_ignore_ascii_case(domain)
}

/// A certificate that a client has shown, for later.
pub fn keep(chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
    let own = chain.first()?;
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    Some(ClientCertificate { chain, subject: subject(own) })
}

/// Whom a certificate names, as it is logged.
fn subject(own: &CertificateDer<'_>) -> Box<str> {
    let Ok((_, parsed)) = X509Certificate::from_der(own) else { return "".into() };
    parsed.subject().to_string().chars().take(LONGEST_SUBJECT).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use rcgen::SanType;

    use super::*;

    fn certificate(name: SanType) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names.push(name);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn rfc5280_7_case_makes_no_difference_in_domains_only() {
        let dns = certificate(SanType::DnsName("robot.Example".try_into().unwrap()));
        let mail = certificate(SanType::Rfc822Name("Orders@Partner.example".try_into().unwrap()));
        let uri = certificate(SanType::URI("spiffe://Example/Robot".try_into().unwrap()));
        for (certificate, name, carried) in [
            (&dns, "ROBOT.example", true),
            (&dns, "robot.example.org", false),
            (&mail, "Orders@partner.EXAMPLE", true),
            (&mail, "orders@partner.example", false),
            (&mail, "partner.example", false),
            (&uri, "spiffe://Example/Robot", true),
            (&uri, "spiffe://Example/robot", false),
            (&uri, "spiffe://example/Robot", false),
        ] {
            assert_eq!(carries_one(certificate, &[name.into()]), carried, "{name}");
        }
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Robot");
        let common = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        for (name, carried) in [("Robot", true), ("robot", false)] {
            assert_eq!(carries_one(common.der(), &[name.into()]), carried, "{name}");
        }
    }
}

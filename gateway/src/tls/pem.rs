//! Certificates and keys from PEM files, read and checked: what comes out of here can serve a handshake.
//!
//! Invariant: no message repeats anything of a key.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureAlgorithm};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The largest file that is read.
pub const LARGEST: usize = 1 << 20;

/// A certificate with its key, and what the gateway has to know about it.
#[derive(Clone)]
pub struct Certified {
    /// For handshakes.
    pub key: Arc<CertifiedKey>,
    /// The names it is for, lower-case, some of them `*.example.com`.
    pub names: Arc<[Box<str>]>,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: u64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: u64,
}

/// Without the key.
impl fmt::Debug for Certified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certified")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Certified {
    /// It is signed with by ECDSA (or Ed25519): cheaper than RSA for both sides.
    pub fn is_light(&self) -> bool {
        self.key.key.algorithm() != SignatureAlgorithm::RSA
    }

    /// Who signed it, as it says itself.
    pub fn issuer(&self) -> Option<String> {
        let (_, parsed) = X509Certificate::from_der(self.key.cert.first()?).ok()?;
        Some(parsed.issuer().to_string())
    }

    /// Its number, as its issuer counts: hexadecimal digits.
    pub fn serial(&self) -> Option<String> {
        let (_, parsed) = X509Certificate::from_der(self.key.cert.first()?).ok()?;
        let mut text = String::new();
        for byte in parsed.raw_serial() {
            write!(text, "{byte:02x}").ok()?;
        }
        Some(text)
    }

    /// Whether it is for `name`, by itself or by a wildcard for its first label.
    pub fn covers(&self, name: &str) -> bool {
        covered(&self.names, name)
    }
}

/// A time of validity, for people: seconds since 1970.
pub fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    time.map_or_else(|| seconds.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Whether the name in a certificate, which may begin with `*.`, stands for `name`. Case makes no difference.
pub fn covers(known: &str, name: &str) -> bool {
    let is_parent = |known: &str| name.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(known));
    known.eq_ignore_ascii_case(name) || known.strip_prefix("*.").is_some_and(is_parent)
}

/// Whether one of the names in a certificate stands for `name`.
pub fn covered(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|known| covers(known, name))
}

/// Why a certificate can not be used: which of the two files, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The file with the chain.
    #[error("{0}")]
    Chain(String),
    /// The file with the key.
    #[error("{0}")]
    Key(String),
}

/// A chain and its key.
///
/// # Errors
/// One of them holds nothing of the kind, they do not belong together, or the certificate names no host.
pub fn certified(chain: &[u8], key: &[u8]) -> Result<Certified, Unusable> {
    let chain = certificates(chain).map_err(Unusable::Chain)?;
    let signing = private_key(key).map_err(Unusable::Key)?;
    let signing = super::provider().key_provider.load_private_key(signing);
    let signing = signing.map_err(|_| Unusable::Key("this kind of key is not supported".to_owned()))?;
    from_parts(chain, signing)
}

/// A chain and a key that is ready to sign.
///
/// # Errors
/// As [`certified`].
pub fn from_parts(
    chain: Vec<CertificateDer<'static>>,
    signing: Arc<dyn rustls::sign::SigningKey>,
) -> Result<Certified, Unusable> {
    let own = chain.first().cloned().ok_or_else(|| Unusable::Chain("there is no certificate in it".to_owned()))?;
    let (names, not_before, not_after) = facts(&own).map_err(Unusable::Chain)?;
    let key = CertifiedKey::new(chain, signing);
    match key.keys_match() {
        // A key that can not tell its public half has been made by this provider all the same; the handshake would show it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(_) => return Err(Unusable::Key("the key does not belong to the certificate".to_owned())),
    }
    Ok(Certified { key: Arc::new(key), names: names.into(), not_before, not_after })
}

/// Every certificate in a PEM file, at least one.
///
/// # Errors
/// What is wrong with the file.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| "it is not a well-formed PEM file".to_owned())?;
    if chain.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(chain)
}

/// The private key in a PEM file.
///
/// # Errors
/// What is wrong with the file; nothing of its content.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        if memchr::memmem::find(pem, b"ENCRYPTED").is_some() {
            "the key in it is encrypted: the gateway has no passphrase for it".to_owned()
        } else {
            "there is no private key in it".to_owned()
        }
    })
}

/// Names and validity of a certificate.
fn facts(own: &CertificateDer<'_>) -> Result<(Vec<Box<str>>, u64, u64), String> {
    let (_, parsed) = X509Certificate::from_der(own).map_err(|_| "its certificate cannot be read".to_owned())?;
    let mut names: Vec<Box<str>> = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase().into());
            }
        }
    }
    if names.is_empty() {
        return Err("its certificate names no host (subjectAltName)".to_owned());
    }
    let validity = parsed.validity();
    let unix = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    Ok((names, unix(validity.not_before), unix(validity.not_after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_come_together() {
        let (chain, key) = made(&["Shop.example.com", "*.example.org"]);
        let certified = certified(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(*certified.names, ["shop.example.com".into(), Box::<str>::from("*.example.org")]);
        assert!(certified.is_light() && certified.not_after > certified.not_before);
        for (name, covered) in [
            ("shop.example.com", true),
            ("a.example.org", true),
            ("A.Example.org", true),
            ("a.b.example.org", false),
            ("example.org", false),
            ("x.shop.example.com", false),
        ] {
            assert_eq!(certified.covers(name), covered, "{name}");
        }
        assert!(!format!("{certified:?}").contains("key"));
    }

    #[test]
    fn each_mistake_is_told_apart() {
        let (chain, key) = made(&["a.example"]);
        let (_, other) = made(&["a.example"]);
        let (nameless, its_key) = made(&[]);
        let unusable = |chain: &str, key: &str| certified(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
        assert_eq!(unusable("", &key), "there is no certificate in it");
        assert_eq!(unusable(&key, &key), "there is no certificate in it");
        assert_eq!(unusable("-----BEGIN CERTIFICATE-----\nx\n", &key), "it is not a well-formed PEM file");
        assert_eq!(unusable(&chain, &chain), "there is no private key in it");
        assert_eq!(unusable(&chain, &other), "the key does not belong to the certificate");
        assert_eq!(unusable(&nameless, &its_key), "its certificate names no host (subjectAltName)");
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(unusable(&chain, locked).contains("encrypted"));
    }
}

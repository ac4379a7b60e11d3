//! The answers to challenges that are being validated right now: texts for `http-01` (RFC 8555 §8.3), certificates for `tls-alpn-01`
//! (RFC 8737). Orders put them here, workers look them up, and they are gone when the order has ended, however it ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// Where an authority looks for the answer of `http-01`; the token follows.
pub const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// The protocol that an authority asks for by ALPN to validate `tls-alpn-01`.
pub const ALPN: &[u8] = b"acme-tls/1";

/// What is being validated. Looked up without a lock, changed rarely.
#[derive(Debug, Default)]
pub struct Challenges {
    answers: ArcSwap<Answers>,
}

#[derive(Clone, Debug, Default)]
struct Answers {
    /// By token.
    texts: BTreeMap<Box<str>, Arc<str>>,
    /// By name.
    certificates: BTreeMap<Box<str>, Arc<ServerConfig>>,
}

/// An answer that is given while this exists.
#[derive(Debug)]
pub struct Given {
    challenges: Arc<Challenges>,
    what: What,
}

#[derive(Debug)]
enum What {
    Text(Box<str>),
    Certificate(Box<str>),
}

impl Challenges {
    /// The answer to a request for this path, where it asks for a token that is being validated. Anything else is ordinary traffic: an
    /// app behind the gateway may have challenges of its own.
    pub fn text(&self, path: &[u8]) -> Option<Arc<str>> {
        let token = path.strip_prefix(PREFIX)?;
        self.answers.load().texts.get(std::str::from_utf8(token).ok()?).cloned()
    }

    /// What to shake hands with where a client offers [`ALPN`] and nothing else, and asks for this name in lower case. The handshake is
    /// all that may come of it.
    pub fn handshake(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.answers.load().certificates.get(name).cloned()
    }

    /// Answers `http-01` for `token`.
    pub fn give_text(self: &Arc<Self>, token: &str, text: &str) -> Given {
        self.change(|answers| {
            answers.texts.insert(token.into(), text.into());
        });
        Given { challenges: Arc::clone(self), what: What::Text(token.into()) }
    }

    /// Answers `tls-alpn-01` for `name`; `digest` is the SHA-256 of the key authorisation.
    ///
    /// # Errors
    /// The certificate can not be made.
    pub fn give_certificate(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Given, String> {
        let certificate = handshake(name, digest).map_err(|error| error.to_string())?;
        self.change(|answers| {
            answers.certificates.insert(name.into(), Arc::clone(&certificate));
        });
        Ok(Given { challenges: Arc::clone(self), what: What::Certificate(name.into()) })
    }

    fn change(&self, change: impl Fn(&mut Answers)) {
        self.answers.rcu(|answers| {
            let mut answers = Answers::clone(answers);
            change(&mut answers);
            answers
        });
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.challenges.change(|answers| {
            match &self.what {
                What::Text(token) => answers.texts.remove(token).is_some(),
                What::Certificate(name) => answers.certificates.remove(name).is_some(),
            };
        });
    }
}

fn handshake(name: &str, digest: &[u8]) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    let certified = validation_certificate(name, digest)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nobody comes back to such a session.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A self-signed certificate for `name` alone, with the digest in a critical extension (RFC 8737 §3).
fn validation_certificate(name: &str, digest: &[u8]) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Not `from_der`, which reads the certificate as a client would: the extension is critical so that no client takes it.
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_there_while_they_are_validated_and_no_longer() {
        let challenges = Arc::<Challenges>::default();
        let path = b"/.well-known/acme-challenge/abc";
        assert!(challenges.text(path).is_none());
        let text = challenges.give_text("abc", "abc.thumb");
        let certificate = challenges.give_certificate("shop.example.com", &[7; 32]).unwrap();
        assert_eq!(challenges.text(path).as_deref(), Some("abc.thumb"));
        for other in [
            "/.well-known/acme-challenge/ab",
            "/.well-known/acme-challenge/",
            "/abc",
            "/.well-known/acme-challenge/abc/",
        ] {
            assert!(challenges.text(other.as_bytes()).is_none(), "{other}");
        }
        assert!(challenges.handshake("shop.example.com").is_some());
        assert!(challenges.handshake("example.com").is_none());
        drop(text);
        assert!(challenges.text(path).is_none() && challenges.handshake("shop.example.com").is_some());
        drop(certificate);
        assert!(challenges.handshake("shop.example.com").is_none());
    }

    #[test]
    fn rfc8737_3_the_certificate_names_one_name_and_carries_the_digest_in_a_critical_extension() {
        let certified = validation_certificate("shop.example.com", &[7; 32]).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(certified.cert.first().unwrap()).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [x509_parser::extensions::GeneralName::DNSName("shop.example.com")]);
        let identifier =
            certificate.extensions().iter().find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let identifier = identifier.unwrap();
        assert!(identifier.critical);
        assert_eq!(identifier.value, [&[4, 32][..], &[7; 32]].concat());
    }
}

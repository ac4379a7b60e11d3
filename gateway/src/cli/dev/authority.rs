//! The local authority of `probegate dev` and the certificate it signs for this machine.
//!
//! It is made once, because somebody has told browsers to believe it. Should its key ever be stolen, it is of little use: the authority is
//! constrained to names and addresses of the machine itself (RFC 5280 §4.2.1.10).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Datelike as _};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;

use crate::durable;

/// What the certificate is always for.
const NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

const DAY: u64 = 24 * 3600;

/// How long the authority lasts.
const AUTHORITY: u64 = 3650 * DAY;

/// How long a certificate lasts. Beyond 398 days, Apple's programs take none.
const CERTIFICATE: u64 = 395 * DAY;

/// A certificate with less left is replaced.
const LEFT: u64 = 30 * DAY;

/// The authority in its folder.
#[derive(Debug)]
pub(super) struct Authority {
    folder: PathBuf,
    /// When it was made.
    pub(super) made: Made,
}

/// When something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// By this call.
    Now,
    /// Earlier.
    Before,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Cryptography.
    #[error("{0}")]
    Made(#[from] rcgen::Error),
    /// What is stored is of no use.
    #[error("{}: {what}; remove the folder to begin anew, and have the new authority believed", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl Authority {
    /// Opens the authority in `folder`, and makes what is missing or due: the authority once, its certificate about once a year, and when
    /// one of `names` is not in it. Names only ever come: several may be using the same certificate.
    pub(super) fn open(folder: &Path, names: &[String], now: u64) -> Result<Self, Failed> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |error| Failed::File { path, error }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(file(folder))?;
        let folder = fs::canonicalize(folder).map_err(file(folder))?;
        // Two that start at a time must not make two.
        let lock = folder.join(".lock");
        let _lock = durable::lock(&lock, true).map_err(file(&lock))?;
        let mut authority = Self { folder, made: Made::Before };
        let issuer = match authority.stored()? {
            Some(issuer) => issuer,
            None => authority.make(now)?,
        };
        if !authority.is_certificate_good(names, now) {
            // Another `dev` may be showing the certificate: what it was started with stays in it.
            let mut all = authority.names_before();
            all.extend(names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
            authority.issue(&issuer, &all, now)?;
        }
        Ok(authority)
    }

    /// The certificate to be believed.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The certificate to show, in PEM.
    pub(super) fn certificate(&self) -> PathBuf {
        self.folder.join("localhost.pem")
    }

    /// Its key.
    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("localhost.key")
    }

    fn authority_key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// The authority that is there; `None`: none was made yet.
    fn stored(&self) -> Result<Option<Issuer<'static, KeyPair>>, Failed> {
        let read = |path: PathBuf| match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failed::File { path, error }),
        };
        let broken = |path: PathBuf, what: &str| Failed::Broken { path, what: what.to_owned() };
        match (read(self.root())?, read(self.authority_key())?) {
            (None, _) => Ok(None),
            (Some(_), None) => Err(broken(self.authority_key(), "the key of the authority is missing")),
            (Some(certificate), Some(key)) => {
                let key = KeyPair::from_pem(&key)
                    .map_err(|_| broken(self.authority_key(), "the key of the authority cannot be read"))?;
                let public = key.public_key_raw().to_vec();
                let issuer = Issuer::from_ca_cert_pem(&certificate, key);
                let issuer = issuer.map_err(|_| broken(self.root(), "the authority cannot be read"))?;
                let same = leaf(certificate.as_bytes()).is_some_and(|read| read.public == public);
                if same {
                    Ok(Some(issuer))
                } else {
                    Err(broken(self.root(), "the key of the authority is another one's"))
                }
            }
        }
    }

    /// Makes the authority. Its key is written first: a certificate without one would be believed and good for nothing.
    fn make(&mut self, now: u64) -> Result<Issuer<'static, KeyPair>, Failed> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("probegate dev authority of {}", machine()));
        valid(&mut params, now.saturating_sub(DAY), now + AUTHORITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::DnsName("localhost".to_owned()),
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
                GeneralSubtree::IpAddress(CidrSubnet::V6(std::net::Ipv6Addr::LOCALHOST.octets(), [255; 16])),
            ],
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(&key)?;
        self.write(self.authority_key(), &key.serialize_pem(), 0o600)?;
        self.write(self.root(), &certificate.pem(), 0o644)?;
        self.made = Made::Now;
        Ok(Issuer::new(params, key))
    }

    /// Signs a certificate for this machine.
    fn issue(&self, issuer: &Issuer<'_, KeyPair>, names: &[String], now: u64) -> Result<(), Failed> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names: Vec<_> = NAMES.iter().map(ToString::to_string).chain(names.iter().cloned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("localhost");
        valid(&mut params, now.saturating_sub(DAY), now + CERTIFICATE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, issuer)?;
        self.write(self.key(), &key.serialize_pem(), 0o600)?;
        self.write(self.certificate(), &certificate.pem(), 0o644)
    }

    /// The names that earlier calls have asked for, as far as the certificate that is there is this authority's.
    fn names_before(&self) -> Vec<String> {
        let read = |path: PathBuf| fs::read(path).ok().and_then(|text| leaf(&text));
        match (read(self.certificate()), read(self.root())) {
            (Some(own), Some(root)) if own.issuer == root.subject => {
                own.names.into_iter().filter(|name| !NAMES.contains(&name.as_str())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether there is a certificate of this authority's with its key, and with some time left.
    fn is_certificate_good(&self, names: &[String], now: u64) -> bool {
        let read = |path: PathBuf| fs::read(path).ok();
        let (Some(certificate), Some(key), Some(root)) =
            (read(self.certificate()), read(self.key()), read(self.root()))
        else {
            return false;
        };
        let key = String::from_utf8(key).ok().and_then(|text| KeyPair::from_pem(&text).ok());
        match (leaf(&certificate), leaf(&root), key) {
            (Some(own), Some(root), Some(key)) => {
                let ours = own.issuer == root.subject && own.public == key.public_key_raw();
                ours && own.not_after > now + LEFT && names.iter().all(|name| own.names.contains(name))
            }
            _ => false,
        }
    }

    #[expect(clippy::unused_self, reason = "only what belongs to the authority is written this way")]
    fn write(&self, path: PathBuf, text: &str, mode: u32) -> Result<(), Failed> {
        durable::replace(&path, text.as_bytes(), mode).map_err(|error| Failed::File { path, error })
    }
}

/// What a stored certificate says.
struct Leaf {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public: Vec<u8>,
    names: Vec<String>,
    not_after: u64,
}

fn leaf(pem: &[u8]) -> Option<Leaf> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    let alternatives = parsed.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(Leaf {
        names: names.collect(),
        subject: parsed.subject().as_raw().to_vec(),
        issuer: parsed.issuer().as_raw().to_vec(),
        public: parsed.public_key().subject_public_key.data.to_vec(),
        not_after: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0),
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

/// What this machine is called, to tell authorities apart in the list of a browser. With a number: each one has a name of its own.
fn machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(40).collect();
    let name = if name.is_empty() { "this machine" } else { &name };
    format!("{name} ({:08x})", fastrand::u32(..))
}

/// Makes it valid from the day of `from` to the day of `until`, in seconds since the epoch.
fn valid(params: &mut CertificateParams, from: u64, until: u64) {
    let day = |unix: u64| {
        let date = i64::try_from(unix).ok().and_then(|unix| DateTime::from_timestamp(unix, 0)).unwrap_or_default();
        let byte = |number: u32| u8::try_from(number).unwrap_or(1);
        date_time_ymd(date.year(), byte(date.month()), byte(date.day()))
    };
    (params.not_before, params.not_after) = (day(from), day(until));
}

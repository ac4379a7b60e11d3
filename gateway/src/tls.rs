//! TLS towards clients: certificates by name, what is agreed on in a handshake, and who the client is by its own certificate.
//!
//! [`pem`] reads and checks files; [`store`] keeps certificates and answers for names; [`server`] makes what a listener shakes hands
//! with, once for each plan; [`clients`] verifies client certificates; [`hello`] reads the first message and chooses by it; [`name`] spells
//! server names; [`watch`] notices changed files, and [`fresh`] says whether they may take the place of what is in force. The bytes themselves are the business of [`crate::wire::tls`].
//!
//! Invariants: no key is ever shown or logged; nothing on the way of a handshake takes a lock that another certificate's change holds;
//! a session is resumed only under the verification of client certificates that it began with.

pub mod clients;
pub mod fresh;
pub mod hello;
pub mod name;
pub mod pem;
pub mod server;
pub mod store;
pub mod watch;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group as group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{HandshakeKind, ProtocolVersion, SupportedCipherSuite};

use self::server::Resumption;
use self::store::Store;

/// Authenticated encryption with forward secrecy, and nothing else (RFC 9325 §4.2).
const SUITES: &[SupportedCipherSuite] = &[
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The hybrid with ML-KEM first: what is recorded today stays closed to tomorrow's computers.
const GROUPS: &[&dyn SupportedKxGroup] = &[group::X25519MLKEM768, group::X25519, group::SECP256R1, group::SECP384R1];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        kx_groups: GROUPS.to_vec(),
        ..aws_lc_rs::default_provider()
    })
});

/// The one source of cryptography, for both sides of the gateway.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// What outlives plans.
#[derive(Debug, Default)]
pub struct Shared {
    /// The certificates.
    pub store: Store,
    /// What sessions are resumed with.
    pub(crate) resumption: Resumption,
    /// Handshakes whose first message was read and that have not ended.
    in_flight: AtomicUsize,
    /// Handshakes that succeeded: by version (1.2, 1.3) and whether a session was resumed.
    done: [[AtomicU64; 2]; 2],
    /// Changed certificate files that could not be used.
    pub reload_failures: AtomicU64,
}

/// One handshake in flight.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// A place for a handshake, if fewer than `most` are in flight.
    pub(crate) fn enter(&self, most: usize) -> Option<InFlight<'_>> {
        let place = InFlight(&self.in_flight);
        (self.in_flight.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }

    /// Counts a handshake that succeeded.
    pub(crate) fn count(&self, version: Option<ProtocolVersion>, kind: Option<HandshakeKind>) {
        let version = usize::from(version == Some(ProtocolVersion::TLSv1_3));
        let resumed = usize::from(kind == Some(HandshakeKind::Resumed));
        if let Some(counter) = self.done.get(version).and_then(|kinds| kinds.get(resumed)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Handshakes that succeeded: version, whether a session was resumed, how many.
    pub fn handshakes(&self) -> impl Iterator<Item = (&'static str, bool, u64)> {
        let versions = ["1.2", "1.3"].into_iter().zip(&self.done);
        versions.flat_map(|(version, kinds)| {
            let counted = kinds.iter().map(|count| count.load(Ordering::Relaxed));
            [false, true].into_iter().zip(counted).map(move |(resumed, count)| (version, resumed, count))
        })
    }
}

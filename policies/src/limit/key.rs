//! Whom a limit counts: the parts of a key, and their keyed hash.
//!
//! Invariant: two different lists of parts never feed the hash the same bytes. Every part starts with a tag, and what
//! has no fixed length is preceded by it; django-ratelimit joins its parts without separators and lets `view1` with
//! `5/60s` meet `view` with `15/60s`.

use std::hash::{BuildHasher as _, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU64;

use ahash::RandomState;

use crate::client::Identity;
use crate::ip::group;

/// The secret of the hash. Drawn once per process, so that nobody can aim at the bucket of somebody else.
#[derive(Clone, Copy)]
pub struct Seed(pub [u64; 4]);

impl std::fmt::Debug for Seed {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    pub(crate) fn hasher(&self) -> RandomState {
        let [a, b, c, d] = self.0;
        RandomState::with_seeds(a, b, c, d)
    }
}

/// One thing that a limit tells requests apart by.
#[derive(Clone, Copy, Debug)]
pub enum KeyPart<'a> {
    /// The client, as the network it belongs to. An unknown one counts under its peer, apart from every known client:
    /// neither can use up what belongs to the other.
    Client {
        /// Who it is.
        identity: &'a Identity,
        /// Leading bits of an IPv4 address that count, 32 for every address apart.
        v4_prefix: u8,
        /// Leading bits of an IPv6 address that count, 64 for what one household gets.
        v6_prefix: u8,
    },
    /// Any text: the name of the limit, a host, the value of a field.
    Bytes(&'a [u8]),
}

/// What a limit tells requests apart by, in a fixed order.
pub type KeyParts<'a> = [KeyPart<'a>];

/// The keyed hash of a key: what the table stores in its place. Never 0, which marks an empty entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(NonZeroU64);

impl Key {
    /// Hashes the parts.
    #[inline]
    pub(super) fn new(hasher: &RandomState, parts: &KeyParts<'_>) -> Self {
        let mut hash = hasher.build_hasher();
        for part in parts {
            part.feed(&mut hash);
        }
        Self(NonZeroU64::new(hash.finish()).unwrap_or(NonZeroU64::MIN))
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        self.0.get()
    }
}

impl KeyPart<'_> {
    #[inline]
    pub(super) fn feed(&self, hash: &mut impl Hasher) {
        match *self {
            Self::Client { identity: Identity::Known(known), v4_prefix, v6_prefix } => {
                feed_ip(hash, 0, group(known.ip, v4_prefix, v6_prefix));
            }
            Self::Client { identity: Identity::Unknown(unknown), .. } => feed_ip(hash, 2, unknown.peer),
            Self::Bytes(bytes) => {
                hash.write_u8(4);
                hash.write_usize(bytes.len());
                hash.write(bytes);
            }
        }
    }
}

/// The tag tells whose address it is, and by its last bit which family.
#[inline]
fn feed_ip(hash: &mut impl Hasher, tag: u8, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            hash.write_u8(tag);
            hash.write_u32(v4.to_bits());
        }
        IpAddr::V6(v6) => {
            hash.write_u8(tag + 1);
            hash.write_u128(v6.to_bits());
        }
    }
}

#[cfg(test)]
mod tests;

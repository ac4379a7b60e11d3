//! Whom a limit counts: the parts of a key, and their keyed hash.
//!
//! Invariants:
//! * Two different lists of parts never feed the hash the same bytes. Every part starts with a tag, and what has no fixed length comes with it;
//!   django-ratelimit joins its parts without separators and lets `view1` with `5/60s` meet `view` with `15/60s`.
//! * What a request lacks, or sends empty, is no value: such requests are counted under their client, apart from those that have one. There is no bucket
//!   that strangers share. Neither is what it sends more than once: which of several an app reads is the app's secret, and whoever could add one that it does
//!   not read would be counted anew as often as he likes.
//! * Nothing is allocated.

mod text;

use std::hash::{BuildHasher as _, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU64;

use ahash::{AHasher, RandomState};

use super::window::Stagger;
use crate::client::Identity;
use crate::ip::group;
pub use text::{cookies, is_plain, query_values};

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

    /// What a key is called where people see it: another hash, which does not tell its place in a table.
    pub fn alias(&self, key: Key) -> u64 {
        self.hasher().hash_one((key.bits(), "alias"))
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
pub struct Key {
    hash: NonZeroU64,
    /// Where fixed windows of this key end; 0 where nobody asks.
    stagger: u32,
}

/// What follows in the hash.
mod tag {
    pub(super) const KNOWN: u8 = 0;
    pub(super) const UNKNOWN: u8 = 2;
    pub(super) const BYTES: u8 = 4;
    pub(super) const ABSENT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const END: u8 = 7;
}

/// Puts a key together, part by part.
#[derive(Debug)]
pub struct KeyBuilder<H> {
    hash: H,
    /// Wanted for fixed windows only.
    stagger: Option<Stagger>,
}

impl Key {
    /// Hashes the parts.
    #[inline]
    pub(super) fn new(hasher: &RandomState, parts: &KeyParts<'_>) -> Self {
        let mut key = KeyBuilder::new(hasher, false);
        for part in parts {
            key.part(part);
        }
        key.finish()
    }

    #[inline]
    pub(super) const fn bits(self) -> u64 {
        self.hash.get()
    }

    #[inline]
    pub(super) const fn stagger(self) -> u32 {
        self.stagger
    }
}

impl KeyBuilder<AHasher> {
    #[inline]
    pub(super) fn new(hasher: &RandomState, staggered: bool) -> Self {
        Self { hash: hasher.build_hasher(), stagger: staggered.then(Stagger::new) }
    }

    /// The key.
    #[inline]
    pub fn finish(self) -> Key {
        let hash = NonZeroU64::new(self.hash.finish()).unwrap_or(NonZeroU64::MIN);
        Key { hash, stagger: self.stagger.map_or(0, Stagger::value) }
    }
}

impl<H: Hasher> KeyBuilder<H> {
    /// Feeds the parts to this hasher.
    pub(super) const fn over(hash: H) -> Self {
        Self { hash, stagger: None }
    }

    /// A part of the key.
    #[inline]
    pub fn part(&mut self, part: &KeyPart<'_>) {
        match *part {
            KeyPart::Client { identity: Identity::Known(known), v4_prefix, v6_prefix } => {
                self.ip(tag::KNOWN, group(known.ip, v4_prefix, v6_prefix));
            }
            KeyPart::Client { identity: Identity::Unknown(unknown), .. } => self.ip(tag::UNKNOWN, unknown.peer),
            KeyPart::Bytes(bytes) => {
                self.hash.write_u8(tag::BYTES);
                self.hash.write_usize(bytes.len());
                self.hash.write(bytes);
                if let Some(stagger) = &mut self.stagger {
                    stagger.feed(bytes);
                }
            }
        }
    }

    /// What is known of a request, in this order; where nothing is, `client` stands for it.
    pub fn known<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>, client: &KeyPart<'_>) {
        let mut some = false;
        for value in values {
            some = true;
            self.part(&KeyPart::Bytes(value));
        }
        self.close(some, client);
    }

    /// The value that a request has sent. An empty one is none; where there is none, or more than one, `client` stands for it.
    pub fn value<'v>(&mut self, values: impl Iterator<Item = &'v [u8]>, client: &KeyPart<'_>) {
        let mut values = values.filter(|value| !value.is_empty());
        let only = values.next().filter(|_| values.next().is_none());
        self.known(only.into_iter(), client);
    }

    /// The same for the cookie with this name in the values of a request's `Cookie` fields. One that can be spelled in another way, in quotes or with escapes,
    /// is no value either.
    pub fn cookie<'v>(&mut self, fields: impl Iterator<Item = &'v [u8]>, name: &'v [u8], client: &KeyPart<'_>) {
        let mut values = cookies(fields, name).filter(|value| !value.is_empty());
        let only = values.next().filter(|value| values.next().is_none() && is_plain(value));
        self.known(only.into_iter(), client);
    }

    /// The same for values that are put together byte by byte: decoded, or in lower case.
    pub fn spelled<I: Iterator<Item = u8>>(&mut self, values: impl Iterator<Item = I>, client: &KeyPart<'_>) {
        let mut values = values.filter_map(|value| {
            let mut value = value.peekable();
            value.peek().is_some().then_some(value)
        });
        let only = values.next().filter(|_| values.next().is_none());
        let some = only.is_some();
        if let Some(value) = only {
            self.text(value);
        }
        self.close(some, client);
    }

    /// Of how many values a part consists must be told as well.
    fn close(&mut self, some: bool, client: &KeyPart<'_>) {
        if some {
            self.hash.write_u8(tag::END);
        } else {
            self.hash.write_u8(tag::ABSENT);
            self.part(client);
        }
    }

    /// In pieces of 64 bytes, each after its length. The last one is shorter, and may be empty.
    fn text(&mut self, bytes: impl Iterator<Item = u8>) {
        self.hash.write_u8(tag::TEXT);
        let mut piece = [0; 64];
        let mut filled = 0;
        for byte in bytes {
            if let Some(place) = piece.get_mut(filled) {
                *place = byte;
                filled += 1;
            }
            if filled == piece.len() {
                self.piece(&piece);
                filled = 0;
            }
        }
        self.piece(piece.get(..filled).unwrap_or_default());
    }

    fn piece(&mut self, piece: &[u8]) {
        self.hash.write_usize(piece.len());
        self.hash.write(piece);
        if let Some(stagger) = &mut self.stagger {
            stagger.feed(piece);
        }
    }

    /// The tag tells whose address it is, and by its last bit which family.
    #[inline]
    fn ip(&mut self, tag: u8, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                self.hash.write_u8(tag);
                self.hash.write_u32(v4.to_bits());
            }
            IpAddr::V6(v6) => {
                self.hash.write_u8(tag + 1);
                self.hash.write_u128(v6.to_bits());
            }
        }
        if let Some(stagger) = &mut self.stagger {
            stagger.feed_ip(ip);
        }
    }
}

#[cfg(test)]
mod tests;

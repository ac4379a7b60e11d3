//! Keys that several gateways have in common: a hash with a secret that all of them know, the same on every machine.
//!
//! Invariant: the hash of [`super::Key`] is none. Its secret is drawn by each process, and what it computes depends on the processor.

use std::fmt;
use std::hash::Hasher;

use sha2::{Digest as _, Sha256};

use super::KeyBuilder;

/// The secret that gateways share. Whoever reads the store without it can not tell which client a key is, nor try all addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySecret([u8; 32]);

impl fmt::Debug for KeySecret {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret")
    }
}

/// A key in the store: 128 bits, so that two of many millions never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedKey(pub [u8; 16]);

impl SharedKey {
    /// In which hundredth of all keys this one is, from 0: the same on all gateways.
    pub const fn hundredth(self) -> u64 {
        let [a, b, c, d, ..] = self.0;
        ((u32::from_be_bytes([a, b, c, d]) as u64) * 100) >> 32
    }
}

impl KeySecret {
    /// The secret that follows from some text, for one purpose. Not the text itself, which may be a password.
    pub fn derive(text: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"probegate: keys of shared limits\n");
        hash.update(text);
        Self(hash.finalize().into())
    }

    /// Hashes the parts of a key.
    pub fn key_of(&self, parts: &super::KeyParts<'_>) -> SharedKey {
        self.build_key(|key| parts.iter().for_each(|part| key.part(part)))
    }

    /// Hashes the parts that `build` puts together.
    pub fn build_key(&self, build: impl FnOnce(&mut KeyBuilder<&mut KeyHasher>)) -> SharedKey {
        self.key(|hash| build(&mut KeyBuilder::over(hash)))
    }

    /// Hashes what `feed` writes. Whoever writes sees to it that two different keys never write the same.
    pub fn key(&self, feed: impl FnOnce(&mut KeyHasher)) -> SharedKey {
        let mut hasher = KeyHasher(Sha256::new());
        hasher.0.update(self.0);
        feed(&mut hasher);
        let digest: [u8; 32] = hasher.0.finalize().into();
        // A half of it: the secret in front keeps outsiders from computing it, the half from continuing it.
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        SharedKey(key)
    }
}

/// Feeds a key. Numbers are written with the lowest byte first, and sizes as 64 bits, whatever the machine.
pub struct KeyHasher(Sha256);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    /// Only [`KeySecret::key`] reads it.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed: another result would mean that gateways of two versions count apart.
    #[test]
    fn the_same_secret_and_key_make_the_same_hash_everywhere() {
        let key = KeySecret::derive(b"hunter2").key(|hash| {
            hash.write_u8(4);
            hash.write_usize(3);
            hash.write(b"abc");
            hash.write_u32(0x7f00_0001);
        });
        let mut expected = Sha256::new();
        expected.update(Sha256::digest(b"probegate: keys of shared limits\nhunter2"));
        expected.update(b"\x04\x03\0\0\0\0\0\0\0abc\x01\0\0\x7f");
        assert_eq!(key.0, expected.finalize()[..16]);
    }

    #[test]
    fn hundredths_are_alike_in_size() {
        let mut counts = [0_u32; 100];
        for number in 0..20_000_u32 {
            let key = KeySecret::derive(b"one").key(|hash| hash.write_u32(number));
            counts[usize::try_from(key.hundredth()).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (120..290).contains(count)), "{counts:?}");
        assert_eq!([SharedKey([0; 16]), SharedKey([255; 16])].map(SharedKey::hundredth), [0, 99]);
    }

    #[test]
    fn another_secret_makes_another_key_and_none_is_shown() {
        let of = |text: &[u8]| KeySecret::derive(text).key(|hash| hash.write(b"a"));
        assert_ne!(of(b"one"), of(b"two"));
        assert_eq!(format!("{:?}", KeySecret::derive(b"one")), "KeySecret");
    }
}

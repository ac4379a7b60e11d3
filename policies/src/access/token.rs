//! Shared secrets in a header field.
//!
//! Several slots at once, so that a secret can be replaced without a gap (D9). Only digests are kept: neither the
//! configuration nor a core dump holds a secret. Invariant: how long a check takes depends on the length of the
//! presented token and on the number of slots, never on the bytes of either.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::Refusal;
use crate::fields::{FieldName, Fields, Only};
use crate::text::hex_digit;

/// Longer values are nobody's token, and hashing a whole header would be work that a stranger can order.
const MAX_TOKEN: usize = 4096;

/// The secrets that one field may present.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// The name the configuration gives it.
    pub name: Box<str>,
    /// The field that presents the token.
    pub field: FieldName,
    slots: Vec<Slot>,
}

/// One secret and the time it is good for.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The name the configuration gives it, for logs and metrics.
    pub name: Box<str>,
    /// What the secret hashes to.
    pub digest: TokenDigest,
    /// The first second, since the Unix epoch, it is good for.
    pub not_before: Option<u64>,
    /// The first second, since the Unix epoch, it is no longer good for.
    pub expires: Option<u64>,
}

impl Slot {
    fn judge(&self, unix: u64) -> Result<(), Refusal> {
        if self.expires.is_some_and(|end| unix >= end) {
            Err(Refusal::TokenExpired)
        } else if self.not_before.is_some_and(|start| unix < start) {
            Err(Refusal::TokenNotYetValid)
        } else {
            Ok(())
        }
    }
}

impl TokenSet {
    /// The slots, in the order in which they are reported. Without any, every token is wrong.
    pub fn new(name: Box<str>, field: FieldName, slots: Vec<Slot>) -> Self {
        Self { name, field, slots }
    }

    /// The slots; [`TokenSet::check`] answers with an index into them.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot whose secret the request presents at `unix` seconds since the epoch.
    ///
    /// When the same secret is in several slots, one that is valid now wins.
    pub fn check<F: Fields + ?Sized>(&self, fields: &F, unix: u64) -> Result<usize, Refusal> {
        let presented = match fields.only(&self.field) {
            Only::Absent | Only::One([]) => return Err(Refusal::TokenMissing),
            Only::Several => return Err(Refusal::TokenDuplicated),
            Only::One(value) if value.len() > MAX_TOKEN => return Err(Refusal::TokenWrong),
            Only::One(value) => TokenDigest::of(value),
        };
        let (mut valid, mut stale) = (NO_SLOT, NO_SLOT);
        for (index, slot) in (0u64..).zip(&self.slots) {
            let equal = presented.0.ct_eq(&slot.digest.0);
            let in_time = Choice::from(u8::from(slot.judge(unix).is_ok()));
            valid.conditional_assign(&index, equal & in_time);
            stale.conditional_assign(&index, equal & !in_time);
        }
        if let Ok(index) = usize::try_from(valid)
            && index < self.slots.len()
        {
            return Ok(index);
        }
        let stale = usize::try_from(stale).ok().and_then(|index| self.slots.get(index));
        Err(stale.and_then(|slot| slot.judge(unix).err()).unwrap_or(Refusal::TokenWrong))
    }
}

/// An index that no slot has.
const NO_SLOT: u64 = u64::MAX;

/// The SHA-256 of a secret. Compared in constant time; prints nothing of itself.
#[derive(Clone)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a secret, byte for byte: whoever reads it from a file cuts the line end.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// A digest as `sha256sum` prints it: 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        if text.len() != 64 {
            return Err(InvalidDigest::Length { found: text.len() });
        }
        let mut digest = [0; 32];
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
            let (high, low) = hex_digit(high).zip(hex_digit(low)).ok_or(InvalidDigest::Digit)?;
            *byte = high << 4 | low;
        }
        Ok(Self(digest))
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// Why a text is no digest. Holds nothing of the text, which may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// Not 64 digits.
    #[error("a SHA-256 digest has 64 hexadecimal digits, not {found}")]
    Length {
        /// Bytes that were given.
        found: usize,
    },
    /// Something else than a digit.
    #[error("a SHA-256 digest holds hexadecimal digits only")]
    Digit,
}

#[cfg(test)]
mod tests;

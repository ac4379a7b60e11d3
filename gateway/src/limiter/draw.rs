//! Which keys a limit refuses that is enforced for a share of them (`enforce: 10%`).
//!
//! A secret draws them, which outlives the process (`draws`). It is not that of the tables, which each process makes anew. Limits that gateways share are drawn with
//! the secret of their store instead, so that all of them draw alike.

use std::fmt;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};

use probegate_policies::fields::Fields;
use probegate_policies::limit::{KeySecret, Seed};

use super::key::{Asking, feed};
use crate::plan::Limit;

/// What draws.
#[derive(Clone)]
pub struct Draw {
    secret: KeySecret,
    text: Box<str>,
    kept: Option<PathBuf>,
}

impl fmt::Debug for Draw {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draw").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Draw {
    /// One of this process.
    pub(super) fn new(seed: &Seed) -> Self {
        let seed: Vec<u8> = seed.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        // What may come to stand in a file does not lead back to the seed of the tables.
        let key = KeySecret::derive(&seed).key(|hash| hash.write(b"who is in"));
        Self::of(format!("{:032x}", u128::from_be_bytes(key.0)).into(), None)
    }

    /// The one that follows from a text, which is kept in this file, if in any.
    pub fn of(text: Box<str>, kept: Option<PathBuf>) -> Self {
        Self { secret: KeySecret::derive(text.as_bytes()), text, kept }
    }

    /// What it follows from: a secret.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file that it is kept in; `None`: it ends with the process.
    pub fn kept(&self) -> Option<&Path> {
        self.kept.as_deref()
    }

    /// In which hundredth of all keys of this limit a request's is, from 0.
    pub(super) fn hundredth<F: Fields + ?Sized>(&self, limit: &Limit, asking: &Asking<'_, F>) -> u64 {
        self.secret.build_key(|key| feed(key, limit, asking)).hundredth()
    }
}

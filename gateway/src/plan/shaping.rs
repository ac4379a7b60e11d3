//! What becomes of answers on their way to the client.

use probegate_policies::bandwidth::ByteRate;
use probegate_policies::encoding::{Coding, Terms};

/// Which answers are compressed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Which, and with which coding.
    pub terms: Terms,
    /// How hard.
    pub levels: Levels,
}

/// How fast answers may go. An app may say otherwise for an answer of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// Each answer.
    pub rate: Option<ByteRate>,
    /// Bytes of an answer that go before its rate begins to count.
    pub after: u64,
    /// All answers to one client together.
    pub per_client: Option<ByteRate>,
}

/// How hard each coding tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// 1 to 9.
    pub zstd: u8,
    /// 0 to 6.
    pub brotli: u8,
    /// 1 to 9.
    pub gzip: u8,
}

impl Levels {
    /// The level of this coding.
    pub fn of(self, coding: Coding) -> u8 {
        match coding {
            Coding::Zstd => self.zstd,
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
        }
    }
}

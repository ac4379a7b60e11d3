//! The codings in which a file may lie beside the plain one. [`crate::encoding::negotiate`] tells which one a client gets.

use crate::encoding::Coding;

/// All of them, the preferred first: where each was made once and for all, the smallest is the best.
pub const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

/// What the name of such a file ends with.
pub const fn ending(coding: Coding) -> &'static str {
    match coding {
        Coding::Brotli => ".br",
        Coding::Zstd => ".zst",
        Coding::Gzip => ".gz",
    }
}

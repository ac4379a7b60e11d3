//! What a path means: decoded once, without dot segments, and whether somebody behind us may read it differently.
//!
//! Django and every ASGI server match the decoded path, so an edge that matches the raw one is walked around with
//! `/%72eadyz` (D16). Other servers merge slashes, cut `;parameters`, turn `\` into `/` or decode twice. A spelling on
//! which they could disagree is called ambiguous, and comes with the most generous reading as its second one: a request
//! is safe only when the rules say the same about both.
//!
//! Invariant: [`Canonical::path`] is exactly what a server sees that decodes once what we send.

mod decode;
mod dots;

use crate::text::hex_digit;

/// Buffers that one connection reuses for all its paths.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    decoded: Vec<u8>,
    folded: Vec<u8>,
    cut: Vec<u8>,
    rewritten: Vec<u8>,
}

/// The readings of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// Decoded once, without dot segments: what policies match and what the application sees.
    pub path: &'a [u8],
    /// The most generous reading a server behind us could take of an ambiguous spelling: decoded to the end, `\` as
    /// `/`, `;parameters` cut, cut at NUL, `?` and `#`, empty segments merged, dot segments removed, trailing slash
    /// cut. `None`: the spelling has one reading only.
    pub folded: Option<&'a [u8]>,
    /// The same by a server that cuts `;parameters` before it decodes, as servlet containers do: for it,
    /// `/a;%2f..` is `/a`. `None`: there are no parameters to cut.
    pub cut: Option<&'a [u8]>,
    /// The path as it must be sent upstream, still percent-encoded, where dot segments had to be removed. `None`: send
    /// it as received.
    pub rewritten: Option<&'a [u8]>,
}

/// Why a path has no meaning at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It does not start with `/`.
    #[error("the path does not start with '/'")]
    NotAbsolute,
    /// `%` without two hexadecimal digits behind it.
    #[error("the path holds '%' without two hexadecimal digits")]
    BadEscape,
    /// A control byte, raw or percent-encoded, NUL among them: it ends strings and log lines.
    #[error("the path holds a control character")]
    ControlByte,
    /// A byte that must be percent-encoded in a path: a space, `#`, `?`, or anything beyond ASCII.
    #[error("the path holds a byte that must be percent-encoded")]
    RawByte,
    /// Its `..` segments climb above the root. RFC 3986 would drop them; as nginx does, we take it for an attack.
    #[error("the path climbs above its root")]
    AboveRoot,
}

/// Reads a path as received, up to but without the `?` of a query.
///
/// Allocates only until the buffers have grown to the longest path, and not at all for a plain path.
#[inline]
pub fn canonicalise<'a>(path: &'a [u8], scratch: &'a mut Scratch) -> Result<Canonical<'a>, InvalidPath> {
    let found = survey(path)?;
    if found & UNUSUAL == 0 {
        return Ok(Canonical { path, folded: None, cut: None, rewritten: None });
    }
    read(path, found, scratch)
}

/// The reading of a path that holds something unusual.
fn read<'a>(path: &'a [u8], mut found: u8, scratch: &'a mut Scratch) -> Result<Canonical<'a>, InvalidPath> {
    if found & ESCAPE != 0 {
        found |= survey_escapes(path)?;
    }
    let Scratch { decoded, folded, cut, rewritten } = scratch;
    let rewritten = dots::remove(path, rewritten)?;
    let sent = rewritten.unwrap_or(path);
    let path = if found & ESCAPE == 0 { sent } else { decode::once(sent, decoded) };
    if found & ESCAPED_PERCENT != 0 && decode::has_escape(path) {
        found |= AMBIGUOUS;
    }
    if found & AMBIGUOUS == 0 {
        return Ok(Canonical { path, folded: None, cut: None, rewritten });
    }
    let cut = if memchr::memchr(b';', sent).is_some() { Some(decode::fold_cut(sent, cut)?) } else { None };
    Ok(Canonical { path, folded: Some(decode::fold(sent, folded)?), cut, rewritten })
}

// What a survey finds, as bits, so that one pass over the bytes needs no branch per question.
const CONTROL: u8 = 1;
const RAW: u8 = 1 << 1;
const ESCAPE: u8 = 1 << 2;
const DOT: u8 = 1 << 3;
const SLASH: u8 = 1 << 4;
const AMBIGUOUS: u8 = 1 << 5;
const ESCAPED_PERCENT: u8 = 1 << 6;
const DOT_SEGMENT: u8 = 1 << 7;

/// Everything that leaves the fast path.
const UNUSUAL: u8 = ESCAPE | AMBIGUOUS | DOT_SEGMENT;

/// The bits of every raw byte.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "evaluated when the crate is built, below the length")]
        {
            classes[byte] = match byte {
                0..0x20 | 0x7f => CONTROL,
                0x80.. | 0x20 | 0x23 | 0x3f => RAW,
                0x25 => ESCAPE,
                0x2e => DOT,
                0x2f => SLASH,
                0x3b | 0x5c => AMBIGUOUS,
                _ => 0,
            };
        }
        byte += 1;
    }
    classes
};

/// One pass over the raw bytes.
#[inline]
fn survey(path: &[u8]) -> Result<u8, InvalidPath> {
    if path.first() != Some(&b'/') {
        return Err(InvalidPath::NotAbsolute);
    }
    let mut found = 0;
    let mut previous = 0;
    for &byte in path {
        #[expect(clippy::indexing_slicing, reason = "a byte cannot exceed the length of 256")]
        let class = CLASSES[usize::from(byte)];
        found |= class;
        // A slash or a dot straight behind a slash: an empty segment, or one that may be a dot segment.
        if previous & SLASH != 0 && class & (SLASH | DOT) != 0 {
            found |= if class == SLASH { AMBIGUOUS } else { DOT_SEGMENT };
        }
        previous = class;
    }
    if found & (CONTROL | RAW) != 0 {
        return Err(if found & CONTROL != 0 { InvalidPath::ControlByte } else { InvalidPath::RawByte });
    }
    Ok(found)
}

/// One pass over the percent-encoded bytes.
fn survey_escapes(path: &[u8]) -> Result<u8, InvalidPath> {
    let mut found = 0;
    for at in memchr::memchr_iter(b'%', path) {
        let byte = escaped(path.get(at..).unwrap_or_default()).ok_or(InvalidPath::BadEscape)?;
        match byte {
            0..0x20 | 0x7f => return Err(InvalidPath::ControlByte),
            b'/' | b'\\' | b';' | b'?' | b'#' => found |= AMBIGUOUS,
            b'%' => found |= ESCAPED_PERCENT,
            _ => {}
        }
    }
    Ok(found)
}

/// The byte that an escape at the start stands for.
#[inline]
fn escaped(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

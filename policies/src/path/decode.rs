//! Decoding once, and decoding to the end.

use super::{InvalidPath, escaped};

/// Decodes every escape once. The escapes are known to be valid.
pub(super) fn once<'b>(path: &[u8], out: &'b mut Vec<u8>) -> &'b [u8] {
    out.clear();
    let mut rest = path;
    while let Some(percent) = memchr::memchr(b'%', rest) {
        let (plain, escape) = rest.split_at_checked(percent).unwrap_or_default();
        out.extend_from_slice(plain);
        out.extend(escaped(escape));
        rest = escape.get(3..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// Whether a path that was decoded still holds something another decoder would decode.
pub(super) fn has_escape(decoded: &[u8]) -> bool {
    memchr::memchr_iter(b'%', decoded).any(|at| decoded.get(at..).and_then(escaped).is_some())
}

/// The most generous reading: see [`super::Canonical::folded`].
pub(super) fn fold<'b>(path: &[u8], out: &'b mut Vec<u8>) -> Result<&'b [u8], InvalidPath> {
    to_the_end(path.iter().copied(), out);
    finish(out)
}

/// The same where `;parameters` are cut before anything is decoded: see [`super::Canonical::cut`].
pub(super) fn fold_cut<'b>(path: &[u8], out: &'b mut Vec<u8>) -> Result<&'b [u8], InvalidPath> {
    let mut inside = false;
    let kept = path.iter().copied().filter(|&byte| {
        inside = byte != b'/' && (inside || byte == b';');
        !inside
    });
    to_the_end(kept, out);
    finish(out)
}

fn finish(out: &mut Vec<u8>) -> Result<&[u8], InvalidPath> {
    // Where another server's string, or its path, ends.
    if let Some(end) = memchr::memchr3(0, b'?', b'#', out) {
        out.truncate(end);
    }
    for byte in out.iter_mut().filter(|byte| **byte == b'\\') {
        *byte = b'/';
    }
    merge(out)?;
    Ok(out)
}

/// Decodes until nothing is left to decode.
///
/// Once per byte and not once per level, or `%252525…` would cost the square of its length: an escape is resolved as
/// soon as its second digit is written, which may complete another one. Two escapes never overlap, so the order in
/// which they are resolved does not matter.
fn to_the_end(path: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    out.clear();
    for byte in path {
        out.push(byte);
        while let Some((rest, tail)) = out.split_last_chunk::<3>()
            && let Some(decoded) = escaped(tail)
        {
            let length = rest.len();
            out.truncate(length);
            out.push(decoded);
        }
    }
}

/// Cuts parameters, empty segments, dot segments and the trailing slash, in place.
fn merge(out: &mut Vec<u8>) -> Result<(), InvalidPath> {
    // What is kept is never longer than what was read, so that one buffer serves as source and target.
    let (mut read, mut kept) = (0, 0);
    while let Some(rest) = out.get(read..).filter(|rest| !rest.is_empty()) {
        let length = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let segment = rest.get(..length).unwrap_or_default();
        let name = segment.get(..memchr::memchr(b';', segment).unwrap_or(length)).unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => {
                let before = out.get(..kept).unwrap_or_default();
                kept = memchr::memrchr(b'/', before).ok_or(InvalidPath::AboveRoot)?;
            }
            _ => {
                // The slash that leads the segment was read before it, hence there is room for one.
                let name = name.len();
                out.copy_within(read..read + name, kept + 1);
                if let Some(slash) = out.get_mut(kept) {
                    *slash = b'/';
                }
                kept += 1 + name;
            }
        }
        read += length + 1;
    }
    out.truncate(kept);
    if out.is_empty() {
        out.push(b'/');
    }
    Ok(())
}

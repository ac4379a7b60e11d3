//! Removing dot segments from a path that is still percent-encoded (RFC 3986 section 5.2.4).

use super::InvalidPath;

/// The path without the segments that decode to `.` or `..`, and without those that `..` removes. The spelling of the
/// others is kept. `None`: there are none to remove.
pub(super) fn remove<'b>(path: &[u8], out: &'b mut Vec<u8>) -> Result<Option<&'b [u8]>, InvalidPath> {
    if segments(path).all(|segment| dots(segment).is_none()) {
        return Ok(None);
    }
    out.clear();
    let mut ends_in_dots = false;
    for segment in segments(path) {
        ends_in_dots = true;
        match dots(segment) {
            Some(Dots::Here) => {}
            Some(Dots::Up) => {
                let parent = memchr::memrchr(b'/', out).ok_or(InvalidPath::AboveRoot)?;
                out.truncate(parent);
            }
            None => {
                out.push(b'/');
                out.extend_from_slice(segment);
                ends_in_dots = false;
            }
        }
    }
    // `/a/.` and `/a/b/..` name the directory `/a/`.
    if ends_in_dots {
        out.push(b'/');
    }
    Ok(Some(out))
}

/// What stands between the slashes of an absolute path.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.strip_prefix(b"/").unwrap_or(path).split(|&byte| byte == b'/')
}

enum Dots {
    /// `.`
    Here,
    /// `..`
    Up,
}

/// Whether a segment, decoded, is a dot segment.
fn dots(segment: &[u8]) -> Option<Dots> {
    match dot(dot(segment)?) {
        _ if dot(segment)?.is_empty() => Some(Dots::Here),
        Some([]) => Some(Dots::Up),
        _ => None,
    }
}

/// What follows a leading dot, raw or encoded.
fn dot(segment: &[u8]) -> Option<&[u8]> {
    match segment {
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
        _ => None,
    }
}

//! Where an app points that has a file sent in the place of its own answer: `X-Accel-Redirect` and `X-Sendfile`.

use crate::path::{Scratch, canonicalise};

/// The canonical path that the value of an `X-Accel-Redirect` means, written into `out`. As with nginx it is a URI: decoded once, a query is cut off. Bytes that
/// a URI could only hold percent-encoded (spaces, everything beyond ASCII) stand for themselves, because many apps write them so. `None`: it means nothing,
/// or could mean two things.
pub fn target<'o>(value: &[u8], out: &'o mut Vec<u8>) -> Option<&'o [u8]> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let path = value.split(|&byte| byte == b'?').next().unwrap_or_default();
    let mut encoded = Vec::with_capacity(path.len());
    for &byte in path {
        if byte == b' ' || byte >= 0x80 {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            encoded.extend([b'%', digit(byte >> 4), digit(byte & 0xf)]);
        } else {
            encoded.push(byte);
        }
    }
    let mut scratch = Scratch::default();
    let canonical = canonicalise(&encoded, &mut scratch).ok()?;
    // An app has no need for `..`; whoever got one into its answer has.
    if canonical.rewritten.is_some() {
        return None;
    }
    out.clear();
    out.extend_from_slice(canonical.path);
    Some(out)
}

/// The name below a root that the value of an `X-Sendfile` means: an absolute path of the file system, taken as it is. `None`: it lies elsewhere.
pub fn below<'v>(value: &'v [u8], root: &[u8]) -> Option<&'v [u8]> {
    let root = match root {
        [rest @ .., b'/'] => rest,
        root => root,
    };
    let name = value.strip_prefix(root)?.strip_prefix(b"/")?;
    let plain = |segment: &[u8]| !matches!(segment, b"" | b"." | b"..") && !segment.contains(&0);
    name.split(|&byte| byte == b'/').all(plain).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_a_uri() {
        for (value, path) in [
            ("/protected/a.pdf", Some("/protected/a.pdf")),
            ("/protected/a%20b.pdf", Some("/protected/a b.pdf")),
            ("/protected/a b.pdf", Some("/protected/a b.pdf")),
            ("/protected/ü.pdf", Some("/protected/ü.pdf")),
            ("/protected/100%25.pdf?x=1", Some("/protected/100%.pdf")),
            ("/protected/../etc/passwd", None),
            ("/protected/%2e%2e/x", None),
            ("/protected/%00", None),
            ("/protected/%zz", None),
            ("protected/a", None),
            ("@named", None),
            ("http://a.example/x", None),
            ("", None),
        ] {
            let mut out = Vec::new();
            let found = target(value.as_bytes(), &mut out).map(|path| String::from_utf8(path.to_vec()).unwrap());
            assert_eq!(found.as_deref(), path, "{value}");
        }
    }

    #[test]
    fn a_file_lies_below_its_root() {
        for (value, root, name) in [
            ("/srv/media/a.pdf", "/srv/media", Some("a.pdf")),
            ("/srv/media/a/b%20.pdf", "/srv/media/", Some("a/b%20.pdf")),
            ("/srv/media2/a.pdf", "/srv/media", None),
            ("/srv/media", "/srv/media", None),
            ("/srv/media/", "/srv/media", None),
            ("/srv/media/../x", "/srv/media", None),
            ("/srv/media//x", "/srv/media", None),
            ("/srv/media/./x", "/srv/media", None),
            ("media/a.pdf", "/srv/media", None),
            ("/etc/passwd", "/srv/media", None),
        ] {
            assert_eq!(below(value.as_bytes(), root.as_bytes()), name.map(str::as_bytes), "{value}");
        }
    }
}

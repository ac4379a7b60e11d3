//! Trailer sections (RFC 9110 §6.5): what may be passed on.

use std::borrow::Cow;

use probegate_policies::fields::FieldName;

use super::lines::{self, Lines};
use crate::wire::head::Name;

/// Fields that mean something before the body and must not come after it (RFC 9110 §6.5.1): framing, routing, authentication, request
/// modifiers, response control, and what describes the content.
const FORBIDDEN: [&str; 24] = [
    "age",
    "cache-control",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "warning",
    "www-authenticate",
];

/// Keeps the lines of `section` that may be passed on. `None`: it is not a trailer section.
pub fn filter(section: &[u8]) -> Option<Vec<u8>> {
    let (mut lines, mut kept) = (Lines::default(), Vec::new());
    while let Some((start, end)) = lines.next(section).ok()? {
        let field = lines::field(section, start, end).ok()?;
        let name = field.name.of(section);
        let passes = matches!(field.known, Name::Other | Name::Date)
            && !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()));
        if passes {
            kept.extend_from_slice(section.get(start..end)?);
            kept.extend_from_slice(b"\r\n");
        }
    }
    Some(kept)
}

/// The lines of a filtered section whose names are not in `names`.
pub fn without<'a>(section: &'a [u8], names: &[FieldName]) -> Cow<'a, [u8]> {
    if section.is_empty() || names.is_empty() {
        return Cow::Borrowed(section);
    }
    let (mut lines, mut kept) = (Lines::default(), Vec::new());
    while let Ok(Some((start, end))) = lines.next(section) {
        let line = section.get(start..end).unwrap_or_default();
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if !names.iter().any(|private| private.matches(name)) {
            kept.extend_from_slice(line);
            kept.extend_from_slice(b"\r\n");
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9110_6_5_1_fields_that_must_not_be_trailers_are_dropped() {
        let section = b"X-Sum: 1\r\nContent-Length: 5\r\nX-Forwarded-For: 10.0.0.1\r\nHost: a\r\nCookie: a=b\r\nX_Y: 1\r\nETag: \"a\"\r\n";
        assert_eq!(filter(section).unwrap(), b"X-Sum: 1\r\nETag: \"a\"\r\n");
        assert_eq!(filter(b"").unwrap(), b"");
        assert_eq!(filter(b"no colon\r\n"), None);
        assert_eq!(filter(b"A : b\r\n"), None);
        assert_eq!(filter(b"A: b\r\n folded\r\n"), None);
    }
}

//! The syntax of `Forwarded` (RFC 7239 section 4): elements, pairs and quoted strings.
//!
//! More lenient than the grammar in two places where no reader can be misled, because common proxies send both:
//! whitespace around `;`, and nodes whose quotes are missing (`for=192.0.2.1:80`).

use std::net::IpAddr;

use super::MAX_ENTRIES;
use crate::ip;
use crate::text::trim_ows;

/// The last elements of a line, found by reading it from its start, because quotes can be told in that direction only.
pub(crate) struct Elements {
    /// Start and end of non-empty elements; a ring in which `next` is the oldest.
    bounds: [(usize, usize); MAX_ENTRIES],
    found: usize,
    /// A quoted string never ends: nobody can say where the last element starts.
    pub(crate) unclosed: bool,
    /// There were more elements than a walk may read; the oldest are forgotten.
    pub(crate) overflow: bool,
}

impl Elements {
    pub(crate) fn read(line: &[u8]) -> Self {
        let mut elements = Self { bounds: [(0, 0); MAX_ENTRIES], found: 0, unclosed: false, overflow: false };
        let mut rest = line;
        let mut start = 0;
        while let Some(end) = end_of(rest, b',') {
            elements.push(line, start, start + end);
            start += end + 1;
            rest = match line.get(start..) {
                // The separator was the last byte, or there was none.
                None => return elements,
                Some(rest) => rest,
            };
        }
        elements.unclosed = true;
        elements
    }

    /// The elements that are not empty, trimmed, the last one first.
    pub(crate) fn rightmost_first<'l>(&self, line: &'l [u8]) -> impl Iterator<Item = &'l [u8]> {
        let kept = self.found.min(MAX_ENTRIES);
        let newest_first = (self.found - kept..self.found).rev();
        newest_first.filter_map(move |index| {
            let &(start, end) = self.bounds.get(index % MAX_ENTRIES)?;
            line.get(start..end).map(trim_ows)
        })
    }

    fn push(&mut self, line: &[u8], start: usize, end: usize) {
        if line.get(start..end).is_none_or(|element| trim_ows(element).is_empty()) {
            return;
        }
        if let Some(slot) = self.bounds.get_mut(self.found % MAX_ENTRIES) {
            *slot = (start, end);
        }
        self.overflow |= self.found >= MAX_ENTRIES;
        self.found += 1;
    }
}

/// The last element of a line that is not empty; `None` also when a quoted string never ends.
pub(crate) fn last_element(line: &[u8]) -> Option<&[u8]> {
    let elements = Elements::read(line);
    if elements.unclosed { None } else { elements.rightmost_first(line).next() }
}

/// The address that the `for` parameter of an element names.
pub(super) fn node(element: &[u8]) -> Option<IpAddr> {
    let mut buffer = [0; 64];
    ip::parse_node(unquote(parameter(element, b"for").ok()??, &mut buffer)?)
}

/// An element that does not follow the grammar, or that says a thing twice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The value of the parameter `wanted` as written, quotes included. The whole element must be well-formed.
pub(crate) fn parameter<'e>(element: &'e [u8], wanted: &[u8]) -> Result<Option<&'e [u8]>, Malformed> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(left) = rest {
        let end = end_of(left, b';').ok_or(Malformed)?;
        let pair = trim_ows(left.get(..end).unwrap_or_default());
        rest = left.get(end + 1..);
        if pair.is_empty() {
            continue;
        }
        let equals = memchr::memchr(b'=', pair).ok_or(Malformed)?;
        let (name, value) = pair.split_at_checked(equals).ok_or(Malformed)?;
        let value = value.strip_prefix(b"=").unwrap_or_default();
        if name.is_empty() || !name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') || !is_value(value) {
            return Err(Malformed);
        }
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(Malformed);
        }
    }
    Ok(found)
}

/// The text of a value: itself, or what stands between its quotes with the escapes resolved. `None` when the text is
/// longer than the buffer, which no address and no scheme is.
pub(crate) fn unquote<'v, const N: usize>(value: &'v [u8], buffer: &'v mut [u8; N]) -> Option<&'v [u8]> {
    let Some(inside) = value.strip_prefix(b"\"") else {
        return Some(value);
    };
    let inside = inside.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inside).is_none() {
        return Some(inside);
    }
    let mut used = 0;
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        let byte = if byte == b'\\' { *bytes.next()? } else { byte };
        *buffer.get_mut(used)? = byte;
        used += 1;
    }
    buffer.get(..used)
}

/// Whether a value is one quoted string, or has no quote and no whitespace in it.
fn is_value(value: &[u8]) -> bool {
    match value.strip_prefix(b"\"") {
        // The first quote that closes must be the last byte.
        Some(inside) => closing_quote(inside).is_some_and(|at| at + 1 == inside.len()),
        None => !value.iter().any(|b| matches!(b, b'"' | b'\\' | b' ' | b'\t')),
    }
}

/// Where the first `separator` outside quotes stands, or the end; `None` when a quoted string never ends.
fn end_of(bytes: &[u8], separator: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let Some(found) = memchr::memchr2(separator, b'"', rest) else {
            return Some(bytes.len());
        };
        if rest.get(found) == Some(&separator) {
            return Some(at + found);
        }
        at += found + 1;
        at += closing_quote(bytes.get(at..)?)? + 1;
    }
}

/// Where a quoted string ends whose opening quote has been read (RFC 9110 section 5.6.4).
fn closing_quote(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        let found = memchr::memchr2(b'\\', b'"', rest)?;
        if rest.get(found) == Some(&b'"') {
            return Some(at + found);
        }
        at += found + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_quotes_until_they_are_unquoted() {
        let element = br#"for="a\"b";Proto=https"#;
        assert_eq!(parameter(element, b"proto"), Ok(Some(b"https".as_slice())));
        assert_eq!(parameter(element, b"by"), Ok(None));
        let value = parameter(element, b"for").unwrap().unwrap();
        assert_eq!(unquote(value, &mut [0; 8]), Some(br#"a"b"#.as_slice()));
        assert_eq!(unquote(value, &mut [0; 2]), None, "longer than the buffer");
    }
}

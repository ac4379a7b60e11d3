//! Lines of a head, taken one by one as bytes arrive. Every byte is looked at once, however slowly they come.

mod quick;

use memchr::memchr;
use probegate_policies::reason::Reason;

use crate::wire::head::{Field, Name, Span};

/// Where reading of a head stands.
#[derive(Debug, Default)]
pub struct Lines {
    /// Start of the line that is not complete yet.
    start: usize,
    /// Bytes already searched for its end.
    searched: usize,
}

impl Lines {
    /// The next complete line without its CRLF, and its position; `None` when more bytes are needed.
    ///
    /// A line ends with CRLF and nothing else (RFC 9112 §2.2 lets a recipient accept a bare LF; two parties that disagree about it
    /// can be played against each other, so it is refused).
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, InvalidLine> {
        let Some(rest) = bytes.get(self.searched..) else {
            return Ok(None);
        };
        let Some(found) = memchr(b'\n', rest) else {
            self.searched = bytes.len();
            return Ok(None);
        };
        let feed = self.searched + found;
        let start = self.start;
        let end =
            feed.checked_sub(1).filter(|&end| end >= start && bytes.get(end) == Some(&b'\r')).ok_or(InvalidLine)?;
        self.start = feed + 1;
        self.searched = feed + 1;
        Ok(Some((start, end)))
    }

    /// The next line as a field, if it is a valid one, all of it is there, and it ends within the first `most` bytes. What is none is left to [`Self::next`].
    #[inline]
    pub fn field(&mut self, bytes: &[u8], most: usize) -> Option<Field> {
        if self.searched != self.start {
            return None;
        }
        let (field, end) = quick::field(bytes, self.start).filter(|(_, end)| *end <= most)?;
        (self.start, self.searched) = (end, end);
        Some(field)
    }

    /// Takes the line without anything in it, if that is the next one.
    #[inline]
    pub fn empty(&mut self, bytes: &[u8], most: usize) -> bool {
        let end = self.start + 2;
        let is_there = self.searched == self.start && end <= most && bytes.get(self.start..end) == Some(b"\r\n");
        if is_there {
            (self.start, self.searched) = (end, end);
        }
        is_there
    }

    /// Start of the first line that was not taken yet.
    pub fn position(&self) -> usize {
        self.start
    }
}

/// A line that ends with a bare LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLine;

/// Parses `name: value` (RFC 9112 §5). No white space before the colon, no folded lines, no control bytes.
pub fn field(bytes: &[u8], start: usize, end: usize) -> Result<Field, Reason> {
    let line = bytes.get(start..end).unwrap_or_default();
    let colon = line.iter().position(|&byte| !is_token(byte)).filter(|&at| at > 0 && line.get(at) == Some(&b':'));
    let colon = colon.ok_or(Reason::FieldInvalid)?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if !is_field_value(value) {
        return Err(Reason::FieldInvalid);
    }
    let lead = value.iter().take_while(|&&byte| is_blank(byte)).count();
    let trail = value.iter().rev().take_while(|&&byte| is_blank(byte)).count();
    let value_start = start + colon + 1 + lead;
    let value_end = (end - trail).max(value_start);
    Ok(Field {
        name: span(start, start + colon)?,
        value: span(value_start, value_end)?,
        line_end: position(end + 2)?,
        known: Name::of(name),
    })
}

/// A span, where the head is small enough for one.
pub fn span(start: usize, end: usize) -> Result<Span, Reason> {
    Ok(Span { start: position(start)?, end: position(end)? })
}

fn position(at: usize) -> Result<u16, Reason> {
    u16::try_from(at).map_err(|_| Reason::HeadTooLarge)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `tchar` of RFC 9110 §5.6.2.
#[inline]
pub fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Visible ASCII, space, tab and bytes above 0x7f (RFC 9110 §5.5); no NUL, no CR, no other control byte.
pub fn is_field_value(value: &[u8]) -> bool {
    const LOW: u64 = 0x2020_2020_2020_2020;
    const DEL: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const ONE: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = 0x8080_8080_8080_8080;
    let legal = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let (blocks, rest) = value.as_chunks::<8>();
    blocks.iter().all(|block| {
        let word = u64::from_le_bytes(*block);
        // Eight bytes at once: a borrow marks a byte below the space, a zero byte after the exclusive or marks DEL.
        let below = word.wrapping_sub(LOW) & !word & TOP;
        let delete = (word ^ DEL).wrapping_sub(ONE) & !(word ^ DEL) & TOP;
        (below | delete) == 0 || block.iter().all(legal)
    }) && rest.iter().all(legal)
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let char = byte as u8;
        #[expect(clippy::indexing_slicing, reason = "the loop ends at 256")]
        {
            table[byte] = char.is_ascii_alphanumeric()
                || matches!(
                    char,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_9112_2_2_a_bare_lf_is_refused_and_crlf_is_not() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(b"a\r\nb\r"), Ok(Some((0, 1))));
        assert_eq!(lines.next(b"a\r\nb\r"), Ok(None));
        assert_eq!(lines.next(b"a\r\nb\r\n"), Ok(Some((3, 4))));
        assert_eq!(Lines::default().next(b"a\nb\r\n"), Err(InvalidLine));
        assert_eq!(Lines::default().next(b"\n"), Err(InvalidLine));
    }

    #[test]
    fn rfc_9110_5_5_field_values() {
        for good in [&b""[..], b"plain", b"tab\tinside and long enough", b"obs-text \x80\xff here", b"12345678"] {
            assert!(is_field_value(good), "{good:?}");
        }
        for byte in (0..32).chain([127]).filter(|&byte| byte != b'\t') {
            for at in 0..20 {
                let mut value = [b'a'; 20];
                value[at] = byte;
                assert!(!is_field_value(&value), "byte {byte} at {at}");
            }
        }
    }

    #[test]
    fn rfc_9112_5_field_lines() {
        let parse = |line: &str| {
            field(line.as_bytes(), 0, line.len())
                .map(|field| (field.name.of(line.as_bytes()).to_vec(), field.value.of(line.as_bytes()).to_vec()))
        };
        assert_eq!(parse("Host:  a \t"), Ok((b"Host".to_vec(), b"a".to_vec())));
        assert_eq!(parse("Empty:"), Ok((b"Empty".to_vec(), b"".to_vec())));
        assert_eq!(parse("Empty:   "), Ok((b"Empty".to_vec(), b"".to_vec())));
        for bad in ["Host : a", " Host: a", "\tfold", ": a", "Host", "Ho st: a", "Host\0: a", "A: b\rc", "A: \0", ""] {
            assert_eq!(parse(bad), Err(Reason::FieldInvalid), "{bad:?}");
        }
    }
}

//! The field line that nearly all are, read in one pass. Whatever else stands there is left to those who read it line by line, and know what is wrong with it.
//!
//! Invariant: what is read here is read the same there.

use super::{is_blank, is_token, position, span};
use crate::wire::head::{Field, Name};

/// The field line that begins at `start`, if it is a valid one and all of it is there, and where the next line begins.
#[inline]
pub(super) fn field(bytes: &[u8], start: usize) -> Option<(Field, usize)> {
    let line = bytes.get(start..)?;
    let colon = line.iter().position(|&byte| !is_token(byte)).filter(|&at| at > 0)?;
    let (name, rest) = line.split_at(colon);
    let [b':', rest @ ..] = rest else { return None };
    let length = value_length(rest);
    let (value, end) = rest.split_at_checked(length)?;
    // The first byte that no value can hold: anything but the end of the line is somebody else's business.
    if !end.starts_with(b"\r\n") {
        return None;
    }
    let lead = value.iter().take_while(|&&byte| is_blank(byte)).count();
    let trail = value.iter().rev().take_while(|&&byte| is_blank(byte)).count();
    let begins = start + colon + 1;
    let (value_start, line_end) = (begins + lead, begins + length + 2);
    let value_end = (begins + length - trail).max(value_start);
    let field = Field {
        name: span(start, start + colon).ok()?,
        value: span(value_start, value_end).ok()?,
        line_end: position(line_end).ok()?,
        known: Name::of(name),
    };
    Some((field, line_end))
}

/// How many bytes stand before the first that belongs to no value.
#[inline]
fn value_length(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const LOW: u64 = 0x20 * EACH;
    const DEL: u64 = 0x7f * EACH;
    const TOP: u64 = 0x80 * EACH;
    let mut at = 0;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*block);
        // Eight bytes at once: a borrow marks a byte below the space, and the first mark is always right.
        let below = word.wrapping_sub(LOW) & !word;
        let delete = (word ^ DEL).wrapping_sub(EACH) & !(word ^ DEL);
        let marks = (below | delete) & TOP;
        if marks == 0 {
            at += 8;
            continue;
        }
        at += (marks.trailing_zeros() / 8) as usize;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::lines::{self, Lines};

    #[test]
    fn it_reads_what_is_read_line_by_line_and_nothing_else() {
        let mut random = fastrand::Rng::with_seed(7);
        let pieces: [&[u8]; 16] = [
            b"Host",
            b"User-Agent",
            b":",
            b":",
            b": ",
            b"\t",
            b" ",
            b"value",
            b"a-much-longer-value/1.0 (x; y)",
            b"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"\x7f",
            b"\xc3\xbc",
            b"\0",
        ];
        let mut read = 0;
        for _ in 0..200_000 {
            let text: Vec<u8> =
                (0..random.usize(1..9)).flat_map(|_| pieces[random.usize(..pieces.len())]).copied().collect();
            let slow = Lines::default().next(&text).ok().flatten().filter(|(start, end)| start < end);
            let slow = slow.and_then(|(start, end)| Some((lines::field(&text, start, end).ok()?, end + 2)));
            let told = |found: Option<(Field, usize)>| found.map(|(field, next)| format!("{field:?} {next}"));
            read += usize::from(slow.is_some());
            assert_eq!(told(field(&text, 0)), told(slow), "{:?}", String::from_utf8_lossy(&text));
        }
        assert!(read > 1000, "{read}");
    }

    #[test]
    fn values_end_at_the_first_byte_that_is_none_of_theirs() {
        for byte in 0..=u8::MAX {
            for at in 0..20 {
                let mut value = [b'a'; 24];
                value[at] = byte;
                let ends = (byte < b' ' && byte != b'\t') || byte == 0x7f;
                assert_eq!(value_length(&value), if ends { at } else { 24 }, "{byte} at {at}");
                value[at + 2] = b'\r';
                assert_eq!(value_length(&value), if ends { at } else { at + 2 }, "{byte} at {at}");
            }
        }
    }
}

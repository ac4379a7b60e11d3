//! Entity tags (RFC 9110 §8.8.3).

use crate::text::trim_ows;

/// What is known about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub length: u64,
    /// When it was changed last, in seconds since the Unix epoch.
    pub modified: u64,
}

/// A tag with its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    text: [u8; 40],
    length: usize,
}

impl Tag {
    /// The tag of a file: `"mtime-size"` in hexadecimal, as nginx writes it, and behind that the coding of a file that is served in the place of another
    /// one (RFC 9110 §8.8.3.3: two representations must not share a tag).
    pub fn of(meta: &Meta, coding: &str) -> Self {
        let mut tag = Self { text: [0; 40], length: 0 };
        tag.push(b'"');
        tag.hex(meta.modified);
        tag.push(b'-');
        tag.hex(meta.length);
        if !coding.is_empty() {
            tag.push(b'-');
            coding.bytes().for_each(|byte| tag.push(byte));
        }
        tag.push(b'"');
        tag
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn hex(&mut self, number: u64) {
        let digits = 16 - (number | 1).leading_zeros() / 4;
        for at in (0..digits).rev() {
            let digit = u8::try_from(number >> (at * 4) & 0xf).unwrap_or(0);
            self.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

/// Whether a list of tags, or `*`, names the tag of a file, which is strong. `weakly`: a weak tag of the same text counts (RFC 9110 §8.8.3.2).
pub fn is_in(list: &[u8], tag: &[u8], weakly: bool) -> bool {
    let mut rest = trim_ows(list);
    if rest == b"*" {
        return true;
    }
    // A tag may hold a comma: the list is cut at quotes.
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some(close) = quoted.strip_prefix(b"\"").and_then(|inside| memchr::memchr(b'"', inside)) else {
            return false;
        };
        let (found, behind) = quoted.split_at(close + 2);
        if found == tag && (weakly || !weak) {
            return true;
        }
        let behind = trim_ows(behind);
        rest = match behind.strip_prefix(b",") {
            Some(more) => more,
            None if behind.is_empty() => behind,
            None => return false,
        };
        // RFC 9110 §5.6.1: empty elements are ignored.
        while let [b',' | b' ' | b'\t', more @ ..] = rest {
            rest = more;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(modified: u64, length: u64, coding: &str) -> String {
        String::from_utf8(Tag::of(&Meta { length, modified }, coding).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn tags_are_nginx_own() {
        assert_eq!(tag(0x65a1_b2c3, 0x264, ""), "\"65a1b2c3-264\"");
        assert_eq!(tag(0, 0, ""), "\"0-0\"");
        assert_eq!(tag(16, 255, "br"), "\"10-ff-br\"");
        assert_eq!(tag(u64::MAX, u64::MAX, "zst"), format!("\"{0:x}-{0:x}-zst\"", u64::MAX));
    }

    #[test]
    fn rfc_9110_8_8_3_2_lists_and_comparisons() {
        let tag = b"\"a-1\"";
        for (list, strong, weak) in [
            ("\"a-1\"", true, true),
            ("W/\"a-1\"", false, true),
            ("*", true, true),
            (" * ", true, true),
            ("\"x\", \"a-1\"", true, true),
            ("\"x\",\"a-1\"", true, true),
            (", ,\"a-1\",", false, false),
            ("\"x,\", W/\"y\",, \"a-1\" , \"z\"", true, true),
            ("\"a-1", false, false),
            ("a-1", false, false),
            ("w/\"a-1\"", false, false),
            ("\"A-1\"", false, false),
            ("\"x\" \"a-1\"", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (is_in(list.as_bytes(), tag, false), is_in(list.as_bytes(), tag, true)),
                (strong, weak),
                "{list}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_tag_is_hexadecimal(modified in any::<u64>(), length in any::<u64>()) {
            prop_assert_eq!(tag(modified, length, ""), format!("\"{modified:x}-{length:x}\""));
        }

        #[test]
        fn no_list_makes_it_panic(list in "[W/\", *a-]{0,30}") {
            is_in(list.as_bytes(), b"\"a\"", true);
        }
    }
}

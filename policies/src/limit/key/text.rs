//! Values of a request that keys are made of, in the one spelling that counts.

use crate::text::hex_digit;

/// The values of every cookie with this name among the values of a request's `Cookie` fields (RFC 6265 section 5.4). What stands around name and value is dropped
/// wherever any app may drop it: all that is not visible ASCII.
pub fn cookies<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (found, value) = pair.split_at_checked(at)?;
        (bare(found) == name).then(|| bare(value.strip_prefix(b"=").unwrap_or(value)))
    })
}

/// Whether a cookie's value has this spelling only. In quotes, apps read escapes (RFC 2109 section 4.1).
pub fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

fn bare(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && !first.is_ascii_graphic()
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && !last.is_ascii_graphic()
    {
        text = rest;
    }
    text
}

/// The values of every parameter with this name in a query, with or without its `?`: as HTML forms write them, and decoded, so that no other spelling of a value
/// is another value.
pub fn query_values<'a>(query: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Decoded<'a>> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    query.split(|byte| *byte == b'&').filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (found, value) = pair.split_at_checked(at)?;
        Decoded(found).eq(name.iter().copied()).then(|| Decoded(value.strip_prefix(b"=").unwrap_or(value)))
    })
}

/// A text without its percent-encoding, and with spaces for `+`. What is no escape stands for itself.
#[derive(Clone, Debug)]
pub struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(match (first, rest) {
            (b'+', _) => b' ',
            (b'%', [high, low, rest @ ..]) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => {
                    self.0 = rest;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str, name: &str) -> Vec<String> {
        let values = query_values(query.as_bytes(), name.as_bytes());
        values.map(|value| String::from_utf8(value.collect()).unwrap()).collect()
    }

    #[test]
    fn a_value_has_one_spelling() {
        assert_eq!(of("?q=a%62c&x=1", "q"), ["abc"]);
        assert_eq!(of("q=a+b&%71=a%20b&q=a%2bb", "q"), ["a b", "a b", "a+b"]);
        assert_eq!(of("?q=&q&qq=1&=2", "q"), ["", ""]);
        assert_eq!(of("?q=%&q=%4&q=%zz&q=a=b", "q"), ["%", "%4", "%zz", "a=b"]);
        assert_eq!(of("", "q"), [""; 0]);
        assert_eq!(of("?a%3d=1", "a="), ["1"]);
    }

    #[test]
    fn every_cookie_of_a_name_is_found() {
        let fields = [&b"a=1; b=2"[..], b"ab=3;a=4", b"a", b"A=5"];
        let found: Vec<_> = cookies(fields.into_iter(), b"a").collect();
        assert_eq!(found, [b"1", b"4"]);
        let spaced: Vec<_> = cookies([&b"a =1;\ta= 2 ;\xc2\xa0a=3\xc2\xa0; a=4=5"[..]].into_iter(), b"a").collect();
        assert_eq!(spaced, [&b"1"[..], b"2", b"3", b"4=5"]);
    }
}

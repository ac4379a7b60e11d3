//! Small pieces of text handling that several rules share. None of them allocates, besides growing `out`.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// Cuts optional whitespace (RFC 9110 section 5.6.3: SP and HTAB, nothing else) from both ends.
#[inline]
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1).
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// The weight among the parameters of an element (RFC 9110 section 12.4.2), in thousandths. One that can not be read is none: nothing is
/// forced upon a client that may have meant to refuse it.
pub(crate) fn quality<'v>(parameters: impl Iterator<Item = &'v [u8]>) -> u16 {
    for parameter in parameters {
        let [b'q' | b'Q', rest @ ..] = parameter else { continue };
        let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else { continue };
        let (whole, fraction) = match value.trim_ascii() {
            [whole, b'.', fraction @ ..] => (*whole, fraction),
            [whole] => (*whole, &[][..]),
            _ => return 0,
        };
        if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
            return 0;
        }
        let places = [100, 10, 1];
        let part: u16 = fraction.iter().zip(places).map(|(digit, place)| u16::from(digit - b'0') * place).sum();
        return match whole {
            b'0' => part,
            b'1' if part == 0 => 1000,
            _ => 0,
        };
    }
    1000
}

/// The value of one hexadecimal digit.
#[inline]
pub(crate) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A port as RFC 3986 section 3.2.3 writes it, except that at least one digit is required.
#[inline]
pub(crate) fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let mut port = 0u32;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        port = port * 10 + u32::from(byte - b'0');
    }
    u16::try_from(port).ok()
}

/// Appends `number` in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut rest = number;
    let mut start = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// Writes an octet in decimal, and says how many digits it has. They are the first of three.
const fn octet(number: u8) -> ([u8; 3], usize) {
    let [hundreds, tens, ones] = [b'0' + number / 100, b'0' + number / 10 % 10, b'0' + number % 10];
    match number {
        100.. => ([hundreds, tens, ones], 3),
        10.. => ([tens, ones, b'0'], 2),
        _ => ([ones, b'0', b'0'], 1),
    }
}

/// Appends four lower-case hexadecimal digits.
pub(crate) fn push_hex4(out: &mut Vec<u8>, number: u16) {
    for shift in [12, 8, 4, 0] {
        let digit = (number >> shift) & 0xf;
        out.extend(char::from_digit(digit.into(), 16).and_then(|c| u8::try_from(c).ok()));
    }
}

/// Appends an address in its canonical text (RFC 5952 for IPv6).
pub fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            // Put together beside `out`, which grows once: every request carries an address or two.
            let (mut text, mut len) = ([b'.'; 16], 0);
            for number in v4.octets() {
                let (digits, count) = octet(number);
                if let Some(place) = text.get_mut(len..len + 3) {
                    place.copy_from_slice(&digits);
                }
                len += count;
                if let Some(dot) = text.get_mut(len) {
                    *dot = b'.';
                }
                len += 1;
            }
            out.extend_from_slice(text.get(..len - 1).unwrap_or_default());
        }
        IpAddr::V6(v6) => {
            // Writing into a Vec cannot fail, and without a width std formats straight into the sink.
            let _ = write!(Sink(out), "{v6}");
        }
    }
}

struct Sink<'a>(&'a mut Vec<u8>);

impl fmt::Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_addresses_read_as_std_writes_them() {
        for number in [0, 7, 10, 255, 65_535, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for text in
            ["0.0.0.0", "192.0.2.10", "10.0.100.9", "255.255.255.255", "::1", "2001:db8::1", "2001:db8:1:2:3:4:5:6"]
        {
            let mut out = Vec::new();
            push_ip(&mut out, text.parse().unwrap());
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn ports_are_digits_up_to_65535() {
        let cases: [(&[u8], Option<u16>); 8] = [
            (b"0", Some(0)),
            (b"80", Some(80)),
            (b"65535", Some(65_535)),
            (b"65536", None),
            (b"", None),
            (b"+80", None),
            (b"-1", None),
            (b"000080", None),
        ];
        for (digits, expected) in cases {
            assert_eq!(parse_port(digits), expected, "{digits:?}");
        }
    }

    #[test]
    fn only_space_and_tab_are_optional_whitespace() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b" \t "), b"");
        assert_eq!(trim_ows(b"\x0ba\xc2\xa0"), b"\x0ba\xc2\xa0");
    }
}

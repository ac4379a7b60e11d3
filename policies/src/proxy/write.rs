//! Writing version 2 (section 2.2 of the specification). Version 1 says no more and is slower to read.

use std::net::{IpAddr, SocketAddr};

use super::{Header, LOCAL, PROXY, SIGNATURE, TCP4, TCP6};

/// Signature, command, family, length; then two IPv6 addresses and two ports.
const MOST: usize = 16 + 36;

/// A header as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    bytes: [u8; MOST],
    length: usize,
}

impl Written {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(part) {
            *to = *from;
            self.length += 1;
        }
    }
}

/// The header that says this. Where one address is IPv4 and the other IPv6, both are told as IPv6 (RFC 4291 section 2.5.5.2): a header has
/// one family.
pub fn write(header: &Header) -> Written {
    let mut out = Written { bytes: [0; MOST], length: 0 };
    out.push(&SIGNATURE);
    match header {
        // UNSPEC, and nothing behind it.
        Header::Own => out.push(&[LOCAL, 0, 0, 0]),
        Header::Relayed { source, destination } => relayed(&mut out, *source, *destination),
    }
    out
}

fn relayed(out: &mut Written, source: SocketAddr, destination: SocketAddr) {
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.push(&[PROXY, TCP4, 0, 12]);
            out.push(&from.octets());
            out.push(&to.octets());
        }
        (from, to) => {
            let wide = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.push(&[PROXY, TCP6, 0, 36]);
            out.push(&wide(from));
            out.push(&wide(to));
        }
    }
    out.push(&source.port().to_be_bytes());
    out.push(&destination.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relayed(source: &str, destination: &str) -> Header {
        Header::Relayed { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn section_2_2_byte_for_byte() {
        let cases: [(Header, &[&[u8]]); 3] = [
            (Header::Own, &[b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A", b"\x20\x00\x00\x00"]),
            (
                relayed("192.0.2.7:51000", "198.51.100.2:443"),
                &[
                    b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A",
                    b"\x21\x11\x00\x0C",
                    b"\xC0\x00\x02\x07",
                    b"\xC6\x33\x64\x02",
                    b"\xC7\x38\x01\xBB",
                ],
            ),
            (
                relayed("[2001:db8::7]:1", "192.0.2.1:80"),
                &[
                    b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A",
                    b"\x21\x21\x00\x24",
                    b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07",
                    b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xC0\x00\x02\x01",
                    b"\x00\x01\x00\x50",
                ],
            ),
        ];
        for (header, expected) in cases {
            assert_eq!(write(&header).as_bytes(), expected.concat(), "{header:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for header in [
            Header::Own,
            relayed("192.0.2.7:51000", "198.51.100.2:443"),
            relayed("[2001:db8::7]:0", "[2001:db8::1]:443"),
            relayed("[2001:db8::7]:1", "192.0.2.1:80"),
        ] {
            let written = write(&header);
            let parsed = super::super::parse(written.as_bytes());
            assert_eq!(parsed, Ok(Some((header, written.as_bytes().len()))), "{header:?}");
        }
    }
}

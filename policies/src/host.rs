//! Which site a request is for: the authority it names, and a table of host names.

mod table;

use std::net::Ipv6Addr;

pub use table::{DuplicateHost, HostPattern, HostTable};

use crate::text::parse_port;

/// A host and an optional port (RFC 3986 section 3.2, without user information).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// As sent, without the port; an IPv6 address keeps its brackets.
    pub host: &'a [u8],
    /// The port, if one was sent.
    pub port: Option<u16>,
}

/// Why bytes are no authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// No host, or a label of no length.
    #[error("the host, or a label of it, is empty")]
    Empty,
    /// `user@host`: never sent to servers by honest clients, and read differently by different ones.
    #[error("the host holds user information")]
    UserInformation,
    /// Outside the characters of a registered name. Percent-encoding is refused as well: it would give one host two
    /// spellings.
    #[error("the host holds a character that does not belong")]
    Character,
    /// Brackets around something that is no IPv6 address, or not closed.
    #[error("the host is no IPv6 address in brackets")]
    Literal,
    /// Not a number from 0 to 65535.
    #[error("the port is not a number up to 65535")]
    Port,
}

/// Reads the value of `Host`, or the authority of an absolute target.
#[inline]
pub fn parse_authority(bytes: &[u8]) -> Result<Authority<'_>, InvalidHost> {
    let (host, after) = if let [b'[', rest @ ..] = bytes {
        let close = memchr::memchr(b']', rest).ok_or(InvalidHost::Literal)?;
        let inside = str::from_utf8(rest.get(..close).unwrap_or_default());
        inside.ok().and_then(|text| text.parse::<Ipv6Addr>().ok()).ok_or(InvalidHost::Literal)?;
        bytes.split_at_checked(close + 2).ok_or(InvalidHost::Literal)?
    } else {
        let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        let (host, after) = bytes.split_at_checked(end).unwrap_or_default();
        check_name(host)?;
        (host, after)
    };
    let port = match after {
        [] => None,
        [b':', digits @ ..] => Some(parse_port(digits).ok_or_else(|| port_error(digits))?),
        _ => return Err(InvalidHost::Literal),
    };
    Ok(Authority { host, port })
}

/// `user:password@host` looks like a host with a bad port until its `@`.
#[cold]
fn port_error(digits: &[u8]) -> InvalidHost {
    if memchr::memchr(b'@', digits).is_some() { InvalidHost::UserInformation } else { InvalidHost::Port }
}

/// A registered name or an IPv4 address: non-empty labels, and one trailing dot at most.
#[inline]
fn check_name(host: &[u8]) -> Result<(), InvalidHost> {
    // As if a dot stood before the name: a leading one ends an empty label too.
    let mut previous = b'.';
    for &byte in host {
        if byte == b'.' && previous == b'.' {
            return Err(InvalidHost::Empty);
        }
        if !NAME_BYTES.get(usize::from(byte)).copied().unwrap_or_default() {
            return Err(if byte == b'@' { InvalidHost::UserInformation } else { InvalidHost::Character });
        }
        previous = byte;
    }
    if host.is_empty() { Err(InvalidHost::Empty) } else { Ok(()) }
}

/// [`is_name_byte`] for each byte.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 255 {
        #[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
        {
            table[byte as usize] = is_name_byte(byte);
        }
        byte += 1;
    }
    table
};

/// `unreserved` and `sub-delims` of RFC 3986 section 2.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests;

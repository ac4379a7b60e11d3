//! Reading a PROXY protocol header, however its bytes arrive.
//!
//! Invariant: the answer for the first bytes of a header never contradicts the answer for more of them. What can not become a header any
//! more is refused at once, so that a client that speaks something else is not waited for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Header, LOCAL, PROXY, SIGNATURE, TCP4, TCP6, TLV_CRC32C, crc32c};
use crate::ip;

/// A header in the text form, its line end included, is never longer: no two addresses need more.
const MAX_LINE: usize = 107;

/// The longest header in the binary form that is taken. The format allows 64 KiB; load balancers send some hundred bytes.
pub const MAX_LENGTH: usize = 4096;

/// The fixed part of the binary form.
const FIXED: usize = SIGNATURE.len() + 4;

/// These bytes are not the beginning of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid PROXY protocol header")]
pub struct Invalid;

/// Reads a header from the first bytes of a connection, and tells how many of them belong to it. `None`: more bytes are needed.
///
/// # Errors
/// The bytes are not a header, whatever may follow them.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => text(bytes),
        Some(_) => binary(bytes),
    }
}

/// Whether `bytes` begin with `word`; `None`: they do as far as they go.
fn begins(bytes: &[u8], word: &[u8]) -> Result<Option<()>, Invalid> {
    let both = bytes.len().min(word.len());
    if bytes.get(..both) != word.get(..both) {
        return Err(Invalid);
    }
    Ok((both == word.len()).then_some(()))
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and CRLF.
fn text(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    let head = bytes.get(..MAX_LINE).unwrap_or(bytes);
    if begins(head, b"PROXY ")?.is_none() {
        return Ok(None);
    }
    let after = head.get(6..).unwrap_or_default();
    // Which family it is shows in the fourth byte.
    let (unknown, v4) = match after {
        [b'U', ..] => (begins(after, b"UNKNOWN")?, false),
        [b'T', b'C', b'P', b'4', ..] => (None, true),
        _ => {
            if begins(after, b"TCP6")?.is_none() {
                return Ok(None);
            }
            (None, false)
        }
    };
    if matches!(after, [b'U', ..]) && unknown.is_none() {
        return Ok(None);
    }
    let Some(end) = head.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        // Nothing but text so far, which may go on for as long as a line may be.
        let hopeless = bytes.len() >= MAX_LINE || unknown.is_none() && fields(after, v4, false).is_err();
        return if hopeless { Err(Invalid) } else { Ok(None) };
    };
    let line = after.get(..end - 6).ok_or(Invalid)?;
    let header = match unknown {
        // What follows the word is ignored, as long as it is apart from it.
        Some(()) if matches!(line.get(7), None | Some(b' ')) => Header::Own,
        Some(()) => return Err(Invalid),
        None => fields(line, v4, true)?,
    };
    // The line first: what was refused before its CR came must not be waited for again when it is there.
    match head.get(end..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(Some((header, end + 2))),
        [b'\r'] if head.len() < MAX_LINE => Ok(None),
        _ => Err(Invalid),
    }
}

/// The fields of a line from the family on. Where the line is not `complete` yet, its last field may be anything.
fn fields(line: &[u8], v4: bool, complete: bool) -> Result<Header, Invalid> {
    let nobody = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let mut words = line.split(|&byte| byte == b' ');
    let count = words.clone().count();
    // One space between two words, none at the end.
    if count > 5 || complete && count != 5 {
        return Err(Invalid);
    }
    let (mut addresses, mut ports) = ([nobody; 2], [0; 2]);
    words.next();
    for (index, word) in words.enumerate() {
        let open = !complete && index + 2 == count;
        match (addresses.get_mut(index), index.checked_sub(2).and_then(|index| ports.get_mut(index))) {
            (Some(slot), _) if !open => *slot = address(word, v4).ok_or(Invalid)?,
            (_, Some(slot)) if !open => *slot = port(word).ok_or(Invalid)?,
            // No address and no port has other characters, or more of them.
            _ if word.len() > 45
                || !word.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')) =>
            {
                return Err(Invalid);
            }
            _ => {}
        }
    }
    let [source, destination] = [0, 1].map(|index| {
        let (ip, port) = (addresses.get(index).copied(), ports.get(index).copied());
        SocketAddr::new(ip.unwrap_or(nobody), port.unwrap_or_default())
    });
    if complete { relayed(source, destination) } else { Ok(Header::Own) }
}

/// An address of the family that was named, in its ordinary spelling.
fn address(word: &[u8], v4: bool) -> Option<IpAddr> {
    let ip: IpAddr = str::from_utf8(word).ok()?.parse().ok()?;
    (ip.is_ipv4() == v4).then_some(ip)
}

/// A decimal number up to 65535 without leading zeros.
fn port(word: &[u8]) -> Option<u16> {
    let plain = word.iter().all(u8::is_ascii_digit) && (word.len() == 1 || word.first() != Some(&b'0'));
    str::from_utf8(word).ok()?.parse().ok().filter(|_| plain)
}

/// The one spelling of both ends. Nobody connects from the unspecified address.
fn relayed(source: SocketAddr, destination: SocketAddr) -> Result<Header, Invalid> {
    let [source, destination] =
        [source, destination].map(|address| SocketAddr::new(ip::canonical(address.ip()), address.port()));
    if source.ip().is_unspecified() {
        return Err(Invalid);
    }
    Ok(Header::Relayed { source, destination })
}

/// Version 2: the signature, version and command, family and transport, the length of what follows, addresses, additional values.
fn binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    if begins(bytes, &SIGNATURE)?.is_none() {
        return Ok(None);
    }
    let fixed = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    let (command, family) = (fixed.first(), fixed.get(1));
    if command.is_some_and(|command| !matches!(*command, LOCAL | PROXY)) {
        return Err(Invalid);
    }
    // A LOCAL header means the same whatever it says about addresses. Datagrams do not arrive over TCP.
    let addresses = match (command, family) {
        (Some(&LOCAL), Some(_)) | (_, Some(0x00)) => 0,
        (_, Some(&TCP4)) => 12,
        (_, Some(&TCP6)) => 36,
        (_, Some(0x31)) => 216,
        (_, Some(_)) => return Err(Invalid),
        (_, None) => return Ok(None),
    };
    let &[_, _, high, low, ..] = fixed else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > MAX_LENGTH || length < addresses {
        return Err(Invalid);
    }
    let Some(header) = bytes.get(..FIXED + length) else { return Ok(None) };
    let block = header.get(FIXED..).unwrap_or_default();
    if command == Some(&LOCAL) {
        return Ok(Some((Header::Own, header.len())));
    }
    checked(header, FIXED + addresses)?;
    let header = match addresses {
        12 => pair::<4, _>(block, IpAddr::from)?,
        36 => pair::<16, _>(block, IpAddr::from)?,
        // Unspecified, or a Unix socket: there is no address to go by.
        _ => Header::Own,
    };
    Ok(Some((header, FIXED + length)))
}

/// Two addresses and two ports.
fn pair<const N: usize, F: Fn([u8; N]) -> IpAddr>(block: &[u8], ip: F) -> Result<Header, Invalid> {
    let (source, rest) = block.split_first_chunk::<N>().ok_or(Invalid)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Invalid)?;
    let &[a, b, c, d, ..] = rest else { return Err(Invalid) };
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    relayed(SocketAddr::new(ip(*source), from), SocketAddr::new(ip(*destination), to))
}

/// Walks the additional values that begin at `at`: they must fill the header to its end, and a checksum among them must be right.
fn checked(header: &[u8], mut at: usize) -> Result<(), Invalid> {
    let mut summed = false;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..).and_then(<[u8]>::first_chunk) else { return Err(Invalid) };
        let begin = at + 3;
        at = begin + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(begin..at).ok_or(Invalid)?;
        if kind == TLV_CRC32C {
            let sum = u32::from_be_bytes(value.try_into().map_err(|_| Invalid)?);
            let (before, after) = (header.get(..begin).unwrap_or_default(), header.get(at..).unwrap_or_default());
            // The checksum is taken with zeros in its own place. A second one would have been taken with zeros there as well.
            if summed || crc32c([before, &[0; 4], after]) != sum {
                return Err(Invalid);
            }
            summed = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

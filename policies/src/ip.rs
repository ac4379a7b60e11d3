//! Addresses: one spelling for each, strict parsing, networks and sets of them.
//!
//! Invariant: an address that left this module is canonical. A dual-stack socket reports an IPv4 peer as
//! `::ffff:a.b.c.d`, and an address with two spellings matches only half of the rules (D3).

mod set;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use set::IpSet;

use crate::text::parse_port;
pub use crate::text::push_ip;

/// The one spelling of an address: `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2) becomes `a.b.c.d`.
#[inline]
pub const fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A textual address without port, brackets or zone, canonicalised.
///
/// Refuses leading zeros (octal to some readers) and the unspecified address, which can be nobody's.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<IpAddr> {
    // The longest spelling is "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".
    if bytes.len() > 45 {
        return None;
    }
    let ip = canonical(str::from_utf8(bytes).ok()?.parse().ok()?);
    (!ip.is_unspecified()).then_some(ip)
}

/// An address as proxies write it: `ip`, `ip:port`, `[v6]` or `[v6]:port`. The port is checked and dropped.
#[inline]
pub fn parse_node(bytes: &[u8]) -> Option<IpAddr> {
    if let Some(rest) = bytes.strip_prefix(b"[") {
        let close = memchr::memchr(b']', rest)?;
        let (inside, after) = (rest.get(..close)?, rest.get(close + 1..)?);
        // Only IPv6 stands in brackets, and `[10.0.0.1]` would otherwise be a second spelling of 10.0.0.1.
        memchr::memchr(b':', inside)?;
        match after {
            [] => {}
            [b':', port @ ..] => {
                parse_port(port)?;
            }
            _ => return None,
        }
        return parse(inside);
    }
    // With exactly one colon it is IPv4 and a port; IPv6 has at least two.
    match memchr::memchr(b':', bytes) {
        Some(colon) if memchr::memrchr(b':', bytes) == Some(colon) => {
            parse_port(bytes.get(colon + 1..)?)?;
            parse(bytes.get(..colon)?)
        }
        _ => parse(bytes),
    }
}

/// What RFC 6052 section 2.1 puts in front of an IPv4 address: `64:ff9b::/96`.
const TRANSLATED: u128 = 0x0064_ff9b << 96;

/// The IPv6 address that a translator (NAT64) gives to an IPv4 one.
pub const fn translated(v4: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(TRANSLATED | v4.to_bits() as u128)
}

/// Who is behind an address, where clients are told apart: behind a translator, all of IPv4 comes from one network of 64 bits. Never for rules about who
/// may enter: an address does not become an internal one by being written so.
#[inline]
pub const fn behind(ip: IpAddr) -> IpAddr {
    match canonical(ip) {
        #[expect(clippy::cast_possible_truncation, reason = "the lower 32 bits are meant")]
        IpAddr::V6(v6) if v6.to_bits() >> 32 == TRANSLATED >> 32 => {
            IpAddr::V4(Ipv4Addr::from_bits(v6.to_bits() as u32))
        }
        ip => ip,
    }
}

/// Whether it belongs to `64:ff9b:1::/48` (RFC 8215): translated by whoever runs the network, and nobody else knows which bits tell clients apart.
#[inline]
pub const fn is_locally_translated(v6: Ipv6Addr) -> bool {
    matches!(v6.segments(), [0x64, 0xff9b, 1, ..])
}

/// The network an address belongs to, named by its first address: what one household or one host controls.
/// Prefixes longer than the address count as whole addresses. IPv4 behind a translator counts as IPv4.
#[inline]
pub fn group(ip: IpAddr, v4_prefix: u8, v6_prefix: u8) -> IpAddr {
    match behind(ip) {
        IpAddr::V6(v6) if is_locally_translated(v6) => v6.into(),
        IpAddr::V4(v4) => {
            let host_bits = 32 - u32::from(v4_prefix.min(32));
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let host_bits = 128 - u32::from(v6_prefix.min(128));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// A network as an operator writes it: `10.0.0.0/8`, `::1/128`, or a bare address for itself alone.
///
/// An IPv4-mapped network with a prefix of at least 96 becomes the IPv4 network it means. Host bits are an error
/// with the corrected network as its hint: guessing whether `10.1.2.3/8` means a host or a network is how one typing
/// mistake empties or opens a list (D4).
pub fn parse_net(text: &str) -> Result<IpNet, InvalidNet> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| InvalidNet::Syntax)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(longest), parse_prefix)?;
    if prefix > longest {
        return Err(InvalidNet::PrefixTooLong);
    }
    let (address, prefix) = match address {
        IpAddr::V6(v6) => unmap(v6, prefix)?,
        IpAddr::V4(_) => (address, prefix),
    };
    let net = IpNet::new(address, prefix).map_err(|_| InvalidNet::PrefixTooLong)?;
    if net.trunc() == net { Ok(net) } else { Err(InvalidNet::HostBits { suggestion: net.trunc() }) }
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNet {
    /// Neither an address nor an address, a slash and a prefix length.
    #[error("not an IP network, such as 10.0.0.0/8 or 2001:db8::/32")]
    Syntax,
    /// The address has bits behind the prefix (D4).
    #[error("the address has bits set behind its prefix length, did you mean {suggestion}")]
    HostBits {
        /// The network without them.
        suggestion: IpNet,
    },
    /// More than 32 bits for IPv4 or 128 for IPv6.
    #[error("the prefix length is longer than the address")]
    PrefixTooLong,
    /// An IPv4-mapped address whose prefix reaches beyond the mapped range: half IPv4 and half nothing.
    #[error("an IPv4-mapped network needs a prefix length of at least 96; write the IPv4 network instead")]
    V4Mapped,
}

fn parse_prefix(digits: &str) -> Result<u8, InvalidNet> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    match digits.parse() {
        Ok(prefix) if plain => Ok(prefix),
        Err(_) if plain && digits.len() >= 3 => Err(InvalidNet::PrefixTooLong),
        _ => Err(InvalidNet::Syntax),
    }
}

fn unmap(v6: Ipv6Addr, prefix: u8) -> Result<(IpAddr, u8), InvalidNet> {
    match v6.to_ipv4_mapped() {
        None => Ok((v6.into(), prefix)),
        Some(v4) if prefix >= 96 => Ok((v4.into(), prefix - 96)),
        Some(_) => Err(InvalidNet::V4Mapped),
    }
}

#[cfg(test)]
mod tests;

//! The trusted proxies that a request came through.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::MAX_ENTRIES;

/// Trusted proxies, nearest first: the peer, then the entries of its forwarding field from the right.
///
/// At most 32, kept in place: the peer and 31 entries, since the entry that ends the walk is the client and no hop.
#[derive(Clone)]
pub struct Hops {
    addresses: [IpAddr; MAX_ENTRIES],
    len: usize,
}

impl Hops {
    /// No hops.
    pub const fn new() -> Self {
        Self { addresses: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); MAX_ENTRIES], len: 0 }
    }

    /// Forgets all hops.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The hops, nearest first.
    #[inline]
    pub fn as_slice(&self) -> &[IpAddr] {
        self.addresses.get(..self.len).unwrap_or_default()
    }

    /// Adds the next hop outwards. The walk ends before there could be one too many.
    #[inline]
    pub(super) fn push(&mut self, ip: IpAddr) {
        if let Some(slot) = self.addresses.get_mut(self.len) {
            *slot = ip;
            self.len += 1;
        }
    }
}

impl Default for Hops {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

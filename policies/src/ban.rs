//! Bans: clients that offend too often in some time stay out for a while, for longer each time.
//!
//! Three parts, each bounded by the configuration and not by the number of clients: a [`Ledger`] of offences, a [`Book`] of who is banned and was, and
//! [`Doors`], the one that requests look at, without a lock.
//!
//! Invariant: only what is a [`Client`] can be banned, and a client of IPv6 is a whole network of 64 bits. Whoever may never be banned must not
//! lie in such a network either, see [`Client::network`].

mod book;
mod clock;
mod doors;
mod escalation;
mod ledger;
mod offence;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use book::{AHEAD, Ban, Book, Cause, Page};
pub use clock::Clock;
pub use doors::Doors;
pub use escalation::Escalation;
pub use ledger::{Ledger, LedgerStats, Outcome};
pub use offence::Offence;

use crate::ip::{behind, is_locally_translated, translated};

/// Whom a ban is about: an IPv4 address, or the 64 bits of an IPv6 address that one customer has.
///
/// The leading bits of an IPv6 address, or 32 ones and the IPv4 address behind them: those would be a multicast network, which no client has. Unlike a
/// hash it can be read back, so that people see whom they have banned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(NonZeroU64);

const V4: u64 = 0xffff_ffff << 32;

impl Client {
    /// The client with this address. `None`: it is nobody's on a network (`::1`, multicast), or stands for who knows how many (`64:ff9b:1::/48`), and can
    /// not be banned. Behind a translator (`64:ff9b::/96`), it is the IPv4 address.
    #[inline]
    pub fn of(ip: IpAddr) -> Option<Self> {
        let bits = match behind(ip) {
            IpAddr::V4(v4) => V4 | u64::from(v4.to_bits()),
            IpAddr::V6(v6) if v6.is_multicast() || is_locally_translated(v6) => return None,
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        NonZeroU64::new(bits).map(Self)
    }

    /// All its addresses.
    pub fn network(self) -> IpNet {
        let bits = self.0.get();
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        if bits & V4 == V4 {
            Ipv4Net::from(Ipv4Addr::from_bits(bits as u32)).into()
        } else {
            let address = Ipv6Addr::from_bits(u128::from(bits) << 64);
            // 64 is a prefix of 128 bits, whatever the address.
            Ipv6Net::new(address, 64).unwrap_or_else(|_| Ipv6Net::from(address)).into()
        }
    }

    /// Where an IPv4 client is as well, behind a translator.
    pub fn translated(self) -> Option<IpNet> {
        match self.network() {
            IpNet::V4(net) => Some(IpNet::from(IpAddr::from(translated(net.addr())))),
            IpNet::V6(_) => None,
        }
    }

    #[inline]
    pub(self) const fn bits(self) -> u64 {
        self.0.get()
    }

    #[inline]
    pub(self) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }
}

/// An IPv4 address, or an IPv6 network.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network() {
            IpNet::V4(net) => net.addr().fmt(f),
            IpNet::V6(net) => net.fmt(f),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;

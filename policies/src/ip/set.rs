//! A set of addresses, compiled once from networks and asked for every request.
//!
//! Sorted disjoint ranges and a binary search: logarithmic for a block list of 100,000 networks, a few comparisons for
//! the usual ten, no pointer chasing. Invariant: ranges do not overlap or touch, so one comparison decides.

use std::net::IpAddr;

use ipnet::IpNet;

use super::canonical;

/// An immutable set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpSet {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl IpSet {
    /// The addresses of all the networks. They may overlap and come in any order.
    ///
    /// IPv4-mapped networks count as the IPv4 networks they mean; `::/0` does not cover IPv4.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match bounds(net) {
                Bounds::V4(range) => v4.push(range),
                Bounds::V6(range) => v6.push(range),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }

    /// The set that contains nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether an address, in any spelling, is in the set.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical(ip) {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// An address that is in both sets, the lowest one.
    pub fn intersects(&self, other: &Self) -> Option<IpAddr> {
        let v4 = self.v4.intersects(&other.v4).map(|bits| IpAddr::V4(bits.into()));
        v4.or_else(|| self.v6.intersects(&other.v6).map(|bits| IpAddr::V6(bits.into())))
    }

    /// Whether every address of the network is in the set.
    pub fn covers(&self, net: &IpNet) -> bool {
        match bounds(*net) {
            Bounds::V4(range) => self.v4.covers(range),
            Bounds::V6(range) => self.v6.covers(range),
        }
    }

    /// Whether any address of the network is in the set.
    pub fn touches(&self, net: &IpNet) -> bool {
        match bounds(*net) {
            Bounds::V4(range) => self.v4.touches(range),
            Bounds::V6(range) => self.v6.touches(range),
        }
    }

    /// Whether every IPv4 address is in the set, by one network or by many: nearly always a mistake in a list of
    /// trusted proxies.
    pub fn covers_everything_v4(&self) -> bool {
        self.v4.covers((0, u32::MAX))
    }
}

impl FromIterator<IpNet> for IpSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        Self::new(nets)
    }
}

enum Bounds {
    V4((u32, u32)),
    V6((u128, u128)),
}

/// The first and the last address of a network, in the family that it is asked in.
fn bounds(net: IpNet) -> Bounds {
    match (canonical(net.network()), canonical(net.broadcast())) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Bounds::V4((first.to_bits(), last.to_bits())),
        _ => match net {
            IpNet::V4(v4) => Bounds::V4((v4.network().to_bits(), v4.broadcast().to_bits())),
            IpNet::V6(v6) => Bounds::V6((v6.network().to_bits(), v6.broadcast().to_bits())),
        },
    }
}

/// Sorted disjoint inclusive ranges with a gap between any two.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T>(Box<[(T, T)]>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Ord + Copy + Successor> Ranges<T> {
    fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                // A range that ends at the last address of all has no successor and swallows everything after it.
                Some((_, end)) if end.successor().is_none_or(|next| first <= next) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    #[inline]
    fn contains(&self, bits: T) -> bool {
        self.covers((bits, bits))
    }

    #[inline]
    fn covers(&self, (first, last): (T, T)) -> bool {
        // The only range that can cover it is the last one that starts at or before it.
        let after = self.0.partition_point(|&(start, _)| start <= first);
        let candidate = after.checked_sub(1).and_then(|index| self.0.get(index));
        candidate.is_some_and(|&(_, end)| last <= end)
    }

    fn touches(&self, (first, last): (T, T)) -> bool {
        // Only the last range that starts before it ends can reach into it.
        let after = self.0.partition_point(|&(start, _)| start <= last);
        let candidate = after.checked_sub(1).and_then(|index| self.0.get(index));
        candidate.is_some_and(|&(_, end)| end >= first)
    }

    fn intersects(&self, other: &Self) -> Option<T> {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a, a_end)), Some(&&(b, b_end))) = (left.peek(), right.peek()) {
            let low = a.max(b);
            if low <= a_end.min(b_end) {
                return Some(low);
            }
            // The range that ends first cannot meet anything further on.
            if a_end < b_end {
                left.next()
            } else {
                right.next()
            };
        }
        None
    }
}

trait Successor: Sized {
    fn successor(self) -> Option<Self>;
}

impl Successor for u32 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Successor for u128 {
    fn successor(self) -> Option<Self> {
        self.checked_add(1)
    }
}

#[cfg(test)]
mod tests;

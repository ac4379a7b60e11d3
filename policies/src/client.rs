//! Who the client is: the peer itself, or the address that trusted proxies vouch for.
//!
//! The list in the forwarding field is walked from the right, because every proxy appends on the right: the first
//! address that is not a trusted proxy was written by one, and everything further left was written by whoever that
//! client is. Invariant: those entries are never parsed, so garbage there changes nothing (RFC 7239 section 8.1), and
//! an entry that is reached and cannot be read never turns into the proxy's own address (D1): the identity is then
//! [`Identity::Unknown`].

mod forwarded;
mod hops;
mod identity;
mod walk;

use std::net::IpAddr;

pub use hops::Hops;
pub use identity::{Identity, Known, Source, Unknown, UnknownReason};

pub(crate) use forwarded::{last_element, parameter, unquote};

use crate::fields::{FieldName, Fields, Only};
use crate::ip::{self, IpSet};
use crate::text::trim_ows;
use walk::Walk;

/// Entries of the list that are walked at most.
pub const MAX_ENTRIES: usize = 32;

/// Bytes of the list that are walked at most, separators and empty elements included.
pub const MAX_BYTES: usize = 4096;

/// Where trusted proxies write the client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardingField {
    /// The list of `X-Forwarded-For`.
    XForwardedFor,
    /// The `for` parameters of `Forwarded` (RFC 7239).
    Forwarded,
    /// A field with one address, such as `X-Real-IP`: exactly one line with exactly one node.
    Single(FieldName),
}

impl ForwardingField {
    /// The name of the field.
    pub fn name(&self) -> &FieldName {
        static X_FORWARDED_FOR: FieldName = FieldName::from_static("x-forwarded-for");
        static FORWARDED: FieldName = FieldName::from_static("forwarded");
        match self {
            Self::XForwardedFor => &X_FORWARDED_FOR,
            Self::Forwarded => &FORWARDED,
            Self::Single(name) => name,
        }
    }
}

/// Who the client is when a trusted proxy sent no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nobody knows; network rules refuse.
    Unknown,
    /// The proxy itself: for setups in which probes come straight from a trusted network.
    Peer,
}

/// The proxies whose word about a client is believed, and the field they write it to.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    trusted: IpSet,
    field: ForwardingField,
    missing: Missing,
}

/// What `explain` watches while a list is walked; `()` ignores it.
pub trait Watch {
    /// An entry as received, from the right, and what it turned out to be.
    fn entry(&mut self, _entry: &[u8], _step: Step) {}
}

impl Watch for () {}

/// What an entry of the forwarding field turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A trusted proxy: the walk goes on. When nothing stands left of it, it is the client.
    Trusted(IpAddr),
    /// The client: the walk stops.
    Client(IpAddr),
    /// Unreadable: the walk stops.
    Malformed,
    /// An empty list element, ignored (RFC 9110 section 5.6.1.2).
    Empty,
}

impl TrustedProxies {
    /// The proxies in `trusted`, which write to `field`.
    pub fn new(trusted: IpSet, field: ForwardingField, missing: Missing) -> Self {
        Self { trusted, field, missing }
    }

    /// Trusts nobody: every client is its peer.
    pub fn none() -> Self {
        Self::new(IpSet::empty(), ForwardingField::XForwardedFor, Missing::Unknown)
    }

    /// Whether the word of this peer is believed.
    #[inline]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contains(peer)
    }

    /// The trusted networks.
    pub fn trusted(&self) -> &IpSet {
        &self.trusted
    }

    /// Who the client is when a trusted proxy sent no address.
    pub fn missing(&self) -> Missing {
        self.missing
    }

    /// The field that is believed.
    pub fn field(&self) -> &ForwardingField {
        &self.field
    }

    /// Finds the client of a request that `peer` sent.
    ///
    /// `hops` holds the trusted proxies it came through afterwards: empty when the peer is the client.
    pub fn resolve<F: Fields + ?Sized>(
        &self,
        peer: IpAddr,
        fields: &F,
        hops: &mut Hops,
        watch: &mut impl Watch,
    ) -> Identity {
        self.resolve_where(peer, fields, hops, watch, || self.missing)
    }

    /// The same where `missing` may be another one: it is asked when a trusted proxy sent no address.
    pub fn resolve_where<F: Fields + ?Sized>(
        &self,
        peer: IpAddr,
        fields: &F,
        hops: &mut Hops,
        watch: &mut impl Watch,
        missing: impl FnOnce() -> Missing,
    ) -> Identity {
        let peer = ip::canonical(peer);
        hops.clear();
        if !self.trusted.contains(peer) {
            return Identity::Known(Known { ip: peer, source: Source::Peer });
        }
        hops.push(peer);
        let mut walk = Walk::new(&self.trusted, hops, watch);
        let outcome = match &self.field {
            ForwardingField::XForwardedFor => walk.lines(fields.values(self.field.name()), Walk::list),
            ForwardingField::Forwarded => walk.lines(fields.values(self.field.name()), Walk::forwarded),
            ForwardingField::Single(name) => single(fields.only(name), watch),
        };
        match outcome {
            Ok((ip, hop)) => Identity::Known(Known { ip, source: Source::Field { hop } }),
            Err(UnknownReason::Missing) if missing() == Missing::Peer => {
                hops.clear();
                Identity::Known(Known { ip: peer, source: Source::MissingPeer })
            }
            Err(reason) => Identity::Unknown(Unknown { reason, peer }),
        }
    }
}

/// A field with one address. It is not walked: whom it names is the client, trusted or not.
fn single(value: Only<'_>, watch: &mut impl Watch) -> Result<(IpAddr, u8), UnknownReason> {
    let entry = match value {
        Only::Absent => return Err(UnknownReason::Missing),
        Only::One(value) => trim_ows(value),
        Only::Several => return Err(UnknownReason::Malformed { at: 1 }),
    };
    if entry.is_empty() {
        watch.entry(entry, Step::Empty);
        return Err(UnknownReason::Missing);
    }
    let node = ip::parse_node(entry);
    watch.entry(entry, node.map_or(Step::Malformed, Step::Client));
    node.map(|ip| (ip, 0)).ok_or(UnknownReason::Malformed { at: 1 })
}

#[cfg(test)]
mod tests;

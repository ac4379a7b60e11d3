//! The answer to "who is this": an address and where it came from, or the reason why nobody can tell.

use std::fmt;
use std::net::IpAddr;

/// Who the client is. There is no third case that reads as some default address (D1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The address of the client.
    Known(Known),
    /// A trusted proxy sent the request and did not say whose it is.
    Unknown(Unknown),
}

impl Identity {
    /// The client's address, if there is one.
    #[inline]
    pub fn known(&self) -> Option<IpAddr> {
        match self {
            Self::Known(known) => Some(known.ip),
            Self::Unknown(_) => None,
        }
    }
}

/// A client's address, canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The address.
    pub ip: IpAddr,
    /// Who says so.
    pub source: Source,
}

/// Who says what a client's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The connection: the peer is no trusted proxy.
    Peer,
    /// The forwarding field of a trusted proxy.
    Field {
        /// Entries to the right of it (0: it is the last).
        hop: u8,
    },
    /// The connection: a trusted proxy sent no field, and the configuration takes it for the client then.
    MissingPeer,
}

impl Source {
    /// The value of the metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Field { .. } => "field",
            Self::MissingPeer => "missing_peer",
        }
    }
}

/// `peer`, `missing_peer`, or the place in the list counted from the right: `xff[-1]` is the last entry.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer | Self::MissingPeer => f.write_str(self.label()),
            Self::Field { hop } => write!(f, "xff[-{}]", u16::from(*hop) + 1),
        }
    }
}

/// A client that cannot be told. Network rules refuse it; limits count it under its peer, apart from known clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Why nobody can tell.
    pub reason: UnknownReason,
    /// The trusted proxy that sent the request.
    pub peer: IpAddr,
}

/// Why a client cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// The field is absent, or holds empty list elements only.
    Missing,
    /// The walk reached an entry that is no address.
    Malformed {
        /// Its place from the right, 1 is the last entry.
        at: u8,
    },
    /// More than 32 entries or more than 4 KiB were walked without finding the client.
    TooLong,
}

impl UnknownReason {
    /// The value of the metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed { .. } => "malformed",
            Self::TooLong => "too_long",
        }
    }
}

/// The label, and for malformed entries the place from the right: `malformed@-1` is the last entry.
impl fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing | Self::TooLong => f.write_str(self.label()),
            Self::Malformed { at } => write!(f, "malformed@-{at}"),
        }
    }
}

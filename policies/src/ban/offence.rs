//! What may count against a client.

use std::fmt;

use crate::reason::Reason;

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A rule refused it.
    Denied,
    /// It presented a token that is not a known one. Counts as denied where only that is asked about.
    WrongToken,
    /// A limit that it alone has used up refused it.
    Limited,
    /// What it sent is not HTTP, or has no one meaning.
    Invalid,
    /// It asked for a host that nobody here answers for.
    UnknownHost,
    /// The app, or a file, answered with this status.
    Status(u16),
}

impl Offence {
    /// What a refusal for this reason says about the client. `None`: nothing that is certain to be its own fault. A head that is too large may be an
    /// honest browser's with many cookies, a slow one's network is slow, and a client that can not be told is nobody. A path with two readings is what a
    /// monitor sends that writes a slash behind a probe's path. `Limited` is for the caller to judge on: who has used the limit up may be somebody else.
    pub const fn of(reason: Reason) -> Option<Self> {
        Some(match reason {
            Reason::OutsideNetwork
            | Reason::TokenMissing
            | Reason::TokenExpired
            | Reason::TokenNotYetValid
            | Reason::CertificateMissing
            | Reason::CertificateWrong => Self::Denied,
            Reason::TokenWrong | Reason::TokenDuplicated => Self::WrongToken,
            Reason::LimitExceeded | Reason::InFlightExceeded => Self::Limited,
            Reason::PathInvalid
            | Reason::HostMissing
            | Reason::HostInvalid
            | Reason::HostDuplicated
            | Reason::RequestLineInvalid
            | Reason::FieldInvalid
            | Reason::FramingInvalid
            | Reason::VersionUnsupported
            | Reason::TransferCodingUnknown
            | Reason::BodyInvalid
            | Reason::Http2Invalid
            | Reason::Http2Flood => Self::Invalid,
            Reason::HostUnknown => Self::UnknownHost,
            _ => return None,
        })
    }

    /// As it is configured and logged.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WrongToken => "wrong_token",
            Self::Limited => "limited",
            Self::Invalid => "invalid",
            Self::UnknownHost => "unknown_host",
            Self::Status(_) => "status",
        }
    }
}

impl Offence {
    /// What [`fmt::Display`] has written.
    pub fn named(text: &str) -> Option<Self> {
        Some(match text {
            "denied" => Self::Denied,
            "wrong_token" => Self::WrongToken,
            "limited" => Self::Limited,
            "invalid" => Self::Invalid,
            "unknown_host" => Self::UnknownHost,
            _ => Self::Status(text.strip_prefix("status ")?.parse().ok()?),
        })
    }
}

/// The label, and the status where it is one: `status 404`.
impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            _ => f.write_str(self.label()),
        }
    }
}

//! What the application is told about a request, in place of what the client claims about itself.
//!
//! Invariant: of every field that an application or a library may read such facts from, the one it receives was written
//! here. What a client sends under these names is dropped ([`is_forwarding_field`]).

mod names;

use std::net::{IpAddr, Ipv4Addr};

pub use names::is_forwarding_field;

use crate::client::{Hops, Identity, last_element, parameter, unquote};
use crate::fields::{FieldName, Fields, Only};
use crate::text::{push_decimal, push_ip, trim_ows};

/// Told to the application in place of an unknown client: MCAST-TEST-NET (RFC 6676).
///
/// An absent or unreadable field makes applications fall back to the gateway's own address, which is an internal one
/// (D1). No host can have this one as its address, and no library calls it private.
pub const UNKNOWN_CLIENT: Ipv4Addr = Ipv4Addr::new(233, 252, 0, 0);

/// How the client spoke to the first proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| bytes.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
    }
}

/// The scheme of a request: what a trusted peer says, else what the connection is.
///
/// `X-Forwarded-Proto` counts when it is one line with one value; without it, the `proto` of the last element of one
/// `Forwarded` line. Anything else is no statement.
pub fn scheme<F: Fields + ?Sized>(peer_trusted: bool, fields: &F, connection: Scheme) -> Scheme {
    static X_FORWARDED_PROTO: FieldName = FieldName::from_static("x-forwarded-proto");
    static FORWARDED: FieldName = FieldName::from_static("forwarded");
    if !peer_trusted {
        return connection;
    }
    let said = match fields.only(&X_FORWARDED_PROTO) {
        Only::One(value) => Scheme::parse(trim_ows(value)),
        Only::Several => None,
        Only::Absent => match fields.only(&FORWARDED) {
            Only::One(line) => last_element(line).and_then(proto),
            Only::Absent | Only::Several => None,
        },
    };
    said.unwrap_or(connection)
}

fn proto(element: &[u8]) -> Option<Scheme> {
    let mut buffer = [0; 8];
    Scheme::parse(unquote(parameter(element, b"proto").ok()??, &mut buffer)?)
}

/// What the application is told.
#[derive(Clone, Copy, Debug)]
pub struct Towards<'a> {
    /// Who the client is.
    pub identity: &'a Identity,
    /// The trusted proxies it came through.
    pub hops: &'a Hops,
    /// How it spoke to the first one.
    pub scheme: Scheme,
    /// The `Host` as received.
    pub host: &'a [u8],
    /// The port it spoke to.
    pub port: u16,
    /// The name of the request in all logs.
    pub request_id: &'a [u8],
}

/// Appends the field lines for the application, `Name: value\r\n` each.
///
/// `X-Forwarded-For` is the client and then the trusted proxies in the order they were passed, our peer last, as every
/// proxy would have appended them. For an unknown client it is [`UNKNOWN_CLIENT`] alone.
pub fn write(out: &mut Vec<u8>, towards: &Towards<'_>) {
    let Towards { identity, hops, scheme, host, port, request_id } = *towards;
    let (client, hops) = match identity {
        Identity::Known(known) => (known.ip, hops.as_slice()),
        Identity::Unknown(_) => (IpAddr::V4(UNKNOWN_CLIENT), &[] as &[IpAddr]),
    };
    out.extend_from_slice(b"X-Forwarded-For: ");
    let first = out.len();
    push_ip(out, client);
    let address = first..out.len();
    for &hop in hops.iter().rev() {
        out.extend_from_slice(b", ");
        push_ip(out, hop);
    }
    out.extend_from_slice(b"\r\nX-Real-IP: ");
    out.extend_from_within(address);
    out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
    out.extend_from_slice(scheme.as_str().as_bytes());
    out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    push_decimal(out, port.into());
    out.extend_from_slice(b"\r\nX-Request-ID: ");
    out.extend_from_slice(request_id);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;

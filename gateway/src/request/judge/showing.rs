//! How a client has shown itself when its connection was made, and what a service demands of that.

use probegate_policies::reason::Reason;

use super::Refused;
use crate::plan::{Plan, Service};

/// How the client has shown itself when the connection was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Showing<'a> {
    /// What the handshake told; `None`: there was none.
    pub handshake: Option<Handshake<'a>>,
    /// The listener demands a certificate now, and none that counts was shown: the connection is older than the demand.
    pub unmet: bool,
}

/// What a handshake told about a connection.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// The name the client asked for, lower-case.
    pub server_name: Option<&'a str>,
    /// The certificate that the client was shown is not for the host of the request, and another one of the listener is: the name that the one
    /// shown stands for.
    pub instead: Option<&'a str>,
    /// The sets that the client's certificate belongs to, a bit for each; `None`: it showed none.
    pub certificate: Option<u64>,
    /// Whom it names.
    pub subject: Option<&'a str>,
}

/// Refuses whoever has not shown a certificate that is required. Where there was no handshake, nobody was asked; and a connection may be
/// older than the demand.
pub(super) fn demand(service: &Service, showing: Showing<'_>) -> Result<(), Refused> {
    let required = service.clients.as_ref().filter(|clients| clients.required);
    let accepted = required.map(|clients| {
        clients.accept.iter().fold(0, |bits, &index| {
            bits | u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
        })
    });
    match (accepted, showing.handshake.and_then(|handshake| handshake.certificate)) {
        (Some(_), None) => Err(Reason::CertificateMissing.into()),
        (Some(accepted), Some(sets)) if sets & accepted == 0 => Err(Reason::CertificateWrong.into()),
        (_, None) if showing.unmet => Err(Reason::CertificateMissing.into()),
        (_, Some(_)) if showing.unmet => Err(Reason::CertificateWrong.into()),
        _ => Ok(()),
    }
}

/// Whether a request came over a connection that was made for another service (RFC 9110 §15.5.20): by the certificate that was shown, which
/// says nothing about this host, or where one of the two has demands of its own on client certificates, because whoever passed the
/// handshake for one has not passed it for the other.
pub(super) fn is_misdirected(plan: &Plan, asked: usize, handshake: Handshake<'_>) -> bool {
    if handshake.instead.is_some_and(|name| plan.hosts.find(name.as_bytes()) != Some(asked)) {
        return true;
    }
    let named = handshake.server_name.and_then(|name| plan.hosts.find(name.as_bytes()));
    let demands = |index: usize| plan.services.get(index).is_some_and(|service| service.clients.is_some());
    named != Some(asked) && (demands(asked) || named.is_some_and(demands))
}

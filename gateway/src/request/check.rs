//! What a request must satisfy beyond the rules: its service takes what it asks for, and its body fits.

use probegate_policies::reason::Reason;

use super::judge::{Part, Refused};
use super::{Received, prepare};
use crate::plan::Service;
use crate::wire::head::{FieldView, Name, RequestHead, Version};
use crate::wire::{Framing, RequestBody};

/// What a judged request must still satisfy before anything is done for it: its service, and whether it waits for `100 Continue`.
pub(super) fn check<'a, B: RequestBody>(
    received: &Received<'_>,
    service: Option<&'a Service>,
    part: Part,
    body: &mut B,
) -> Result<(&'a Service, bool), Refused> {
    let service = service.ok_or(Reason::HostUnknown)?;
    // What answers a probe opens no tunnel.
    if received.demands_upgrade && (matches!(part, Part::Probe(_)) || prepare::upgrade(received, service).is_none()) {
        return Err(Reason::MethodNotAllowed.into());
    }
    let max_body = service.handling(part.route()).max_body;
    let expects = expects(received.head, &received.fields(), body.framing(), max_body)?;
    body.limit(max_body);
    Ok((service, expects))
}

/// Whether a request waits for `100 Continue`.
///
/// # Errors
/// No body of this size is taken, or the request expects something that nobody knows.
pub fn expects(head: &RequestHead, fields: &FieldView<'_>, body: Framing, max_body: u64) -> Result<bool, Reason> {
    if let Framing::Length(length) = body
        && length > max_body
    {
        return Err(Reason::BodyTooLarge);
    }
    let mut expected = fields.of(Name::Expect);
    match (expected.next(), expected.next()) {
        // RFC 9110 §10.1.1: HTTP/1.0 did not know it.
        (Some(_), _) if head.version == Version::Http10 => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(body != Framing::None),
        (Some(_), _) => Err(Reason::ExpectationUnknown),
        (None, _) => Ok(false),
    }
}

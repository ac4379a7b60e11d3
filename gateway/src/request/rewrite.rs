//! The path that the app gets, where a route strips a prefix or puts one in front.
//!
//! Invariant: no I/O, no clock. What comes out is looked at as every path is: where it belongs to a probe, or to another part with a rule or limits of
//! its own, the request is refused. Nobody gets around a rule by a detour.

use probegate_policies::access::Condition;
use probegate_policies::path::{self, canonicalise};
use probegate_policies::reason::Reason;

use super::judge::{Part, Refused, deny, part, probe_behind_slash};
use super::values::rest;
use crate::plan::{Deny, Rewrite, Service};

/// Memory that rewriting reuses.
#[derive(Debug, Default)]
pub struct Scratch {
    path: Vec<u8>,
    readings: path::Scratch,
}

/// The path that `path`, as it would be sent, is sent as. `own` is the part that the request was judged as.
pub fn apply<'a>(
    service: &Service,
    own: Part,
    rewrite: &Rewrite,
    path: &[u8],
    scratch: &'a mut Scratch,
) -> Result<&'a [u8], Refused> {
    let Scratch { path: out, readings } = scratch;
    out.clear();
    out.extend_from_slice(rewrite.inside.as_bytes());
    match &rewrite.strip {
        Some(strip) => rest(strip.as_str().as_bytes(), path, out),
        None => out.extend_from_slice(path),
    }
    let canonical = canonicalise(out, readings).map_err(|_| Reason::PathInvalid)?;
    let parts = [Some(canonical.path), canonical.folded, canonical.cut].into_iter().flatten();
    let mut others = parts.map(|reading| part(service, reading)).chain(probe_behind_slash(service, canonical.path));
    if let Some(other) = others.find(|&other| other != own && !is_plain(service, own, other)) {
        let denies = [deny(service, own), deny(service, other)];
        let deny = denies.into_iter().find(|deny| *deny != Deny::Forbidden).unwrap_or_default();
        return Err(Refused { reason: Reason::PathAmbiguous, deny });
    }
    if canonical.rewritten.is_some() {
        // Dot segments that only showed up behind the prefix.
        return Err(Reason::PathInvalid.into());
    }
    Ok(out)
}

/// Whether a part asks for nothing that `own` does not ask for, so that it makes no difference which of the two a request was judged as.
fn is_plain(service: &Service, own: Part, other: Part) -> bool {
    let route = |part: Part| part.route().and_then(|index| service.routes.get(index));
    match (other, route(other)) {
        (Part::Probe(_), _) => false,
        (_, None) => true,
        (_, Some(other)) => {
            let counted = |limit: &usize| {
                service.limits.contains(limit) || route(own).is_some_and(|own| own.limits.contains(limit))
            };
            matches!(other.allow.condition, Condition::Anyone) && other.limits.iter().all(counted)
        }
    }
}

//! Probes: their rules, and the listener that serves nothing else.
//!
//! There, a probe is found by its service and its name, `/shop/readyz`, whatever the host is and wherever the service has it; where there is one
//! service, also by its name alone and by its own path. What has more than one reading is not found.

use probegate_policies::access::Facts;
use probegate_policies::fields::Fields;
use probegate_policies::reason::Reason;

use super::{Judgement, Observer, Part, Question, Refused, Way};
use crate::plan::{Plan, Probe, Service};

/// Judges whoever asks for the probe with this index.
pub(super) fn judge<F: Fields + ?Sized>(
    service: &Service,
    index: usize,
    method: &[u8],
    facts: &Facts<'_, F>,
    observer: &mut impl Observer,
) -> Result<Way, Refused> {
    let probe = service.probes.get(index).ok_or(Reason::PathInvalid)?;
    let permit = probe.allow.judge(facts, observer);
    let permit = permit.map_err(|refusal| Refused { reason: refusal.into(), deny: probe.deny })?;
    // After the access rule, so that a stranger does not learn from a 405 that something is here (D10). Never limited.
    if matches!(method, b"GET" | b"HEAD") { Ok(Way::In(permit)) } else { Err(Reason::MethodNotAllowed.into()) }
}

/// The judgement on a listener that serves probes.
pub(super) fn enter<F: Fields + ?Sized>(
    plan: &Plan,
    question: &Question<'_, '_, F>,
    judgement: &mut Judgement<'_>,
    observer: &mut impl Observer,
) -> Result<Way, Refused> {
    let path = judgement.path.as_ref().filter(|path| path.folded.is_none() && path.cut.is_none());
    let (at, index) = path.and_then(|path| find(plan, path.path)).ok_or(Reason::ProbeUnknown)?;
    let service = plan.services.get(at).ok_or(Reason::ProbeUnknown)?;
    (judgement.service, judgement.part) = (Some(at), Part::Probe(index));
    observer.service(service);
    observer.part(service, judgement.part);
    let facts = Facts {
        identity: &judgement.identity,
        fields: question.fields,
        certificate: question.showing.handshake.and_then(|handshake| handshake.certificate),
        unix: question.now.unix,
    };
    judge(service, index, question.method, &facts, observer)
}

/// Indices of the service and of its probe.
fn find(plan: &Plan, path: &[u8]) -> Option<(usize, usize)> {
    let rest = path.strip_prefix(b"/")?;
    let named = |service: &Service, name: &[u8]| {
        service.probes.iter().position(|probe: &Probe| probe.kind.name().as_bytes() == name)
    };
    if let [service] = &*plan.services
        && let Some(index) =
            service.probes.iter().position(|probe| probe.path.as_bytes() == path).or_else(|| named(service, rest))
    {
        return Some((0, index));
    }
    let slash = rest.iter().position(|&byte| byte == b'/')?;
    let (name, probe) = (rest.get(..slash)?, rest.get(slash + 1..)?);
    let at = plan.services.iter().position(|service| service.name.as_bytes() == name)?;
    Some((at, named(plan.services.get(at)?, probe)?))
}

//! Answers that take no wait: refusals, and probes that the gateway answers.
//!
//! Invariant: whoever is answered here gets the answer that [`super::serve`] would give, and is counted and logged alike. What the request held is given back when its
//! answer is ready to go out: the time that a client takes until it has these few kilobytes is nobody's.

use probegate_policies::probe::status;

use super::begin::Begun;
use super::check::check;
use super::finish::{self, Outcome};
use super::hidden::is_hidden;
use super::judge::{Part, Way};
use super::values::Values;
use super::{NOBODY, Received, answer, probe, refuse, stamp};
use crate::plan::{Deny, Serve};
use crate::state::Active;
use crate::wire::{Framing, RequestBody, Responder};
use crate::worker::Worker;

/// Prepares the answer to a request without a body, counts and logs it. `false`: it can not be given at once; [`super::serve`] begins anew.
pub fn prompt<B: RequestBody, R: Responder>(
    worker: &Worker,
    active: &Active,
    received: &Received<'_>,
    begun: &mut Begun<'_>,
    text: &mut Vec<u8>,
    body: &mut B,
    reply: &mut R,
) -> bool {
    let Begun { id, now, asked, flaw, challenge, judgement } = begun;
    let waits = judgement.pending.as_ref().is_some_and(|pending| pending.waits());
    let is_plain = flaw.is_none() && challenge.is_none() && body.framing() == Framing::None;
    if !is_plain || waits || matches!(judgement.part, Part::Aggregate(_)) {
        return false;
    }
    let service = judgement.service.and_then(|index| active.plan.services.get(index));
    let values = service.map(|service| Values { plan: &active.plan, received, asked, judgement, id, service });
    let mut stamped = || {
        if let Some(values) = &values {
            stamp::put(values, now.unix, b"", text, reply);
        }
    };
    let mut outcome = Outcome::default();
    let prepared = match (&judgement.verdict, judgement.part) {
        (Err(refused), _) => {
            let refused = *refused;
            if refused.deny == Deny::Close
                || refused.reason.status() == NOBODY
                || (is_hidden(refused) && judgement.service.and_then(|index| active.in_maintenance(index)).is_some())
            {
                return false;
            }
            stamped();
            (outcome.reason, outcome.deny) = (Some(refused.reason), refused.deny);
            outcome.own_status = Some(answer::status(refused));
            let (telling, _held) = refuse::telling(worker, received, active, judgement, refused, id, body, reply);
            answer::prepare(text, &telling, reply)
        }
        (Ok(Way::In(permit)), Part::Probe(index)) => {
            let Some(probe) = service.and_then(|service| service.probes.get(index)) else { return false };
            let Serve::Answer(version) = &probe.serve else { return false };
            if check(received, service, judgement.part, body).is_err() {
                return false;
            }
            stamped();
            (outcome.passed, outcome.answered_here) = (true, true);
            outcome.slot = permit.slot().map(|(set, slot)| (set.into(), slot.into()));
            let passing = probe::passes(worker, probe.kind);
            outcome.own_status = Some(status(probe.kind, passing));
            probe::prepare(worker, active, judgement, (probe.kind, version, passing), id, reply)
        }
        _ => false,
    };
    if prepared {
        finish::finish(worker, active, received, asked, judgement, &outcome, id, body.received(), reply.sent());
    }
    prepared
}

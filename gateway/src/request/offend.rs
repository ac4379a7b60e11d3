//! What a request adds to its client's account, at its end.

use std::net::IpAddr;
use std::time::Instant;

use probegate_policies::ban::{Client, Offence};
use probegate_policies::reason::Reason;

use super::finish::Outcome;
use super::judge::{Judgement, Part};
use crate::plan::Plan;
use crate::state::Active;
use crate::telemetry::redact::push_target;
use crate::worker::Worker;

/// Bytes of a target that are kept for whoever asks why a client is banned.
const SHOWN: usize = 128;

/// Whether a request was one. Who leaves before the app has answered has learned nothing, and may be a person who changed their mind: no offence.
#[inline]
pub(super) fn offence(plan: &Plan, judgement: &Judgement<'_>, outcome: &Outcome, status: u16) -> Option<Offence> {
    // What the app or a file has said counts, whether or not the client stays to read it all: else, it would leave after the head.
    let said = outcome.filed.or(outcome.upstream_status);
    match (outcome.reason, said) {
        (Some(Reason::FileMissing), _) => Some(Offence::Status(status)),
        (Some(reason), _) if !outcome.passed => Offence::of(reason),
        (Some(reason), _) if Offence::of(reason) == Some(Offence::Invalid) => Some(Offence::Invalid),
        (_, Some(said)) => Some(Offence::Status(said)),
        // What the gateway says for itself is not the app's word.
        _ => None,
    }
    .filter(|offence| match offence {
        Offence::Status(status) => (400..500).contains(status),
        Offence::Limited => is_its_own(plan, judgement),
        _ => true,
    })
}

/// Whether the limit that has refused a request counts its client alone: else, others may have used it up.
fn is_its_own(plan: &Plan, judgement: &Judgement<'_>) -> bool {
    let limited = judgement.limited.filter(|limited| !limited.decision.admitted);
    limited.and_then(|limited| plan.limits.get(limited.limit)).is_some_and(|limit| limit.key.is_one_client())
}

/// Counts what a judged request has done. Probes are asked by machines that nobody wants to keep out, and have rules of their own.
#[cold]
pub(super) fn judged(
    worker: &Worker,
    active: &Active,
    judgement: &Judgement<'_>,
    offence: Offence,
    (method, target): (&[u8], &[u8]),
) {
    let Some(client) = judgement.identity.known().and_then(Client::of) else { return };
    if matches!(judgement.part, Part::Probe(_) | Part::Aggregate(_)) {
        return;
    }
    // Each reading: who doubles a slash, or puts a parameter behind a segment, may reach the same view.
    let readings = judgement.path.as_ref().map(|path| [Some(path.path), path.folded, path.cut]);
    active.bans.offend(
        &active.plan,
        client,
        offence,
        |policy| {
            policy.covers(judgement.service)
                && (policy.methods.is_empty() || policy.methods.iter().any(|counted| counted.as_bytes() == method))
                && (policy.paths.is_empty()
                    || readings
                        .into_iter()
                        .flatten()
                        .flatten()
                        .any(|path| policy.paths.iter().any(|below| below.covers(path))))
        },
        worker.state.now(Instant::now()),
        || text(offence, method, target),
    );
}

/// Counts what never became a request. Whoever speaks for others is not known by what nobody could read.
#[cold]
pub(super) fn unread(worker: &Worker, active: &Active, peer: IpAddr, reason: Reason) {
    let (Some(offence), Some(client)) = (Offence::of(reason), Client::of(peer)) else { return };
    active.bans.offend(
        &active.plan,
        client,
        offence,
        |policy| policy.covers(None) && policy.methods.is_empty() && policy.paths.is_empty(),
        worker.state.now(Instant::now()),
        || text(offence, reason.label().as_bytes(), b""),
    );
}

/// What was done, without the query.
fn text(offence: Offence, method: &[u8], target: &[u8]) -> Box<str> {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
    let mut shown = Vec::with_capacity(SHOWN);
    push_target(&mut shown, path.get(..path.len().min(SHOWN)).unwrap_or_default());
    let [method, shown] = [method, &shown].map(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.chars().filter(|c| !c.is_control()).take(SHOWN).collect::<String>()
    });
    let what = format!("{method} {shown}");
    format!("{offence}: {}", what.trim()).into()
}

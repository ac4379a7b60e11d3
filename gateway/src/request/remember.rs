//! What is remembered of a request for people who ask later: that it was refused, or what the app said to a probe.
//!
//! Requests that are let in and ask for no probe are not remembered.

use std::time::{Duration, Instant};

use probegate_policies::client::Identity;
use probegate_policies::reason::Reason;

use super::finish::{Outcome, policy};
use super::judge::{Judgement, Part};
use super::target::Target;
use super::{NOBODY, Received, shield};
use crate::connection::Facts;
use crate::shields::{Asked, Source};
use crate::state::Active;
use crate::telemetry::access_log::Decision;
use crate::telemetry::denials::Denied;
use crate::telemetry::history::Heard;
use crate::telemetry::metrics::Sample;
use crate::worker::Worker;

/// Remembers a request that was judged, where there is a reason to.
#[inline]
pub(super) fn judged(
    worker: &Worker,
    active: &Active,
    (received, asked): (&Received<'_>, &Target<'_>),
    judgement: &Judgement<'_>,
    outcome: &Outcome,
    sample: &Sample,
    (id, at): (&[u8; 32], Duration),
) {
    if sample.reason.is_some() && is_denial(sample.decision) {
        if worker.remembers() {
            denied(worker, active, (received, asked), judgement, outcome, sample, (id, at));
        }
    } else if let Part::Probe(probe) = judgement.part
        // Asks for everybody are remembered by the task that asks.
        && matches!(outcome.probe_cache, None | Some(Source::Bypass))
        && outcome.passed
        && !outcome.answered_here
        && sample.status != NOBODY
        // Nobody was asked.
        && !matches!(sample.reason, Some(Reason::ProbeBusy | Reason::Draining))
    {
        let heard = Asked {
            server: outcome.server,
            status: outcome.upstream_status,
            answered: outcome.answered,
            sent: outcome.sent,
        };
        let service = judgement.service.unwrap_or(usize::MAX);
        let settles = shield::settles(active, received, asked, judgement);
        probe_heard(active, (service, probe), &heard, sample.reason, received.started, (Source::Bypass, settles));
    }
}

/// Remembers what never became a request, and says so much about itself.
pub(super) fn unread(worker: &Worker, facts: &Facts, sample: &Sample, (method, target): (&[u8], &[u8]), id: &[u8; 32]) {
    let Some(reason) = sample.reason.filter(|reason| reason.status() != NOBODY && is_denial(sample.decision)) else {
        return;
    };
    if !worker.remembers() {
        return;
    }
    // Another form of target may begin with a name and a password.
    let path = if target.starts_with(b"/") { target } else { b"" };
    let denied = Denied {
        reason,
        decision: sample.decision,
        status: sample.status,
        client: (facts.peer, false),
        id,
        service: "",
        policy: None,
        entrance: (facts.scheme, facts.listener.port()),
        method,
        host: b"",
        path: path.split(|&byte| byte == b'?').next().unwrap_or_default(),
    };
    worker.state.metrics.denials.add(worker.id, worker.deadlines.observe(Instant::now()), &denied);
}

/// Remembers how an app answered a probe, `(service, probe)` by their indices. `begun`: when it was asked; `settles`: as in
/// [`History::add`](crate::telemetry::history::History::add).
pub(super) fn probe_heard(
    active: &Active,
    (service, probe): (usize, usize),
    asked: &Asked,
    reason: Option<Reason>,
    begun: Instant,
    (source, settles): (Source, bool),
) {
    let Some(history) = active.histories.get(service).and_then(|of| of.get(probe)?.as_ref()) else { return };
    let took = asked.answered.map_or_else(|| begun.elapsed(), |at| at.saturating_duration_since(begun));
    let servers = active.plan.services.get(service).map(|service| &service.upstream.servers);
    let server = asked.server.and_then(|index| Some(servers?.get(index)?.label.clone()));
    history.add(Heard { at: 0, status: asked.status, reason, took, source, server }, settles);
}

/// Whether somebody was kept out, rather than let in and failed.
fn is_denial(decision: Decision) -> bool {
    matches!(decision, Decision::Deny | Decision::Limit | Decision::Refuse)
}

#[cold]
fn denied(
    worker: &Worker,
    active: &Active,
    (received, asked): (&Received<'_>, &Target<'_>),
    judgement: &Judgement<'_>,
    outcome: &Outcome,
    sample: &Sample,
    (id, at): (&[u8; 32], Duration),
) {
    let Some(reason) = outcome.reason else { return };
    let plan = &active.plan;
    let service = judgement.service.and_then(|index| plan.services.get(index));
    let denied = Denied {
        reason,
        decision: sample.decision,
        status: sample.status,
        client: match &judgement.identity {
            Identity::Known(known) => (known.ip, true),
            Identity::Unknown(unknown) => (unknown.peer, false),
        },
        id,
        service: service.map_or("", |service| &service.name),
        policy: service.and_then(|service| policy(plan, service, judgement)),
        entrance: (received.facts.scheme, received.facts.listener.port()),
        method: received.head.method.of(received.bytes),
        host: asked.host,
        path: asked.path,
    };
    worker.state.metrics.denials.add(worker.id, at, &denied);
}

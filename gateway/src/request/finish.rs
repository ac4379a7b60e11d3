//! The end of a request: counters, and a line in the access log.

use std::sync::atomic::Ordering;
use std::time::Instant;

use probegate_policies::client::Identity;
use probegate_policies::limit::Algorithm;
use probegate_policies::now::Now;
use probegate_policies::reason::Reason;

use super::exchange::Exchanged;
use super::judge::{Judgement, Part, Refused};
use super::target::Target;
use super::{NOBODY, Received};
use super::{answer, offend, remember};
use crate::connection::Facts;
use crate::limiter::Held;
use crate::plan::{AccessFormat, BY_HAND, Deny, Plan, Service};
use crate::shields::Source;
use crate::state::Active;
use crate::telemetry::access_log::{Decision, Entry, Origin};
use crate::telemetry::metrics::Sample;
use crate::wire::head::{FieldList, FieldView};
use crate::worker::Worker;

/// What happened after the judgement.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Why the request did not end properly.
    pub reason: Option<Reason>,
    /// The token slot that let it in: set and slot.
    pub slot: Option<(Box<str>, Box<str>)>,
    /// The gateway answered a probe itself.
    pub answered_here: bool,
    /// A file answered, with this status.
    pub filed: Option<u16>,
    /// The status of an answer that the gateway gave itself, where it is not 200.
    pub own_status: Option<u16>,
    /// Where the answer to a probe came from.
    pub probe_cache: Option<Source>,
    /// The client was sent elsewhere, with this status.
    pub redirected: Option<u16>,
    /// Index of the server that was asked last.
    pub server: Option<usize>,
    /// Its status.
    pub upstream_status: Option<u16>,
    /// When its head was complete.
    pub answered: Option<Instant>,
    /// How often it was sent.
    pub sent: u32,
    /// The judgement let the request in.
    pub passed: bool,
    /// What the client saw of a refusal.
    pub deny: Deny,
    /// The head of the app's answer was passed on.
    pub head_sent: bool,
}

impl Outcome {
    /// Takes over how the exchange ended.
    pub fn exchanged(&mut self, exchanged: &Exchanged) {
        self.server = exchanged.server;
        self.upstream_status = exchanged.status;
        self.answered = exchanged.answered;
        self.sent = exchanged.sent;
        self.filed = exchanged.filed;
        if let Some(shared) = &exchanged.shared {
            self.probe_cache = Some(shared.source);
            self.own_status = shared.status;
            self.answered_here = shared.status.is_some();
        }
        // Answered in full, with the length that the client did not know.
        self.reason = exchanged.filed.filter(|status| *status == 416).map(|_| Reason::RangeUnsatisfiable);
    }
}

/// Counts and logs a judged request.
#[expect(clippy::too_many_arguments, reason = "the one place where everything about a request comes together")]
pub fn finish(
    worker: &Worker,
    active: &Active,
    received: &Received<'_>,
    asked: &Target<'_>,
    judgement: &mut Judgement<'_>,
    outcome: &Outcome,
    id: &[u8; 32],
    body_received: u64,
    body_sent: u64,
) {
    let plan = &active.plan;
    let now = Instant::now();
    let at = worker.deadlines.observe(now);
    let service = judgement.service.and_then(|index| Some((plan.services.get(index)?, active.stats.get(index)?)));
    let status = status(outcome);
    let decision = decision(outcome);
    let mut duration = at.saturating_sub(received.at);
    // Most heads come whole.
    if received.complete != received.started {
        duration += received.complete.saturating_duration_since(received.started);
    }
    let sample = Sample {
        status,
        decision,
        reason: outcome.reason,
        duration,
        received: body_received + received.bytes.len() as u64,
        sent: body_sent,
        probe: match judgement.part {
            Part::Probe(index) => service.and_then(|(service, _)| service.probes.get(index)).map(|probe| probe.kind),
            Part::Aggregate(index) => plan.aggregates.get(index).map(|aggregate| aggregate.kind),
            Part::Rest | Part::Route(_) => None,
        },
        retried: outcome.sent > 1,
    };
    match service {
        Some((_, stats)) => stats.record(worker.id, &sample),
        None => worker.state.metrics.unserved().record(worker.id, &sample),
    }
    remember::judged(worker, active, (received, asked), judgement, outcome, &sample, (id, at));
    if !plan.bans.is_empty()
        && let Some(offence) = offend::offence(plan, judgement, outcome, status)
    {
        let asked = (received.head.method.of(received.bytes), received.head.target.of(received.bytes));
        offend::judged(worker, active, judgement, offence, asked);
    }
    if let Some(hit) = &judgement.banned {
        active.bans.met(hit);
    }
    if let Identity::Unknown(unknown) = &judgement.identity {
        worker.state.metrics.identity_unknown(unknown.reason);
    }
    if let Some(limited) = judgement.limited.filter(|limited| !limited.decision.admitted)
        && let Some(stats) = active.limited.get(limited.limit)
    {
        stats.refused.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(pending) = &mut judgement.pending {
        for stats in pending.shadows.iter().filter_map(|&limit| active.limited.get(limit)) {
            stats.shadowed.fetch_add(1, Ordering::Relaxed);
        }
        if !pending.held.is_empty() {
            settle(worker, active, &mut pending.held, worker.clock.at(now), outcome, status);
        }
    }
    let pending = judgement.pending.as_deref();
    let delayed = pending.and_then(|pending| pending.delayed);
    if plan.access_log.format == AccessFormat::Off && plan.access_log.nginx_errors.is_none() {
        return;
    }
    let entry = Entry {
        id,
        facts: received.facts,
        identity: Some(&judgement.identity),
        fields: received.fields(),
        method: received.head.method.of(received.bytes),
        target: received.head.target.of(received.bytes),
        protocol: received.head.version.as_str(),
        host: asked.authority,
        status,
        origin: origin(outcome),
        decision,
        reason: outcome.reason,
        service: service.map(|(service, _)| &*service.name),
        policy: service
            .filter(|_| outcome.redirected.is_none())
            .and_then(|(service, _)| policy(plan, service, judgement))
            .or_else(|| aggregate(plan, judgement)),
        delayed,
        would_ban: judgement
            .banned
            .filter(|hit| hit.shadow)
            .and_then(|hit| Some(&*plan.bans.get(usize::from(hit.policy?))?.name)),
        shadows: pending.map(|pending| (plan, pending.shadows.as_slice())),
        slot: outcome.slot.as_ref().map(|(set, slot)| (&**set, &**slot)),
        upstream: service
            .and_then(|(service, _)| service.upstream.servers.get(outcome.server?))
            .map(|server| &*server.label),
        upstream_slot: service
            .and_then(|(service, _)| service.upstream.slots.as_ref()?.of(outcome.server?))
            .map(|(_, slot)| &*slot.name),
        upstream_status: outcome.upstream_status,
        probe_cache: outcome.probe_cache.map(Source::label),
        tries: outcome.sent,
        first_byte: outcome.answered.map(|at| at.saturating_duration_since(received.started)),
        duration,
        received: sample.received,
        sent: sample.sent,
    };
    worker.lines.borrow_mut().write(plan, &entry);
    if let Some(target) = plan.access_log.nginx_errors.as_ref().filter(|_| outcome.reason.is_some()) {
        worker.refusals.borrow_mut().write_refusal(target, &entry, worker.id, excess(plan, judgement));
    }
}

/// How far a request was beyond its limit, in thousandths of a request: nginx's `excess`. In fixed windows, and where nobody knows, that is the one request too many.
fn excess(plan: &Plan, judgement: &Judgement<'_>) -> u64 {
    let limited =
        judgement.limited.and_then(|limited| Some((limited.decision, &plan.limits.get(limited.limit)?.quota)));
    limited.map_or(0, |(decision, quota)| {
        let beyond = u128::from(decision.retry_after) * 1000 / u128::from(quota.interval().max(1));
        let is_exact = quota.algorithm() == Algorithm::Gcra && decision.reset > 0;
        let beyond = if is_exact { u64::try_from(beyond).unwrap_or(u64::MAX) } else { 1000 };
        u64::from(quota.limit() - 1).saturating_mul(1000).saturating_add(beyond)
    })
}

/// Charges the request to those limits that count it for how it was answered.
fn settle(worker: &Worker, active: &Active, held: &mut Vec<Held>, now: Now, outcome: &Outcome, status: u16) {
    let seen = outcome.filed.or(outcome.upstream_status).filter(|_| outcome.head_sent).unwrap_or(status);
    // Whoever left before the answer does not keep it from counting: nobody knows what it would have been.
    let left = seen == NOBODY && outcome.sent > 0;
    let late = active.limiter.charge_held(&active.plan, held, now, |limit| {
        left || limit.count.as_ref().is_some_and(|count| count.status.contains(&seen))
    });
    if !late.is_empty()
        && let Some(link) = worker.link(active.store.as_ref())
    {
        late.send(link);
    }
}

/// Counts and logs what never became a request.
pub fn finish_unread(
    worker: &Worker,
    active: &Active,
    facts: &Facts,
    reason: Reason,
    bytes: &[u8],
    id: &[u8; 32],
    sent: u64,
) {
    let decision = if reason == Reason::Panicked { Decision::Fail } else { Decision::Refuse };
    let sample = Sample {
        status: reason.status(),
        decision,
        reason: Some(reason),
        duration: std::time::Duration::ZERO,
        received: bytes.len() as u64,
        sent,
        probe: None,
        retried: false,
    };
    worker.state.metrics.unserved().record(worker.id, &sample);
    if !active.plan.bans.is_empty() && !active.plan.client.trusts(facts.peer) {
        offend::unread(worker, active, facts.peer, reason);
    }
    let (method, target) = claimed(bytes);
    remember::unread(worker, facts, &sample, (method, target), id);
    if active.plan.access_log.format == AccessFormat::Off {
        return;
    }
    let entry = Entry {
        id,
        facts,
        identity: None,
        fields: FieldView { bytes: &[], fields: FieldList::NONE },
        method,
        target,
        protocol: "",
        host: b"",
        status: reason.status(),
        origin: (reason.status() != NOBODY).then_some(Origin::Gateway),
        decision,
        reason: Some(reason),
        service: None,
        policy: None,
        would_ban: None,
        delayed: None,
        shadows: None,
        slot: None,
        upstream: None,
        upstream_slot: None,
        upstream_status: None,
        probe_cache: None,
        tries: 0,
        first_byte: None,
        duration: sample.duration,
        received: sample.received,
        sent,
    };
    worker.lines.borrow_mut().write(&active.plan, &entry);
}

/// Method and target of a first line that looks like one; anything else may be a body with a secret in it, and is not logged.
fn claimed(bytes: &[u8]) -> (&[u8], &[u8]) {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.get(..line.len().min(256)).unwrap_or_default().trim_ascii();
    let mut words = line.split(|&byte| byte == b' ');
    match (words.next(), words.next()) {
        (Some(method), Some(target))
            if method.len() <= 32
                && method.iter().all(u8::is_ascii_uppercase)
                && (target.starts_with(b"/") || target.starts_with(b"http")) =>
        {
            (method, target)
        }
        _ => (b"", b""),
    }
}

/// What became of a request, from why it did not end properly.
fn decision(outcome: &Outcome) -> Decision {
    match outcome.reason {
        None if outcome.redirected.is_some() => Decision::Redirect,
        None if outcome.answered_here => Decision::Answer,
        None if outcome.filed.is_some() => Decision::File,
        None => Decision::Forward,
        Some(Reason::LimitExceeded | Reason::InFlightExceeded | Reason::CapacityExceeded) => Decision::Limit,
        Some(reason) if reason.status() == 403 => Decision::Deny,
        Some(Reason::FileMissing | Reason::PreconditionFailed | Reason::RangeUnsatisfiable) => Decision::File,
        // It was let in, and then the app, the client or this gateway failed.
        Some(_) if outcome.passed => Decision::Fail,
        Some(_) => Decision::Refuse,
    }
}

/// The status the client saw.
fn status(outcome: &Outcome) -> u16 {
    match (outcome.reason, outcome.filed.or(outcome.upstream_status)) {
        (Some(reason), _) if reason.status() == NOBODY => NOBODY,
        // An answer that broke off after its head was passed on keeps the status that the client saw.
        (Some(_), Some(status)) if outcome.head_sent => status,
        // nginx's number for a connection that was closed without an answer.
        (Some(_), _) if outcome.deny == Deny::Close => 444,
        (Some(reason), _) => {
            outcome.own_status.unwrap_or_else(|| answer::status(Refused { reason, deny: outcome.deny }))
        }
        (None, Some(status)) => status,
        (None, None) => outcome.redirected.or(outcome.own_status).unwrap_or(200),
    }
}

/// Who made what the client saw; `None`: it saw nothing.
fn origin(outcome: &Outcome) -> Option<Origin> {
    match outcome.reason {
        _ if outcome.filed.is_some() => Some(Origin::Gateway),
        Some(_) if outcome.head_sent => Some(Origin::Upstream),
        Some(reason) if reason.status() == NOBODY || outcome.deny == Deny::Close => None,
        Some(_) => Some(Origin::Gateway),
        // What was kept is still what the app said.
        None if outcome.probe_cache.is_some() => Some(Origin::Upstream),
        None => Some(if outcome.upstream_status.is_some() { Origin::Upstream } else { Origin::Gateway }),
    }
}

/// Which policy decided, and its line in the configuration.
pub(super) fn policy<'a>(
    plan: &'a Plan,
    service: &'a Service,
    judgement: &Judgement<'_>,
) -> Option<(&'static str, &'a str, u32)> {
    if let Some(hit) = judgement.banned.filter(|hit| !hit.shadow) {
        let policy = hit.policy.and_then(|index| plan.bans.get(usize::from(index)));
        return Some(policy.map_or(("ban", BY_HAND, 0), |policy| ("ban", &*policy.name, policy.origin.line)));
    }
    if let Some(limited) = judgement.limited.filter(|limited| !limited.decision.admitted) {
        return plan.limits.get(limited.limit).map(|limit| ("limit", &*limit.name, limit.origin.line));
    }
    match judgement.part {
        Part::Probe(index) => {
            service.probes.get(index).map(|probe| ("probe", probe.kind.name(), probe.allow.origin.line))
        }
        Part::Route(index) => {
            service.routes.get(index).map(|route| ("route", route.path.as_str(), route.allow.origin.line))
        }
        Part::Rest | Part::Aggregate(_) => None,
    }
}

/// The same for what belongs to no service.
fn aggregate<'a>(plan: &'a Plan, judgement: &Judgement<'_>) -> Option<(&'static str, &'a str, u32)> {
    let Part::Aggregate(index) = judgement.part else { return None };
    plan.aggregates.get(index).map(|found| ("aggregate", &*found.name, found.allow.origin.line))
}

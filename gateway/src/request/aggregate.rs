//! The answer to whoever asks an aggregate: what its services say, asked in parallel from behind the shields of their probes, or what is known about
//! their servers.
//!
//! Invariant: never a redirect, a page or somebody else's answer, and never late: who has not answered in time does not pass. A storm here is for each
//! app what one question is.

mod gather;

use std::borrow::Cow;

use probegate_policies::aggregate::{self, Check, Need};
use probegate_policies::probe::CACHE_CONTROL;
use probegate_policies::reason::Reason;

use super::finish::{self, Outcome};
use super::judge::{Judgement, Question, Way};
use super::target::Target;
use super::{After, NOBODY, Received, hidden, refuse};
use crate::aggregates::{self, GATEWAY, Standing};
use crate::plan::{Aggregate, AggregateSource, Deny};
use crate::state::{Active, unix_time};
use crate::wire::deadline::Deadline;
use crate::wire::head::{FieldView, Name};
use crate::wire::{Answer, RequestBody, Responder};
use crate::worker::Worker;

/// Answers a judged request for the aggregate with this index, or refuses it.
#[expect(clippy::too_many_arguments, reason = "one step of a request's life; each argument is one thing it reads")]
pub(super) async fn serve<B: RequestBody, R: Responder>(
    worker: &Worker,
    active: &Active,
    received: &Received<'_>,
    asked: &Target<'_>,
    question: Question<'_, '_, FieldView<'_>>,
    judgement: &mut Judgement<'_>,
    index: usize,
    id: &[u8; 32],
    deadline: &Deadline,
    text: &mut Vec<u8>,
    body: &mut B,
    reply: &mut R,
) -> After {
    let (mut outcome, mut after) = (Outcome::default(), After::Done);
    let verdict = std::mem::replace(&mut judgement.verdict, Err(Reason::Panicked.into()));
    match (verdict, active.plan.aggregates.get(index)) {
        (Ok(Way::In(permit)), Some(aggregate)) => {
            outcome.passed = true;
            outcome.slot = permit.slot().map(|(set, slot)| (set.into(), slot.into()));
            if !body.discard() {
                reply.close();
            }
            let standings = match aggregate.source {
                AggregateSource::Checks { .. } => Ok((aggregates::standings(active, index), Vec::new())),
                AggregateSource::Probes { timeout, .. } => {
                    let asking = gather::Asking { permit, worker, active, facts: received.facts, id };
                    asking.gather(index, aggregate, timeout, deadline, reply).await
                }
            };
            match standings {
                Ok((standings, versions)) => {
                    outcome.answered_here = true;
                    let found = (&*standings, &*versions);
                    answer(worker, active, &question, judgement, index, found, &mut outcome, reply).await;
                }
                Err(reason) => outcome.reason = Some(reason),
            }
        }
        (Err(refused), _) => {
            outcome.reason = Some(refused.reason);
            outcome.deny = refused.deny;
            if refused.deny != Deny::Close {
                let told = hidden::told(active, None, &question, refused);
                refuse::refuse(worker, received, active, judgement, told, id, text, body, reply).await;
            }
        }
        // There is no other way to an aggregate.
        (Ok(_), _) => outcome.reason = Some(Reason::Panicked),
    }
    if outcome.deny == Deny::Close || outcome.reason.is_some_and(|reason| reason.status() == NOBODY) {
        reply.close();
        after = After::Abort;
    }
    finish::finish(worker, active, received, asked, judgement, &outcome, id, body.received(), reply.sent());
    after
}

/// Says what follows from what is known about its services.
#[expect(clippy::too_many_arguments, reason = "as for `serve`")]
async fn answer<R: Responder>(
    worker: &Worker,
    active: &Active,
    question: &Question<'_, '_, FieldView<'_>>,
    judgement: &Judgement<'_>,
    index: usize,
    (standings, versions): (&[Standing], &[Standing]),
    outcome: &mut Outcome,
    reply: &mut R,
) {
    let Some(aggregate) = active.plan.aggregates.get(index) else { return };
    let own = aggregates::gateway(aggregate, active, &worker.state);
    let verdict = aggregates::conclude(aggregate, standings, versions, own);
    if let Some(board) = active.aggregates.get(index) {
        board.say(aggregate, verdict, unix_time());
    }
    let sees = aggregate
        .details
        .as_ref()
        .is_some_and(|rule| rule.judge(&question.facts(&judgement.identity), &mut ()).is_ok());
    let form = aggregate::form(&question.fields.of(Name::Accept));
    let body = sees.then(|| parts(active, aggregate, standings, versions, own));
    let checks = body.as_ref().map(|parts| parts.iter().map(Part::check).collect::<Vec<_>>());
    let body = aggregate::body(form, aggregate.kind, verdict, checks.as_deref());
    let status = if verdict.passes() { 200 } else { 503 };
    (outcome.own_status, outcome.reason) = (Some(status), (status != 200).then_some(Reason::AggregateFailing));
    let date = worker.date.get();
    let fields: [(&str, &[u8]); 3] = [
        ("Content-Type", form.media_type().as_bytes()),
        ("Expires", &date),
        ("Cache-Control", CACHE_CONTROL.as_bytes()),
    ];
    // A client that is gone has no use for the answer.
    reply.answer(&Answer { status, fields: &fields, body: &body }).await.ok();
}

/// What is told about one of its services, or about the gateway.
struct Part<'a> {
    name: Cow<'a, str>,
    need: Need,
    passes: bool,
    reason: Option<Cow<'static, str>>,
}

impl Part<'_> {
    fn check(&self) -> Check<'_> {
        Check { name: &self.name, need: self.need, passes: self.passes, reason: self.reason.as_deref() }
    }
}

fn parts<'a>(
    active: &'a Active,
    aggregate: &Aggregate,
    standings: &[Standing],
    versions: &[Standing],
    own: Option<Standing>,
) -> Vec<Part<'a>> {
    let name = |index: usize| active.plan.services.get(index).map(|service| &*service.name);
    let part = |name: Cow<'a, str>, need: Need, standing: &Standing| Part {
        name,
        need,
        passes: standing.passes,
        reason: standing.why.map(aggregates::Why::label),
    };
    let members = aggregate
        .members
        .iter()
        .zip(standings)
        .filter_map(|(member, standing)| Some(part(name(member.service)?.into(), member.need, standing)));
    let versions = aggregate.one_version.iter().zip(versions).filter_map(|(&service, standing)| {
        Some(part(format!("{}.version", name(service)?).into(), Need::Required, standing))
    });
    let own = own.map(|own| part(GATEWAY.into(), Need::Required, &own));
    members.chain(versions).chain(own).collect()
}

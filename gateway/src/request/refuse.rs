//! The gateway's own errors: in which form the client gets one, and what it is told.

use std::time::Duration;

use probegate_policies::accept;
use probegate_policies::reason::Reason;

use super::Received;
use super::answer::{self, Form, Telling};
use super::hidden::{self, is_hidden};
use super::judge::{Judgement, Part, Refused};
use crate::plan::{Action, Errors, Service};
use crate::spool::Held;
use crate::state::Active;
use crate::wire::head::Name;
use crate::wire::{RequestBody, Responder};
use crate::worker::Worker;

/// Tells the client that it may not pass.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of the straight line of a request; each argument is one thing it reads"
)]
pub(super) async fn refuse<B: RequestBody, R: Responder>(
    worker: &Worker,
    received: &Received<'_>,
    active: &Active,
    judgement: &Judgement<'_>,
    refused: Refused,
    id: &[u8; 32],
    text: &mut Vec<u8>,
    body: &mut B,
    reply: &mut R,
) {
    let (telling, _held) = telling(worker, received, active, judgement, refused, id, body, reply);
    answer::refusal(text, &telling, reply).await;
}

/// What a client is told that may not pass, and the memory that holds for it.
#[expect(clippy::too_many_arguments, reason = "as above")]
pub(super) fn telling<'a, B: RequestBody, R: Responder>(
    worker: &'a Worker,
    received: &Received<'_>,
    active: &'a Active,
    judgement: &Judgement<'_>,
    refused: Refused,
    id: &'a [u8; 32],
    body: &mut B,
    reply: &mut R,
) -> (Telling<'a>, Option<Held>) {
    // An unread body can not be skipped on a connection that goes on. Broken framing means that nobody knows where the next request is.
    // What comes behind a malformed request is not trusted either.
    if received.broken.is_some() || answer::status(refused) == 400 || !body.discard() {
        reply.close();
    }
    let service = judgement.service.and_then(|index| active.plan.services.get(index));
    let limited = judgement
        .limited
        .and_then(|limited| active.plan.limits.get(limited.limit).map(|limit| (limit, limited.decision)));
    let (form, held) = form(received, active, service, judgement, refused).within(active, &worker.state.spools);
    let telling = Telling {
        refused,
        form,
        repeats: worker.repeats(active),
        id,
        limited: limited.filter(|(limit, _)| refused.reason == limit.reason() && !is_hidden(refused)),
        allow: match judgement.part {
            Part::Probe(_) | Part::Aggregate(_) => "GET, HEAD",
            Part::Route(_) if is_file(service, judgement.part) => "GET, HEAD",
            Part::Rest | Part::Route(_) => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        },
        back: back(active, judgement, refused.reason),
        // Where the app would say that nothing is there, the field would say that something is.
        header: active.plan.error_header && (!is_hidden(refused) || hidden::is_own(service, judgement.seen)),
    };
    (telling, held)
}

/// The form in which a refusal is told. Who asks a probe is a program, whatever it says; but a hidden one is not there.
fn form<'a>(
    received: &Received<'_>,
    active: &'a Active,
    service: Option<&'a Service>,
    judgement: &Judgement<'_>,
    refused: Refused,
) -> Form<'a> {
    // On a listener for probes nobody else is expected.
    if received.facts.probes_only || matches!(judgement.seen, Part::Probe(_) | Part::Aggregate(_)) {
        return Form::Document;
    }
    let errors = match service {
        Some(service) => service.handling(judgement.seen.route()).errors.as_deref(),
        None => active.plan.errors.as_deref(),
    };
    let own = service
        .filter(|_| refused.reason == Reason::Maintenance)
        .and_then(|service| service.maintenance.page.as_deref());
    match wanted(received, errors, answer::status(refused)) {
        Form::Page(page) => Form::Page(own.or(page)),
        Form::Document => Form::Document,
    }
}

/// The form in which a client wants to be told of an error, with the page for it.
pub(super) fn wanted<'a>(received: &Received<'_>, errors: Option<&'a Errors>, status: u16) -> Form<'a> {
    let accepted = received.fields().of(Name::Accept);
    if accepted.clone().next().is_some() && accept::prefers_page(&accepted) {
        Form::Page(errors.and_then(|errors| errors.page(status)))
    } else {
        Form::Document
    }
}

/// After how long the client may come back, where somebody knows.
fn back(active: &Active, judgement: &Judgement<'_>, reason: Reason) -> Option<Duration> {
    match reason {
        Reason::UpstreamQueueFull | Reason::UpstreamQueueTimeout | Reason::LimitUnavailable => Some(answer::LATER),
        Reason::Banned => judgement.banned.map(|hit| Duration::from_secs(hit.left.into())),
        Reason::Maintenance => active.in_maintenance(judgement.service?)?.retry_after,
        _ => None,
    }
}

/// Whether the request is one that files answer.
fn is_file(service: Option<&Service>, part: Part) -> bool {
    service.is_some_and(|service| matches!(service.action(part.route()), Action::Files(_)))
}

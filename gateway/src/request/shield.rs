//! A probe that is answered from behind its shield: with what is known, with what the app says to everybody who asks now, or, where the question is
//! one client's own, as if there were no shield.
//!
//! The shared question is the gateway's own. Of what the client sends, the host (where the configuration names none), the query and `Accept` go with
//! it, which are the question; neither its cookies nor its address, so that an app that lets in by them lets nobody in on the strength of another. A
//! task of its own asks, whatever becomes of the client for whom it began.
//!
//! Invariant: the judgement comes first, for every request. A permit is what one gets in here with.

pub mod ask;
mod keeper;

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use probegate_policies::access::Permit;
use probegate_policies::fields::Fields as _;
use probegate_policies::reason::Reason;
use probegate_policies::shield::Terms;

use self::keeper::Again;
use super::deliver::{self, Delivery, Progress};
use super::exchange::{self, Exchanged, Tools};
use super::judge::{Judgement, Part};
use super::prepare::Case;
use super::target::Target;
use super::{Received, stamp};
use crate::connection::Facts;
use crate::plan::{Edits, Plan, ProbeForward, Serve, Service};
use crate::shields::{Asked, Asker, Flight, Found, Kept, Landed, Question, Shield, Source};
use crate::state::{Active, unix_time};
use crate::wire::deadline::{Deadline, TICK};
use crate::wire::head::{FieldView, Name};
use crate::wire::text::push_number;
use crate::wire::{RequestBody, Responder};
use crate::worker::Worker;

/// Where the answer to a probe came from.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// Where.
    pub source: Source,
    /// Its status, where the app was not asked for it.
    pub status: Option<u16>,
}

/// Answers a probe. `head` is memory for a request head.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of the straight line of a request; each argument is one thing it reads"
)]
pub async fn serve<B: RequestBody, R: Responder>(
    permit: Permit,
    worker: &Worker,
    case: &Case<'_>,
    probe: &ProbeForward,
    (shield, terms): (&Arc<Shield>, &Terms),
    head: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    body: &mut B,
    reply: &mut R,
) -> Exchanged {
    if !body.discard() {
        reply.close();
    }
    let known = is_known(&case.active.plan, case.service, case.judgement);
    let mut settles = known;
    let put = question(&case.active.plan, case.received, case.asked, case.handling.edits.as_deref(), probe);
    let found = put.map(|question| {
        let asker = Asker { known, plain: is_plain(&question, case.received.facts, probe) };
        settles |= asker.plain;
        (shield.find(&question, asker, terms, case.servers.gone()), question)
    });
    let (flight, source, question) = match found {
        None | Some((Found::Alone, _)) => {
            return alone(permit, case, probe, (shield, known), head, tools, body, reply).await;
        }
        Some((Found::Answer(kept, source, age), _)) => {
            return give(case, shield, &kept, source, age, None, reply).await;
        }
        Some((Found::Silence(reason), _)) => return fail(case, shield, Source::Hit, reason, None, reply),
        Some((Found::Wait(flight), question)) => (flight, Source::Coalesced, question),
        Some((Found::Ask(flying), question)) => {
            let flight = flying.flight();
            if !ask::start(permit.clone(), flying, worker, case, &question, settles) {
                return alone(permit, case, probe, (shield, known), head, tools, body, reply).await;
            }
            (flight, Source::Miss, question)
        }
    };
    let landed = landed(&flight, probe.timeout, tools.deadline, reply).await;
    let asked = flight.landed().map(|(_, asked)| *asked).filter(|_| source == Source::Miss);
    match landed {
        Ok(Landed::Answer(kept)) => give(case, shield, &kept, source, Duration::ZERO, asked, reply).await,
        Ok(Landed::Large | Landed::Never) => {
            alone(permit, case, probe, (shield, known), head, tools, body, reply).await
        }
        Err(Reason::ClientClosed) => fail(case, shield, source, Reason::ClientClosed, asked, reply),
        Ok(Landed::Silence(reason)) | Err(reason) => match shield.cover(&question, terms) {
            Some((kept, age)) => give(case, shield, &kept, Source::Stale, age, asked, reply).await,
            None => fail(case, shield, source, reason, asked, reply),
        },
    }
}

/// What is asked beyond what the configuration says; `None`: that is this client's alone.
fn question(
    plan: &Plan,
    received: &Received<'_>,
    asked: &Target<'_>,
    edits: Option<&Edits>,
    probe: &ProbeForward,
) -> Option<Question> {
    let fields = received.fields();
    if is_own(&fields, plan) {
        return None;
    }
    let mut forms = fields.of(Name::Accept);
    let (accept, None) = (forms.next(), forms.next()) else { return None };
    let fixed = probe.host.is_some() || edits.is_some_and(|edits| edits.request.host.is_some());
    let own = probe.own.as_deref().filter(|_| received.facts.probes_only);
    let host = if fixed { &[][..] } else { own.map_or(asked.authority, str::as_bytes) };
    let question = Question {
        host: host.to_ascii_lowercase().into(),
        query: if probe.query { asked.query.into() } else { Box::default() },
        accept: accept.unwrap_or(b"*/*").into(),
    };
    question.is_short().then_some(question)
}

/// The question that is asked by whoever makes nothing up, for those who ask without a client.
pub fn plain(service: &Service, probe: &ProbeForward) -> Question {
    let edits = service.handling.edits.as_ref();
    let fixed = probe.host.is_some() || edits.is_some_and(|edits| edits.request.host.is_some());
    // An app whose service has no name of its own is asked under one that most of them know.
    let host = if fixed { "" } else { probe.own.as_deref().unwrap_or("localhost") };
    Question { host: host.to_ascii_lowercase().into_bytes().into(), query: Box::default(), accept: Box::from(*b"*/*") }
}

/// Whether a client is not just anyone: it is inside `internal`, or there is a rule that it had to satisfy.
fn is_known(plan: &Plan, service: &Service, judgement: &Judgement<'_>) -> bool {
    let Part::Probe(index) = judgement.part else { return false };
    service.probes.get(index).is_some_and(|probe| !probe.allow.is_for_anyone())
        || judgement.identity.known().is_some_and(|ip| plan.internal.contains(ip))
}

/// Whether what the app says to a request for a probe tells how the app is: its client is not just anyone, or asks what is asked by whoever makes nothing
/// up. Anybody else could have it fail at will, with a query, a form or a host that it does not know.
pub(super) fn settles(active: &Active, received: &Received<'_>, asked: &Target<'_>, judgement: &Judgement<'_>) -> bool {
    let Part::Probe(index) = judgement.part else { return false };
    let Some(service) = judgement.service.and_then(|index| active.plan.services.get(index)) else { return false };
    let Some(Serve::Forward(probe)) = service.probes.get(index).map(|probe| &probe.serve) else { return false };
    let put = || question(&active.plan, received, asked, service.handling.edits.as_deref(), probe);
    is_known(&active.plan, service, judgement)
        || put().is_some_and(|question| is_plain(&question, received.facts, probe))
}

/// Whether a question is what is asked by whoever makes nothing up. Of hosts, these are the service's first name, and the address that the
/// connection was made to, as kubelets say it, each with and without its port: few, and none that a client can choose.
fn is_plain(question: &Question, facts: &Facts, probe: &ProbeForward) -> bool {
    if !question.query.is_empty() || *question.accept != *b"*/*" {
        return false;
    }
    let port = || format!(":{}", facts.local_port).into_bytes();
    let names =
        |name: &str| question.host.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.is_empty() || rest == port());
    let local = || match facts.local {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    question.host.is_empty() || probe.own.as_deref().is_some_and(names) || names(&local())
}

/// Whether a request shows what the app may judge its client by (RFC 9111 §3.5). Tokens that this gateway keeps to itself are not among that.
pub fn is_own(fields: &FieldView<'_>, plan: &Plan) -> bool {
    let private = |name: &[u8]| plan.private_fields.iter().any(|field| field.matches(name));
    fields.first(Name::Authorization).is_some() && !private(b"authorization")
        || fields.lines().any(|(name, _)| plan.forwarded_fields.iter().any(|field| field.matches(name)))
}

/// Waits for the end of an ask that is under way, for as long as one may take.
///
/// # Errors
/// The client is gone, or its time is over.
async fn landed<R: Responder>(
    flight: &Flight,
    patience: Duration,
    deadline: &Deadline,
    reply: &mut R,
) -> Result<Landed, Reason> {
    let mut told = pin!(flight.told.notified());
    // From here on nothing is missed.
    told.as_mut().enable();
    // It ends within its time by itself, and that has begun already.
    deadline.arm(patience + TICK);
    let landed = poll_fn(|cx| {
        if let Some((landed, _)) = flight.landed() {
            return Poll::Ready(Ok(landed.clone()));
        }
        if told.as_mut().poll(cx).is_ready() {
            return Poll::Ready(flight.landed().map(|(landed, _)| landed.clone()).ok_or(Reason::UpstreamTimeout));
        }
        if deadline.poll_expired(cx) {
            return Poll::Ready(Err(Reason::UpstreamTimeout));
        }
        reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed))
    });
    let landed = landed.await;
    deadline.disarm();
    landed
}

/// Gives an answer that is known. `asked`: the app was asked for this client.
async fn give<R: Responder>(
    case: &Case<'_>,
    shield: &Shield,
    kept: &Kept,
    source: Source,
    age: Duration,
    asked: Option<Asked>,
    reply: &mut R,
) -> Exchanged {
    let mut exchanged = told(case, shield, source, asked, (source != Source::Miss).then_some(age), reply);
    let (head, bytes) = kept.view();
    if !reply.accepts(head, bytes) {
        exchanged.failed = Some(Reason::UpstreamInvalid);
        return exchanged;
    }
    if let Some(shared) = &mut exchanged.shared {
        shared.status = Some(kept.status()).filter(|_| exchanged.status.is_none() || source != Source::Miss);
    }
    let to_head = case.received.head.method.of(case.received.bytes) == b"HEAD";
    let delivery = Delivery { to_head, ..Delivery::default() };
    match deliver::deliver(&delivery, &mut Again::new(kept), reply, &Progress::over()).await {
        Ok(delivered) => exchanged.failed = delivered.failed,
        Err(reason) => exchanged.failed = Some(reason),
    }
    exchanged
}

/// There is no answer.
fn fail<R: Responder>(
    case: &Case<'_>,
    shield: &Shield,
    source: Source,
    reason: Reason,
    asked: Option<Asked>,
    reply: &mut R,
) -> Exchanged {
    Exchanged { failed: Some(reason), ..told(case, shield, source, asked, None, reply) }
}

/// Asks the app for this client alone, in what is left of its time.
#[expect(clippy::too_many_arguments, reason = "as for `serve`")]
async fn alone<B: RequestBody, R: Responder>(
    permit: Permit,
    case: &Case<'_>,
    probe: &ProbeForward,
    (shield, known): (&Arc<Shield>, bool),
    head: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    body: &mut B,
    reply: &mut R,
) -> Exchanged {
    let shared = told(case, shield, Source::Bypass, None, None, reply).shared;
    let Some(_place) = shield.alone(known) else {
        return Exchanged { failed: Some(Reason::ProbeBusy), shared, ..Exchanged::default() };
    };
    shield.counts().asks_app();
    let mut errand = case.probe(probe, head);
    errand.total = errand.total.map(|total| total.saturating_sub(case.received.started.elapsed()).max(TICK));
    Exchanged { shared, ..exchange::run(permit, &errand, tools, body, reply).await }
}

/// Says where an answer comes from: to the client, and to whoever counts.
fn told<R: Responder>(
    case: &Case<'_>,
    shield: &Shield,
    source: Source,
    asked: Option<Asked>,
    age: Option<Duration>,
    reply: &mut R,
) -> Exchanged {
    shield.counts().add(source);
    // RFC 9111 §5.1: in whole seconds.
    let (mut lines, mut text) = (Vec::with_capacity(48), Vec::new());
    if let Some(age) = age {
        lines.extend_from_slice(b"Age: ");
        push_number(&mut lines, age.as_secs());
        lines.extend_from_slice(b"\r\n");
    }
    for part in ["X-Probe-Cache: ", source.label(), "\r\n"] {
        lines.extend_from_slice(part.as_bytes());
    }
    stamp::put(&case.values(), unix_time(), &lines, &mut text, reply);
    let Asked { server, status, answered, sent } = asked.unwrap_or_default();
    let shared = Some(Shared { source, status: None });
    Exchanged { server, status, answered, sent, shared, ..Exchanged::default() }
}

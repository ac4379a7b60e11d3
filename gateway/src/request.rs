//! The life of a request, in one straight line: read what it asks for → judge → answer, refuse or exchange → finish (log, metrics).
//!
//! Invariant: nothing here knows the protocol of the client. `connection` reads heads, [`crate::wire`] is the seam.

pub mod act;
pub mod again;
mod aggregate;
pub mod answer;
mod begin;
pub mod challenge;
mod check;
pub mod collect;
pub mod cors;
pub mod deliver;
pub mod encode;
pub mod exchange;
pub mod files;
pub mod finish;
pub mod forward;
pub mod headers;
pub mod hidden;
pub mod instead;
pub mod intercept;
pub mod judge;
pub mod maintenance;
mod offend;
pub mod page;
mod portion;
pub mod prepare;
pub mod probe;
mod prompt;
pub mod quota;
pub mod redirect;
mod refuse;
pub mod relay;
pub mod release;
mod remember;
pub mod repeat;
pub mod rewrite;
mod send;
pub mod shield;
pub mod stall;
pub mod stamp;
pub mod target;
pub mod throttle;
pub mod values;
pub mod wait;

use std::cell::Cell;
use std::time::{Duration, Instant};

use probegate_policies::forwarded::{Scheme, scheme};
use probegate_policies::probe::status as probe_status;
use probegate_policies::reason::Reason;

pub use self::begin::{Begun, begin};
use self::check::check;
pub use self::check::expects;
use self::exchange::Exchanged;
use self::finish::Outcome;
use self::judge::{Judgement, Part, Way};
use self::prepare::Case;
pub use self::prompt::prompt;
use self::values::Values;
use crate::connection::Facts;
use crate::limiter::in_flight;
use crate::plan::{Deny, Plan, Serve};
use crate::servers::Place;
use crate::state::Active;
use crate::upstream::Link;
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::head::{FieldView, RequestHead, ResponseHead};
use crate::wire::{RequestBody, Responder};
use crate::worker::Worker;

/// The status of reasons that nobody is left to be told.
pub const NOBODY: u16 = 499;

/// A request whose head was read.
#[derive(Debug)]
pub struct Received<'a> {
    /// The index of its head.
    pub head: &'a RequestHead,
    /// The bytes of its head.
    pub bytes: &'a [u8],
    /// Its body has no proper end: the reason to refuse it.
    pub broken: Option<Reason>,
    /// `Connection: upgrade` was sent.
    pub asks_upgrade: bool,
    /// Without the upgrade, no answer would make sense to the client (RFC 8441: an extended CONNECT).
    pub demands_upgrade: bool,
    /// When its first byte came.
    pub started: Instant,
    /// When its head was complete: limits count it then. A client can not save rate up by being slow.
    pub complete: Instant,
    /// The same, since the origin that all deadlines and clocks of the worker have.
    pub at: Duration,
    /// What is known about its connection.
    pub facts: &'a Facts,
    /// Set when the gateway ends the connection for something else that came on it.
    pub ended: Option<&'a Cell<bool>>,
}

impl<'a> Received<'a> {
    /// Its fields.
    pub fn fields(&self) -> FieldView<'a> {
        FieldView { bytes: self.bytes, fields: &self.head.fields }
    }

    /// Why a request that was given up was not given up by its client, nor by its app, whatever it looked like where it was noticed.
    fn ended_by(&self, worker: &Worker) -> Option<Reason> {
        if worker.state.is_cutting() {
            return Some(Reason::ShuttingDown);
        }
        self.ended.filter(|ended| ended.get()).map(|_| Reason::ConnectionEnded)
    }
}

/// Memory and time that a request borrows.
#[derive(Debug)]
pub struct Tools<'a> {
    /// For the head towards the app.
    pub errand: &'a mut Vec<u8>,
    /// For what the app sends.
    pub answer: &'a mut Buffer,
    /// For the index of its head.
    pub response: &'a mut ResponseHead,
    /// For texts of the gateway's own answers.
    pub text: &'a mut Vec<u8>,
    /// For waits on the app.
    pub deadline: &'a Deadline,
}

/// What becomes of the connection.
#[derive(Debug)]
pub enum After {
    /// The request is over.
    Done,
    /// The connection has to end at once.
    Abort,
    /// The app switched protocols; what it sent behind its head is in the answer's buffer. What the request holds is held until the tunnel ends.
    Switched(Link, Held),
}

/// What a tunnel holds for as long as it lasts.
#[derive(Debug)]
pub struct Held {
    /// The place at its server.
    pub server: Place<'static>,
    /// Those under limits on requests in flight.
    pub limits: Vec<in_flight::Place>,
}

/// Serves one request that has been judged.
pub async fn serve<B: RequestBody, R: Responder>(
    worker: &Worker,
    active: &Active,
    received: &Received<'_>,
    begun: &mut Begun<'_>,
    tools: &mut Tools<'_>,
    body: &mut B,
    reply: &mut R,
) -> After {
    let Begun { id, now, asked, flaw, challenge, judgement } = begun;
    let (id, asked) = (&*id, &*asked);
    let Tools { errand: head, answer, response, text, deadline } = tools;
    let plan = &active.plan;
    if let Some(answer) = challenge {
        challenge::answer(worker, active, received, asked, judgement, answer, id, body, reply).await;
        return After::Done;
    }
    let fields = received.fields();
    let question = || begin::question(worker, active, received, &fields, asked, *now);
    if judgement.pending.as_ref().is_some_and(|pending| pending.waits()) {
        // In a box: this is rare, and no other request is to hold the room for it.
        Box::pin(wait::wait(judgement, worker, active, received, reply)).await;
    }
    if let Part::Aggregate(index) = judgement.part {
        // In a box: this is rare, and no other request is to hold the room for it.
        let served = aggregate::serve(
            worker,
            active,
            received,
            asked,
            question(),
            judgement,
            index,
            id,
            deadline,
            text,
            body,
            reply,
        );
        return Box::pin(served).await;
    }
    if let Some(reason) = *flaw {
        judgement.verdict = Err(reason.into());
        // Whoever sends such a request means something else by what follows: a tunnel behind CONNECT, or another host's requests.
        reply.close();
    }
    let verdict = std::mem::replace(&mut judgement.verdict, Err(Reason::Panicked.into()));
    let service = judgement.service.and_then(|index| plan.services.get(index));
    let servers = judgement.service.and_then(|index| active.servers.get(index));
    let values = service.map(|service| Values { plan, received, asked, judgement, id, service });
    let verdict = verdict.and_then(|way| match way {
        Way::In(permit) => {
            if judgement.service.and_then(|index| active.in_maintenance(index)).is_some()
                && let Some(values) = &values
                && maintenance::keeps_out(values, &question(), &mut ())
            {
                return Err(Reason::Maintenance.into());
            }
            let (service, expects) = check(received, service, judgement.part, body)?;
            Ok(Ok((permit, service, servers.ok_or(Reason::HostUnknown)?, expects)))
        }
        Way::Https(port) => Ok(Err(port)),
    });

    if let Some(values) = &values {
        stamp::put(values, now.unix, b"", text, reply);
    }

    // The verdict's consequence.
    let mut outcome = Outcome::default();
    let mut after = After::Done;
    match verdict {
        Err(refused) => {
            outcome.reason = Some(refused.reason);
            outcome.deny = refused.deny;
            // Nobody is left who could be told of a refusal: it left while it waited.
            outcome.passed = refused.reason.status() == NOBODY;
            if refused.deny == Deny::Close || outcome.passed {
                reply.close();
                after = After::Abort;
            } else {
                let told = hidden::told(active, values.as_ref(), &question(), refused);
                outcome.own_status = Some(answer::status(told));
                refuse::refuse(worker, received, active, judgement, told, id, text, body, reply).await;
            }
        }
        Ok(Err(port)) => {
            outcome.redirected = Some(redirect::STATUS);
            redirect::answer(port, asked, text, body, reply).await;
        }
        Ok(Ok((permit, service, servers, expects))) => {
            outcome.passed = true;
            outcome.slot = permit.slot().map(|(set, slot)| (set.into(), slot.into()));
            let probe = match judgement.part {
                Part::Probe(index) => service.probes.get(index),
                Part::Rest | Part::Route(_) | Part::Aggregate(_) => None,
            };
            #[cfg(feature = "fault-injection")]
            fault(asked, "/.fault/panic");
            if let Some(probe) = probe
                && let Serve::Answer(version) = &probe.serve
            {
                outcome.answered_here = true;
                let passing = probe::passes(worker, probe.kind);
                outcome.own_status = Some(probe_status(probe.kind, passing));
                probe::answer(worker, (probe.kind, version, passing), body, reply).await;
            } else if let Some(edits) =
                service.handling(judgement.part.route()).edits.as_deref().filter(|_| probe.is_none())
                && let Some(values) = &values
                && let Some(instead) = instead::find(edits, values)
            {
                // In a box: most requests go to the app.
                Box::pin(instead.answer(values, text, &mut outcome, body, reply)).await;
            } else {
                let forward = probe.and_then(|probe| match &probe.serve {
                    Serve::Forward(forward) => Some(&**forward),
                    Serve::Answer(_) => None,
                });
                let case = Case {
                    active,
                    received,
                    asked,
                    judgement,
                    id,
                    service,
                    servers,
                    handling: service.handling(judgement.part.route()),
                    budget: &worker.state.spools,
                    pipes: &worker.pipes,
                    state: &worker.state,
                    expects,
                };
                let mut tools = exchange::Tools { pools: &worker.pools, deadline, buffer: answer, response };
                let mut exchanged = if probe.is_some_and(|probe| !probe::passes(worker, probe.kind)) {
                    // Whatever the app says: who asks is to look for another gateway.
                    Exchanged { failed: Some(Reason::Draining), ..Exchanged::default() }
                } else {
                    act::act(permit, worker, case, forward, head, &mut tools, text, body, reply).await
                };
                if let Some(reason) = exchanged.failed.and_then(|_| received.ended_by(worker)) {
                    exchanged.failed = Some(reason);
                    reply.close();
                }
                after = owed(worker, received, active, judgement, exchanged, &mut outcome, id, text, body, reply).await;
            }
        }
    }
    if let (After::Switched(_, held), Some(pending)) = (&mut after, &mut judgement.pending) {
        held.limits = pending.places.keep();
    }
    finish::finish(worker, active, received, asked, judgement, &outcome, id, body.received(), reply.sent());
    after
}

/// The scheme that the client used: what a trusted proxy says, else what the connection is.
pub fn client_scheme(plan: &Plan, facts: &Facts, fields: &FieldView<'_>) -> Scheme {
    scheme(plan.client.trusts(facts.peer), fields, facts.scheme)
}

/// The port on which the client is to come back over HTTPS, where the listener says so and the client does not use HTTPS already.
pub fn redirects(plan: &Plan, facts: &Facts, fields: &FieldView<'_>) -> Option<u16> {
    facts.redirect_https.filter(|_| client_scheme(plan, facts, fields) == Scheme::Http)
}

/// Answers what never became a request that could be judged.
pub async fn refuse_unread<R: Responder>(
    worker: &Worker,
    active: &Active,
    facts: &Facts,
    reason: Reason,
    bytes: &[u8],
    text: &mut Vec<u8>,
    reply: &mut R,
) {
    let id = worker.request_id();
    reply.close();
    if reason != Reason::ClientClosed {
        answer::unread(text, reason, &id, active.plan.error_header, reply).await;
    }
    finish::finish_unread(worker, active, facts, reason, bytes, &id, reply.sent());
}

/// After an exchange: what is still owed to the client.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of the straight line above; each argument is one thing it reads"
)]
async fn owed<B: RequestBody, R: Responder>(
    worker: &Worker,
    received: &Received<'_>,
    active: &Active,
    judgement: &Judgement<'_>,
    exchanged: Exchanged,
    outcome: &mut Outcome,
    id: &[u8; 32],
    text: &mut Vec<u8>,
    body: &mut B,
    reply: &mut R,
) -> After {
    outcome.exchanged(&exchanged);
    outcome.head_sent = reply.started();
    if let Some(reason) = exchanged.failed {
        let probe = matches!(judgement.part, Part::Probe(_));
        let reason = if probe && reason == Reason::UpstreamTimeout { Reason::ProbeTimeout } else { reason };
        outcome.reason = Some(reason);
        if reason.status() == NOBODY || reply.started() {
            if reply.started() {
                // What is missing must be missing visibly.
                reply.truncate();
            }
            reply.close();
            return After::Abort;
        }
        refuse::refuse(worker, received, active, judgement, reason.into(), id, text, body, reply).await;
    }
    match exchanged.switched {
        Some((socket, server)) => After::Switched(socket, Held { server, limits: Vec::new() }),
        None => After::Done,
    }
}

/// Test builds can make a request panic, to show that it dies alone: before it is judged, or when it was let in.
#[cfg(feature = "fault-injection")]
fn fault(asked: &target::Target<'_>, path: &str) {
    assert!(asked.path != path.as_bytes(), "asked to by a test");
}

//! The beginning of a request: what it asks for, and the judgement. Nothing here waits.

use std::sync::Arc;

use probegate_policies::now::Now;
use probegate_policies::reason::Reason;

use super::judge::{self, Judgement, Question, Scratch};
use super::target::Target;
use super::{Received, redirects};
use crate::state::Active;
use crate::wire::head::FieldView;
use crate::worker::Worker;

/// A request that has been judged.
#[derive(Debug)]
pub struct Begun<'a> {
    /// Its id.
    pub(super) id: [u8; 32],
    /// When limits count it.
    pub(super) now: Now,
    /// What it asks for; nothing where there is a flaw.
    pub(super) asked: Target<'a>,
    /// Why it asks for nothing that has a meaning.
    pub(super) flaw: Option<Reason>,
    /// What an authority that validates a name is told, who is not judged.
    pub(super) challenge: Option<Arc<str>>,
    /// The judgement.
    pub(super) judgement: Judgement<'a>,
}

/// Reads what a request asks for, and judges it.
pub fn begin<'a>(worker: &Worker, active: &Active, received: &Received<'a>, scratch: &'a mut Scratch) -> Begun<'a> {
    let id = worker.request_id();
    let now = worker.clock.since(received.at);
    let target = match received.broken {
        Some(reason) => Err(reason),
        None => Target::of(received.head, received.bytes),
    };
    let asked = target.unwrap_or(Target { path: b"", query: b"", authority: b"", host: b"", port: None });
    #[cfg(feature = "fault-injection")]
    super::fault(&asked, "/.fault/early");
    // An authority that validates a name.
    let challenge = worker.state.acme.challenges.text(asked.path).filter(|_| {
        !received.facts.probes_only
            && matches!(received.head.method.of(received.bytes), b"GET" | b"HEAD")
            && !received.demands_upgrade
    });
    let fields = received.fields();
    let judgement = if challenge.is_some() {
        judge::identify(&active.plan, received.facts.peer, &fields, scratch)
    } else {
        let question = question(worker, active, received, &fields, &asked, now);
        judge::judge(&active.plan, &active.limiter, &question, scratch, &mut ())
    };
    Begun { id, now, asked, flaw: target.err(), challenge, judgement }
}

/// What is known about a request when it is judged.
pub(super) fn question<'p, 'a>(
    worker: &Worker,
    active: &'a Active,
    received: &'a Received<'_>,
    fields: &'a FieldView<'a>,
    asked: &'a Target<'p>,
    now: Now,
) -> Question<'p, 'a, FieldView<'a>> {
    Question {
        method: received.head.method.of(received.bytes),
        path: asked.path,
        query: asked.query,
        host: asked.host,
        fields,
        peer: received.facts.peer,
        showing: received.facts.showing(active, asked.host),
        missing: received.facts.missing,
        probes_only: received.facts.probes_only,
        redirect: redirects(&active.plan, received.facts, fields),
        bans: Some(&active.bans),
        now,
        worker: worker.id,
    }
}

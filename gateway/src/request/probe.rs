//! Probes that the gateway answers itself, in the app package's shape (semantics of django-deploy-probes: same JSON, same fields).

use probegate_policies::probe::{self, CACHE_CONTROL, ProbeKind, VersionInfo};

use super::judge::{Judgement, Part};
use super::repeat::Key;
use crate::state::Active;
use crate::wire::text::Date;
use crate::wire::{Answer, RequestBody, Responder};
use crate::worker::Worker;

/// Answers a probe: of this kind, about this version, and whether it passes.
pub async fn answer<B: RequestBody, R: Responder>(
    worker: &Worker,
    (kind, version, passing): (ProbeKind, &VersionInfo, bool),
    body: &mut B,
    reply: &mut R,
) {
    if !body.discard() {
        reply.close();
    }
    let (date, text) = (worker.date.get(), probe::body(kind, passing, version));
    let answer = Answer { status: probe::status(kind, passing), fields: &fields(&date), body: &text };
    // A client that is gone has no use for the answer.
    reply.answer(&answer).await.ok();
}

/// Prepares the answer to a probe. `false`: this client's protocol sends it in another way.
pub fn prepare<R: Responder>(
    worker: &Worker,
    active: &Active,
    judgement: &Judgement<'_>,
    (kind, version, passing): (ProbeKind, &VersionInfo, bool),
    id: &[u8; 32],
    reply: &mut R,
) -> bool {
    let repeats = worker.repeats(active).zip(key(judgement, passing));
    if repeats.is_some_and(|(repeats, key)| repeats.recall(key, id, reply)) {
        return true;
    }
    let (date, text) = (worker.date.get(), probe::body(kind, passing, version));
    let answer = Answer { status: probe::status(kind, passing), fields: &fields(&date), body: &text };
    let prepared = reply.prepare(&answer);
    if let Some((repeats, key)) = repeats.filter(|_| prepared) {
        repeats.keep(key, None, reply);
    }
    prepared
}

fn fields(date: &Date) -> [(&str, &[u8]); 3] {
    [("Content-Type", b"application/json"), ("Expires", date), ("Cache-Control", CACHE_CONTROL.as_bytes())]
}

/// Whether a probe of this kind passes. A gateway that goes down is alive, and has started: only its readiness ends.
pub fn passes(worker: &Worker, kind: ProbeKind) -> bool {
    kind != ProbeKind::Readyz || !worker.state.is_ending()
}

/// What decides how an answer reads.
fn key(judgement: &Judgement<'_>, passing: bool) -> Option<Key> {
    match (judgement.service, judgement.part) {
        (Some(service), Part::Probe(probe)) => Some(Key::Probe(service, probe, passing)),
        _ => None,
    }
}

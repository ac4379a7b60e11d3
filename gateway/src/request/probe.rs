//! Probes that the gateway answers itself, in the app package's shape (semantics of django-deploy-probes: same JSON, same fields).

use probegate_policies::probe::{self, CACHE_CONTROL, ProbeKind, VersionInfo};

use super::judge::{Judgement, Part};
use super::repeat::Key;
use crate::state::Active;
use crate::wire::{Answer, RequestBody, Responder};
use crate::worker::Worker;

/// Answers a probe: of this kind, about this version, and whether it passes.
pub async fn answer<B: RequestBody, R: Responder>(
    worker: &Worker,
    active: &Active,
    judgement: &Judgement<'_>,
    (kind, version, passing): (ProbeKind, &VersionInfo, bool),
    id: &[u8; 32],
    body: &mut B,
    reply: &mut R,
) {
    if !body.discard() {
        reply.close();
    }
    let key = match (judgement.service, judgement.part) {
        (Some(service), Part::Probe(probe)) => Some(Key::Probe(service, probe, passing)),
        _ => None,
    };
    let repeats = worker.repeats(active);
    if let (Some(repeats), Some(key)) = (repeats, key)
        && repeats.recall(key, id, reply)
    {
        // A client that is gone has no use for the answer.
        reply.deliver().await.ok();
        return;
    }
    let (date, text) = (worker.date.get(), probe::body(kind, passing, version));
    let fields: [(&str, &[u8]); 3] =
        [("Content-Type", b"application/json"), ("Expires", &date), ("Cache-Control", CACHE_CONTROL.as_bytes())];
    let answer = Answer { status: probe::status(kind, passing), fields: &fields, body: &text };
    if let (Some(repeats), Some(key)) = (repeats, key) {
        repeats.keep(key, &answer, None, reply);
    }
    reply.answer(&answer).await.ok();
}

//! Probes that the gateway answers itself, in the app package's shape (semantics of django-deploy-probes: same JSON, same fields).

use probegate_policies::probe::{self, CACHE_CONTROL, ProbeKind, VersionInfo};

use crate::wire::{Answer, RequestBody, Responder};

/// Answers a probe.
pub async fn answer<B: RequestBody, R: Responder>(
    kind: ProbeKind,
    version: &VersionInfo,
    passing: bool,
    date: &[u8],
    body: &mut B,
    reply: &mut R,
) {
    if !body.discard() {
        reply.close();
    }
    let text = probe::body(kind, passing, version);
    let fields: [(&str, &[u8]); 3] =
        [("Content-Type", b"application/json"), ("Expires", date), ("Cache-Control", CACHE_CONTROL.as_bytes())];
    // A client that is gone has no use for the answer.
    reply.answer(&Answer { status: probe::status(kind, passing), fields: &fields, body: &text }).await.ok();
}

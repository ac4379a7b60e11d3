//! The answer to an ACME authority that validates a name by `http-01` (RFC 8555 §8.3).
//!
//! It is given before the request is judged: no rule, no unknown host and no redirect may keep a certificate from being renewed. What is
//! given away is a text that the authority itself has chosen the secret part of, while it is being asked for.

use super::Received;
use super::finish::{self, Outcome};
use super::judge::Judgement;
use super::target::Target;
use crate::state::Active;
use crate::wire::{Answer, RequestBody, Responder};
use crate::worker::Worker;

/// What RFC 8555 §8.3 has the answer be.
const FIELDS: [(&str, &[u8]); 2] = [("Content-Type", b"application/octet-stream"), ("Cache-Control", b"no-store")];

/// Answers with `text`.
#[expect(clippy::too_many_arguments, reason = "one step of a request's life; each argument is one thing it reads")]
pub(super) async fn answer<B: RequestBody, R: Responder>(
    worker: &Worker,
    active: &Active,
    received: &Received<'_>,
    asked: &Target<'_>,
    judgement: &mut Judgement<'_>,
    text: &str,
    id: &[u8; 32],
    body: &mut B,
    reply: &mut R,
) {
    if !body.discard() {
        reply.close();
    }
    // An authority that is gone asks again; the log line is written either way.
    reply.answer(&Answer { status: 200, fields: &FIELDS, body: text.as_bytes() }).await.ok();
    let outcome = Outcome { answered_here: true, passed: true, ..Outcome::default() };
    finish::finish(worker, active, received, asked, judgement, &outcome, id, body.received(), reply.sent());
}

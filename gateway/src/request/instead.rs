//! What is answered in the app's place because the configuration says so, to requests that were let in: preflights and redirects.

use super::finish::Outcome;
use super::values::Values;
use super::{cors, redirect};
use crate::plan::{Edits, Redirect};
use crate::wire::{Answer, RequestBody, Responder};

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub enum Instead<'a> {
    /// A browser asks what it may ask. What it may is on every answer.
    Preflight,
    /// The client is sent elsewhere.
    Redirect(&'a Redirect),
}

/// What is answered to this request in the app's place, if anything.
pub fn find<'a>(edits: &'a Edits, values: &Values<'_>) -> Option<Instead<'a>> {
    if edits.cors.is_some() && cors::is_preflight(values) {
        return Some(Instead::Preflight);
    }
    edits.redirect.as_ref().map(Instead::Redirect)
}

impl Instead<'_> {
    /// Answers. `text` is memory for a place.
    pub async fn answer<B: RequestBody, R: Responder>(
        self,
        values: &Values<'_>,
        text: &mut Vec<u8>,
        outcome: &mut Outcome,
        body: &mut B,
        reply: &mut R,
    ) {
        if !body.discard() {
            reply.close();
        }
        let (status, fields): (_, &[(&str, &[u8])]) = match self {
            Instead::Preflight => {
                outcome.answered_here = true;
                outcome.own_status = Some(204);
                (204, &[])
            }
            Instead::Redirect(to) => {
                outcome.redirected = Some(to.status);
                redirect::elsewhere(to, values, text);
                (to.status, &[("Location", text)])
            }
        };
        // A client that is gone has no use for the answer; the log line is written either way.
        reply.answer(&Answer { status, fields, body: b"" }).await.ok();
    }
}

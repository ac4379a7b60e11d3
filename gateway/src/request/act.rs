//! Who answers a request that was let in: the app, a file, or a file that the app points to.

use probegate_policies::access::Permit;

use super::exchange::{Exchanged, Tools};
use super::files::{self, Filed, pointed};
use super::forward;
use super::prepare::Case;
use super::shield;
use crate::plan::{Action, ProbeForward};
use crate::wire::{RequestBody, Responder};
use crate::worker::Worker;

/// Has the request answered. `probe`: how the app is asked for a probe, where it is one; `head` is memory for heads,
/// `text` for a page.
#[expect(
    clippy::too_many_arguments,
    reason = "one step of the straight line of a request; each argument is one thing it reads"
)]
pub async fn act<B: RequestBody, R: Responder>(
    permit: Permit,
    worker: &Worker,
    case: Case<'_>,
    probe: Option<&ProbeForward>,
    head: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    text: &mut Vec<u8>,
    body: &mut B,
    reply: &mut R,
) -> Exchanged {
    if let Some((forward, shield, terms)) =
        probe.and_then(|forward| Some((forward, case.shield()?, forward.cache.as_ref()?)))
    {
        // In a box: connections to apps must not hold the room for it.
        let shielded = shield::serve(permit, worker, &case, forward, (shield, terms), head, tools, body, reply);
        return Box::pin(shielded).await;
    }
    let permit = match case.service.action(case.judgement.part.route()) {
        Action::Forward => permit,
        // In a box: connections to apps must not hold the room for it.
        Action::Files(files) => {
            match Box::pin(files::serve(permit, worker, &case, files, head, tools, body, reply)).await {
                Filed::Over(exchanged) => return exchanged,
                Filed::Ask(permit) => permit,
            }
        }
    };
    let mut exchanged = forward::forward(permit, case, probe, head, tools, body, reply).await;
    if let Some(pointer) = exchanged.pointer.take().filter(|_| exchanged.failed.is_none()) {
        let filed = Box::pin(pointed::serve(&pointer, worker, &case, head, tools, reply)).await;
        (exchanged.filed, exchanged.failed) = (filed.filed, filed.failed);
    }
    if let Some(taken) = exchanged.taken.take().filter(|_| exchanged.failed.is_none()) {
        // In a box: most answers are passed on as they are.
        exchanged.failed = Box::pin(taken.answer(&case, text, reply)).await.err().map(Into::into);
    }
    exchanged
}

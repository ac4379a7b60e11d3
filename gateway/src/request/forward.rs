//! The way to the app: what is waited for before it is asked, and what it is asked.

use probegate_policies::access::Permit;

use super::collect;
use super::exchange::{self, Exchanged, Tools};
use super::prepare::Case;
use crate::plan::ProbeForward;
use crate::spool::Spool;
use crate::wire::head::Name;
use crate::wire::turn::turn;
use crate::wire::{Framing, RequestBody, Responder};

/// Puts a request, or the probe it asks for, to the app. `head` is memory for what is sent.
pub async fn forward<B: RequestBody, R: Responder>(
    permit: Permit,
    mut case: Case<'_>,
    probe: Option<&ProbeForward>,
    head: &mut Vec<u8>,
    tools: &mut Tools<'_>,
    body: &mut B,
    reply: &mut R,
) -> Exchanged {
    if let Some(probe) = probe {
        if !body.discard() {
            reply.close();
        }
        return exchange::run(permit, &case.probe(probe, head), tools, body, reply).await;
    }
    // Before a connection is chosen: one that is not in use is looked at and written to without a pause in which its server could end it.
    turn().await;
    if !waits(&case, body) {
        // Nobody waits for the app's word where the body is here already.
        case.expects &= !(case.handling.buffer_request && body.is_at_hand());
        return exchange::run(permit, &case.request(body.framing(), head), tools, body, reply).await;
    }
    // In a box: most requests have no body, and idle connections must not hold the room for one.
    Box::pin(async move {
        let spools = case.spools();
        let spool = Spool::new(spools.buffers, spools.budget, true);
        let mut collected = match collect::collect(spool, case.expects, body, reply).await {
            Ok(collected) => collected,
            Err(reason) => return Exchanged { failed: Some(reason), ..Exchanged::default() },
        };
        // Nobody waits for it any more.
        case.expects = false;
        let errand = case.request(collected.framing(), head);
        exchange::run(permit, &errand, tools, &mut collected, reply).await
    })
    .await
}

/// Whether the app is asked only when the body is complete. One that is here already needs no other place; calls of gRPC are conversations, and
/// what asks for an upgrade may become one.
fn waits<B: RequestBody>(case: &Case<'_>, body: &B) -> bool {
    let is_grpc = |kind: &[u8]| kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    case.handling.buffer_request
        && body.framing() != Framing::None
        && !body.is_at_hand()
        && !case.received.asks_upgrade
        && !case.received.fields().first(Name::ContentType).is_some_and(is_grpc)
}

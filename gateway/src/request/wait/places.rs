//! Waiting for a place under limits on requests in flight.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use probegate_policies::reason::Reason;

use super::look;
use crate::limiter::Limited;
use crate::limiter::in_flight::{Place, Ticket};
use crate::limiter::pending::Pending;
use crate::limiter::watch::Asker;
use crate::request::judge::Judgement;
use crate::state::Active;
use crate::telemetry::metrics::Waiting;
use crate::wire::Responder;
use crate::worker::Worker;

/// Takes every place that the request needs, and waits where it may. Where that ends in a refusal, the judgement says which limit is full.
pub(super) async fn places<R: Responder>(
    pending: &mut Pending,
    judgement: &mut Judgement<'_>,
    worker: &Worker,
    active: &Active,
    reply: &mut R,
) -> Result<(), Reason> {
    while pending.places.waits() {
        let Some(ticket) = pending.places.ticket() else {
            if let Err(limit) = pending.take_places(&active.limiter, &active.plan, asker(worker)) {
                return Err(full(limit, judgement, active));
            }
            continue;
        };
        let limit = ticket.limit;
        let _waiting = active.limited.get(limit).map(|stats| Waiting::new(stats));
        let began = Instant::now();
        let terms = active.plan.limits.get(limit).and_then(|limit| limit.in_flight);
        let until = began + terms.map(|terms| terms.timeout).unwrap_or_default();
        let came = turn(ticket, until, worker, reply).await;
        *pending.delayed.get_or_insert_default() += began.elapsed();
        pending.places.waited(&active.limiter, asker(worker), matches!(came, Ok(None)));
        match came {
            Ok(Some(place)) => pending.places.arrive(place),
            Ok(None) => return Err(full(limit, judgement, active)),
            Err(reason) => return Err(reason),
        }
    }
    Ok(())
}

/// Who asks now.
fn asker(worker: &Worker) -> Asker {
    Asker { worker: worker.id, now: worker.state.now(Instant::now()).nanos }
}

/// The limit has no place, and the judgement says so.
fn full(limit: usize, judgement: &mut Judgement<'_>, active: &Active) -> Reason {
    let Some(plan) = active.plan.limits.get(limit) else { return Reason::CapacityExceeded };
    judgement.limited = Some(Limited { limit, decision: plan.full() });
    plan.reason()
}

/// Waits for its turn until this moment, unless the client leaves or the process ends before. `None`: it did not come.
async fn turn<R: Responder>(
    ticket: &mut Ticket,
    until: Instant,
    worker: &Worker,
    reply: &mut R,
) -> Result<Option<Place>, Reason> {
    let mut sleep = pin!(look(until));
    poll_fn(|cx| {
        if let Poll::Ready(place) = ticket.poll(cx) {
            return Poll::Ready(Ok(Some(place)));
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(Ok(None));
            }
            if worker.state.is_cutting() {
                return Poll::Ready(Err(Reason::ShuttingDown));
            }
            sleep.set(look(until));
        }
        reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed))
    })
    .await
}

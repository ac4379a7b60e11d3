//! The one place where a request waits for its limits, between its judgement and whatever follows from it.
//!
//! Most requests never come here. Those that do hold the memory of their connection, or stream, meanwhile; how many of them there are is bound by the limits
//! that have them wait. Invariant: a client that leaves is noticed, and a process that ends keeps nobody waiting beyond its deadline.

mod places;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;
use tokio::time::{Sleep, sleep_until};

use self::places::places;
use super::Received;
use super::hidden;
use super::judge::{Judgement, Refused};
use crate::limiter::pending::{Asked, Pending, Wait};
use crate::limiter::shared::Settled;
use crate::state::Active;
use crate::telemetry::metrics::Waiting;
use crate::wire::Responder;
use crate::worker::Worker;

/// How often it is looked whether the process ends.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for everything that the judgement left to be waited for. Where that ends in a refusal, the judgement says so, and nothing is charged that was.
pub async fn wait<R: Responder>(
    judgement: &mut Judgement<'_>,
    worker: &Worker,
    active: &Active,
    received: &Received<'_>,
    reply: &mut R,
) {
    let Some(mut pending) = judgement.pending.take() else { return };
    let mut waited = Ok(());
    if judgement.verdict.is_err() {
        // It goes no further, and needs no place there.
        pending.places.give_up();
    } else if !pending.delays() {
        // First, so that the store is not asked for a request that finds no place.
        waited = places(&mut pending, judgement, worker, active, reply).await;
    }
    let mut waits = std::mem::take(&mut pending.waits);
    if let Some(Wait::Store(asked)) = waits.first().filter(|_| waited.is_ok()) {
        // Who has waited for a place is judged as of now.
        let asked_at = if pending.delayed.is_some() { Instant::now() } else { received.complete };
        let settled = ask(asked, judgement, worker, active, asked_at).await;
        // What would have been refused is not charged later.
        pending.held.retain(|held| !settled.shadows.contains(&held.limit()));
        pending.shadows.extend(settled.shadows);
        if let Some(reason) = settled.refused {
            give_back(&mut pending, worker, active);
            pending.places.give_up();
            judgement.verdict = Err(refused(active, judgement, reason, settled.limited.map(|limited| limited.limit)));
            waits.clear();
        } else if settled.delay.1 > 0 {
            // The longest that any limit wants, here or in the store.
            let time = asked_at.saturating_duration_since(received.complete) + Duration::from_nanos(settled.delay.1);
            let is_longer = |wait: &Wait| matches!(wait, Wait::Delay { time: other, .. } if *other >= time);
            if !waits.iter().any(is_longer) {
                waits.retain(|wait| !matches!(wait, Wait::Delay { .. }));
                waits.push(Wait::Delay { limit: settled.delay.0, time });
            }
        }
    }
    for wait in waits {
        if waited.is_err() {
            break;
        }
        waited = match wait {
            // Settled above.
            Wait::Store(_) => Ok(()),
            Wait::Delay { limit, time } => {
                // Meanwhile, it is not in flight.
                pending.places.stand_back(&active.limiter);
                let waited = {
                    let _waiting = active.limited.get(limit).map(|stats| Waiting::new(stats));
                    delay(received.complete + time, worker, reply).await
                };
                let delayed = received.complete.elapsed().min(time);
                pending.delayed = pending.delayed.max(Some(delayed));
                match waited {
                    Ok(()) => places(&mut pending, judgement, worker, active, reply).await,
                    Err(reason) => Err(reason),
                }
            }
        };
    }
    if let Err(reason) = waited {
        if matches!(reason, Reason::LimitExceeded | Reason::InFlightExceeded | Reason::CapacityExceeded) {
            give_back(&mut pending, worker, active);
        }
        pending.places.give_up();
        judgement.verdict = Err(refused(active, judgement, reason, None));
    }
    judgement.pending = Some(pending);
}

/// A limit has refused it: what was charged is taken back, and what is counted by its answer does not count the gateway's.
fn give_back(pending: &mut Pending, worker: &Worker, active: &Active) {
    let now = worker.state.now(Instant::now());
    active.limiter.give_back(&active.plan, pending.charged.drain(..), now);
    pending.held.clear();
}

/// The refusal by a limit: what the rules have hidden stays hidden.
fn refused(active: &Active, judgement: &Judgement<'_>, reason: Reason, limit: Option<usize>) -> Refused {
    let denied = judgement.verdict.as_ref().err().map(|refused| refused.deny);
    let service = judgement.service.and_then(|index| active.plan.services.get(index));
    service.map_or_else(|| reason.into(), |service| hidden::by_limit(service, judgement.seen, denied, reason, limit))
}

/// Asks the store about the limits that gateways share. Where it refuses, or has less left than the gateway's own limits, that is what counts.
async fn ask(asked: &Asked, judgement: &mut Judgement<'_>, worker: &Worker, active: &Active, at: Instant) -> Settled {
    worker.keep_link();
    let link = worker.link(active.store.as_ref());
    let now = worker.state.now(at);
    let settled = active.limiter.settle(&active.plan, active.store.as_ref(), link.as_deref(), asked, (at, now)).await;
    if let Some(limited) = settled.limited
        && (settled.refused.is_some()
            || judgement.limited.is_none_or(|other| limited.decision.remaining < other.decision.remaining))
    {
        judgement.limited = Some(limited);
    }
    settled
}

/// Waits until this moment, unless the client leaves or the process ends before.
async fn delay<R: Responder>(until: Instant, worker: &Worker, reply: &mut R) -> Result<(), Reason> {
    let mut sleep = pin!(look(until));
    poll_fn(|cx| {
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(Ok(()));
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

/// Sleeps until this moment, or until it is time for a look.
fn look(until: Instant) -> Sleep {
    sleep_until(until.min(Instant::now() + LOOK).into())
}

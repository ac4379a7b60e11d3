//! The questions of an aggregate: all at once, each from behind its shield, and none longer than there is time for all of them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use probegate_policies::access::Permit;
use probegate_policies::reason::Reason;
use probegate_policies::shield::Terms;
use tokio::sync::futures::Notified;
use tokio::sync::oneshot;

use crate::aggregates::{self, Seen, Standing, Why};
use crate::connection::Facts;
use crate::plan::{Aggregate, AggregateMember, ProbeForward, Serve};
use crate::request::shield::{self, ask};
use crate::shields::{self, Asker, Flight, Landed, Question, Shield, Told};
use crate::state::Active;
use crate::versions::{self, Fleet};
use crate::wire::Responder;
use crate::wire::deadline::Deadline;
use crate::worker::Worker;

/// Whoever asks for an aggregate.
pub(super) struct Asking<'a> {
    pub(super) permit: Permit,
    pub(super) worker: &'a Worker,
    pub(super) active: &'a Active,
    pub(super) facts: &'a Facts,
    pub(super) id: &'a [u8; 32],
}

/// A question for the versions of a service.
struct Version {
    /// Where the answer comes; `None`: it is over.
    told: Option<oneshot::Receiver<Arc<Fleet>>>,
    fleet: Option<Arc<Fleet>>,
}

impl Version {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(told) = &mut self.told
            && let Poll::Ready(fleet) = Pin::new(told).poll(cx)
        {
            (self.told, self.fleet) = (None, fleet.ok());
        }
        self.told.is_none()
    }
}

/// What there is of an answer.
enum Looked<'a> {
    /// It is known; `None`: nothing is.
    Known(Option<Seen>),
    /// The app is being asked.
    Asked { flight: Arc<Flight>, shield: &'a Shield, terms: Terms, question: Question, within: Duration },
}

impl Asking<'_> {
    /// What is said about its services from here on, in the order of its members.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn gather<R: Responder>(
        &self,
        index: usize,
        aggregate: &Aggregate,
        timeout: Duration,
        deadline: &Deadline,
        reply: &mut R,
    ) -> Result<(Vec<Standing>, Vec<Standing>), Reason> {
        let looked: Vec<_> = aggregate.members.iter().map(|member| self.look(member, timeout)).collect();
        let flights: Vec<_> = looked
            .iter()
            .filter_map(|looked| match looked {
                Looked::Asked { flight, .. } => Some(&**flight),
                Looked::Known(_) => None,
            })
            .collect();
        let mut versions: Vec<_> = aggregate.one_version.iter().map(|&service| self.compare(service)).collect();
        if !flights.is_empty() || !versions.is_empty() {
            wait(&flights, &mut versions, timeout, deadline, reply).await?;
        }
        let seen: Vec<_> = looked.iter().map(Looked::seen).collect();
        let versions: Vec<_> = versions.iter().map(|version| aggregates::compared(version.fleet.as_deref())).collect();
        let Some(board) = self.active.aggregates.get(index) else { return Ok((Vec::new(), versions)) };
        if !versions.is_empty() {
            board.compare(versions.clone());
        }
        Ok((board.tell(aggregate, &seen), versions))
    }

    /// Asks which versions the servers of a service run.
    fn compare(&self, service: usize) -> Version {
        let name = self.active.plan.services.get(service).map_or("", |service| &service.name);
        Version { told: Some(versions::ask(&self.worker.state, name)), fleet: None }
    }

    /// What is known about a member; whoever has to be asked is asked. It has to answer `within` this time.
    fn look(&self, member: &AggregateMember, within: Duration) -> Looked<'_> {
        let AggregateMember { service: at, probe: index, .. } = *member;
        let found = self.active.plan.services.get(at).zip(self.active.servers.get(at));
        let shield = self.active.shields.of(at, index);
        let (Some((service, servers)), Some(shield)) = (found, shield) else { return Looked::Known(None) };
        let Some((probe, terms)) = service.probes.get(index).and_then(|probe| forwarded(&probe.serve)) else {
            return Looked::Known(None);
        };
        let question = shield::plain(service, probe);
        let asker = Asker { known: true, plain: true };
        let flight = match shield.look(&question, asker, terms, servers.gone()) {
            shields::Looked::Status(told, found) => return Looked::Known(Some(recalled(told, found, within))),
            shields::Looked::Silence(number, reason) => {
                return Looked::Known(Some(seen(number, Err(Why::Reason(timed_out(reason))))));
            }
            shields::Looked::Nothing => return Looked::Known(None),
            shields::Looked::Wait(flight) => flight,
            shields::Looked::Ask(flying) => {
                let flight = flying.flight();
                let Self { permit, worker, active, facts, id } = self;
                // Where it does not begin, the flight says so.
                ask::begin(permit.clone(), flying, worker, active, (at, index), &question, true, id, facts);
                flight
            }
        };
        Looked::Asked { flight, shield, terms: *terms, question, within }
    }
}

impl Looked<'_> {
    /// What was seen, now that nobody is waited for any more.
    fn seen(&self) -> Option<Seen> {
        let (flight, shield, terms, question, within) = match self {
            Self::Known(seen) => return *seen,
            Self::Asked { flight, shield, terms, question, within } => (flight, shield, terms, question, *within),
        };
        let took = flight.took();
        let found = match flight.landed() {
            Some((Landed::Answer(kept), _)) => in_time(took, within).and_then(|()| status(kept.status())),
            Some((Landed::Large, asked)) => {
                in_time(took, within).and_then(|()| asked.status.map_or(Err(Why::Unknown), status))
            }
            // The plan has changed meanwhile: that says nothing about the app.
            Some((Landed::Never, _)) => return None,
            Some((Landed::Silence(reason), _)) => match shield.covering(question, terms) {
                Some(found) => status(found),
                None => Err(Why::Reason(timed_out(*reason))),
            },
            None => Err(Why::Reason(Reason::ProbeTimeout)),
        };
        Some(seen(flight.number, found))
    }
}

/// What was seen of the ask with this number: one observation, whoever sees it, and when. The first who sees it is believed.
fn seen(number: u64, found: Result<(), Why>) -> Seen {
    Seen { number: number.saturating_mul(2), found }
}

/// What an answer says that is known already. One that came too late came too late for everybody, however many have asked meanwhile; but what has
/// started for good has, although that took long: that is an observation of its own.
fn recalled(told: Told, found: u16, within: Duration) -> Seen {
    if told.is_latched {
        return Seen { number: told.number.saturating_mul(2).saturating_add(1), found: status(found) };
    }
    seen(told.number, in_time(told.took, within).and_then(|()| status(found)))
}

/// Whether an answer came in time.
fn in_time(took: Duration, within: Duration) -> Result<(), Why> {
    if took <= within { Ok(()) } else { Err(Why::Reason(Reason::ProbeTimeout)) }
}

fn status(status: u16) -> Result<(), Why> {
    if (200..300).contains(&status) { Ok(()) } else { Err(Why::Status(status)) }
}

/// As it is told to whoever asks the probe itself.
fn timed_out(reason: Reason) -> Reason {
    if reason == Reason::UpstreamTimeout { Reason::ProbeTimeout } else { reason }
}

fn forwarded(serve: &Serve) -> Option<(&ProbeForward, &Terms)> {
    match serve {
        Serve::Forward(forward) => Some((forward, forward.cache.as_ref()?)),
        Serve::Answer(_) => None,
    }
}

/// Waits until all have landed, or the time is over.
///
/// # Errors
/// The client is gone.
async fn wait<R: Responder>(
    flights: &[&Flight],
    versions: &mut [Version],
    timeout: Duration,
    deadline: &Deadline,
    reply: &mut R,
) -> Result<(), Reason> {
    let mut told: Vec<Pin<Box<Notified<'_>>>> = flights.iter().map(|flight| Box::pin(flight.told.notified())).collect();
    for told in &mut told {
        // From here on nothing is missed.
        told.as_mut().enable();
    }
    deadline.arm(timeout);
    let waited = poll_fn(|cx| {
        let mut all = true;
        for (flight, told) in flights.iter().zip(&mut told) {
            all &= flight.landed().is_some() || told.as_mut().poll(cx).is_ready();
        }
        for version in &mut *versions {
            all &= version.is_over(cx);
        }
        if all || deadline.poll_expired(cx) {
            return Poll::Ready(Ok(()));
        }
        reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed))
    });
    let waited = waited.await;
    deadline.disarm();
    waited
}

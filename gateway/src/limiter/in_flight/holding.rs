//! The places of one request.

use probegate_policies::limit::Key;

use super::{Came, Place, Ticket};
use crate::limiter::Limiter;
use crate::limiter::pending::Pending;
use crate::limiter::watch::{Asker, Label};
use crate::plan::Plan;

/// What a request holds of the limits on requests in flight, and what it still needs.
#[derive(Debug, Default)]
pub struct Holding {
    held: Vec<Place>,
    ticket: Option<Ticket>,
    /// Limits that it needs a place of before it goes on, the last one in [`Limiter::order`] first.
    wanted: Vec<Wanted>,
    /// What keys are called by those limits that tell.
    labels: Vec<(usize, Box<str>)>,
}

/// A limit that a place is needed of.
#[derive(Debug)]
pub(in crate::limiter) struct Wanted {
    /// Index of the limit in the plan.
    pub(in crate::limiter) limit: usize,
    pub(in crate::limiter) key: Key,
    /// The request has asked it before, and those who look at limits know of it.
    pub(in crate::limiter) asked: bool,
}

impl Holding {
    /// It needs a place of each of these.
    pub(in crate::limiter) fn wanting(wanted: Vec<Wanted>, labels: Vec<(usize, Box<str>)>, limiter: &Limiter) -> Self {
        let mut holding = Self { wanted, labels, ..Self::default() };
        holding.sort(limiter);
        holding
    }

    /// What its keys are called, should it have to come back for places.
    pub(in crate::limiter) fn name(&mut self, labels: Vec<(usize, Box<str>)>) {
        self.labels = labels;
    }

    /// It has got this one.
    pub(in crate::limiter) fn hold(&mut self, place: Option<Place>) {
        self.held.extend(place);
    }

    /// Whether it needs places.
    pub fn waits(&self) -> bool {
        self.ticket.is_some() || !self.wanted.is_empty()
    }

    /// Takes what places it needs, for as long as there are some: it has all of them then, or stands in a line. `over`: limits that refuse nobody, and would
    /// have.
    ///
    /// # Errors
    /// The index of a limit that is full.
    fn take(&mut self, limiter: &Limiter, plan: &Plan, asker: Asker, over: &mut Vec<usize>) -> Result<(), usize> {
        debug_assert!(self.ticket.is_none(), "one line at a time");
        while let Some(Wanted { limit, key, asked }) = self.wanted.pop() {
            let Some((came, quota)) = limiter.come(plan, limit, key) else { continue };
            let is_known = over.contains(&limit);
            // Once for each request.
            let met = came.is_over(quota).filter(|over| !if *over { is_known } else { asked });
            limiter.watch_place(asker, (limit, key), !asked, met, || self.label(limit));
            match came {
                Came::In(place, _) => self.hold(place),
                Came::Shadowed(place) => {
                    self.hold(place);
                    over.extend((!is_known).then_some(limit));
                }
                Came::Waits(ticket) => {
                    self.ticket = Some(ticket);
                    return Ok(());
                }
                Came::Full => {
                    self.give_up();
                    return Err(limit);
                }
            }
        }
        Ok(())
    }

    /// The line that it stands in.
    pub fn ticket(&mut self) -> Option<&mut Ticket> {
        self.ticket.as_mut()
    }

    /// It has waited in the line, in vain or not.
    pub fn waited(&self, limiter: &Limiter, asker: Asker, in_vain: bool) {
        if let Some(Ticket { limit, key, .. }) = self.ticket {
            limiter.watch_place(asker, (limit, key), false, Some(in_vain), || self.label(limit));
        }
    }

    /// What this limit calls the key.
    fn label(&self, limit: usize) -> Label {
        self.labels.iter().find(|(of, _)| *of == limit).map(|(_, label)| label.clone())
    }

    /// Its turn has come.
    pub fn arrive(&mut self, place: Place) {
        self.ticket = None;
        self.held.push(place);
    }

    /// It waits for something else meanwhile: its places are for others, and it needs them again afterwards.
    pub fn stand_back(&mut self, limiter: &Limiter) {
        self.wanted.extend(self.held.iter().map(|&Place { limit, key, .. }| Wanted { limit, key, asked: true }));
        self.held.clear();
        self.sort(limiter);
    }

    /// It goes no further.
    pub fn give_up(&mut self) {
        *self = Self::default();
    }

    /// What outlives the request, for a tunnel.
    pub fn keep(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.held)
    }

    /// In one order, whatever the order of a route: see the invariants of the module.
    fn sort(&mut self, limiter: &Limiter) {
        self.wanted.sort_unstable_by_key(|wanted| std::cmp::Reverse(limiter.rank(wanted.limit)));
    }
}

impl Pending {
    /// Takes what places the request needs: see [`Holding`].
    ///
    /// # Errors
    /// The index of a limit that is full.
    pub fn take_places(&mut self, limiter: &Limiter, plan: &Plan, asker: Asker) -> Result<(), usize> {
        self.places.take(limiter, plan, asker, &mut self.shadows)
    }
}

//! The places of one request.

use probegate_policies::limit::Key;

use super::{Came, Place, Ticket};
use crate::limiter::Limiter;
use crate::limiter::pending::Pending;
use crate::plan::Plan;

/// What a request holds of the limits on requests in flight, and what it still needs.
#[derive(Debug, Default)]
pub struct Holding {
    held: Vec<Place>,
    ticket: Option<Ticket>,
    /// Limits that it needs a place of before it goes on, as indices into the plan's, the last one in [`Limiter::order`] first.
    wanted: Vec<(usize, Key)>,
}

impl Holding {
    /// It needs a place of each of these.
    pub(in crate::limiter) fn wanting(wanted: Vec<(usize, Key)>, limiter: &Limiter) -> Self {
        let mut holding = Self { wanted, ..Self::default() };
        holding.sort(limiter);
        holding
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
    fn take(&mut self, limiter: &Limiter, plan: &Plan, over: &mut Vec<usize>) -> Result<(), usize> {
        debug_assert!(self.ticket.is_none(), "one line at a time");
        while let Some((limit, key)) = self.wanted.pop() {
            let Some((came, is_over)) = limiter.come(plan, limit, key) else { continue };
            over.extend(Some(limit).filter(|limit| is_over && !over.contains(limit)));
            match came {
                Came::In(place) => self.hold(place),
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

    /// Its turn has come.
    pub fn arrive(&mut self, place: Place) {
        self.ticket = None;
        self.held.push(place);
    }

    /// It waits for something else meanwhile: its places are for others, and it needs them again afterwards.
    pub fn stand_back(&mut self, limiter: &Limiter) {
        self.wanted.extend(self.held.iter().map(|place| (place.limit, place.key)));
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
        self.wanted.sort_unstable_by_key(|(limit, _)| std::cmp::Reverse(limiter.rank(*limit)));
    }
}

impl Pending {
    /// Takes what places the request needs: see [`Holding`].
    ///
    /// # Errors
    /// The index of a limit that is full.
    pub fn take_places(&mut self, limiter: &Limiter, plan: &Plan) -> Result<(), usize> {
        self.places.take(limiter, plan, &mut self.shadows)
    }
}

//! How a request comes by its places.

use std::sync::Arc;

use probegate_policies::fields::Fields;
use probegate_policies::limit::{Key, Quota, Seed};

use super::{Came, Full, Holding, Place, Room};
use crate::limiter::Limiter;
use crate::limiter::key::{Asking, feed};
use crate::limiter::pending::Pending;
use crate::limiter::shown;
use crate::plan::{Limit, Plan};

/// Rooms for `plan`, in the order of its limits; none where no limit is on requests in flight. One that continues an earlier one keeps who is in.
pub(in crate::limiter) fn rooms(
    plan: &Plan,
    earlier: Option<(&Plan, &Limiter)>,
    seed: &Seed,
) -> Vec<Option<Arc<Room>>> {
    let kept = |limit: &Limit| {
        let (plan, limiter) = earlier?;
        let index = plan.limits.iter().position(|other| limit.continues(other))?;
        limiter.rooms.get(index)?.as_ref().map(Arc::clone)
    };
    let room = |limit: &Limit| {
        let terms = limit.in_flight.as_ref()?;
        let room = kept(limit).unwrap_or_else(|| Arc::new(Room::new(limit.max_keys, *seed)));
        room.set(terms);
        Some(room)
    };
    let rooms: Vec<_> = plan.limits.iter().map(room).collect();
    if rooms.iter().any(Option::is_some) { rooms } else { Vec::new() }
}

impl Limiter {
    /// The rooms, in the order of the plan's limits.
    pub fn rooms(&self) -> &[Option<Arc<Room>>] {
        &self.rooms
    }

    /// Takes a place under each of these limits, or none. Who may wait for one has joined the line when this returns. A request that is delayed first takes its
    /// places afterwards: meanwhile it is not in flight.
    ///
    /// # Errors
    /// The index of a limit that is full.
    pub(in crate::limiter) fn take_places<F: Fields + ?Sized>(
        &self,
        plan: &Plan,
        limits: impl Iterator<Item = usize> + Clone,
        asking: &Asking<'_, F>,
        pending: &mut Option<Box<Pending>>,
    ) -> Result<(), usize> {
        let needed = limits.filter_map(|index| {
            let room = self.rooms.get(index)?.as_ref()?;
            let limit = plan.limits.get(index).filter(|limit| limit.counts(asking.method))?;
            let mut key = room.places().build_key();
            feed(&mut key, limit, asking);
            Some((index, limit, room, key.finish()))
        });
        if pending.as_ref().is_some_and(|pending| pending.delays()) {
            let wanted: Vec<_> = needed.map(|(index, _, _, key)| (index, key)).collect();
            if let Some(pending) = pending.as_mut().filter(|_| !wanted.is_empty()) {
                pending.places = Holding::wanting(wanted, self);
            }
            return Ok(());
        }
        for (index, limit, room, key) in needed.clone() {
            let now = room.try_come(index, key, limit.shadow);
            if let Some(watch) = self.watches.get(index) {
                watch.asked(asking.worker);
                if let Some(over) = now.is_over(&limit.quota) {
                    watch.met(asking.worker, key, over, asking.now.nanos, || shown::label(limit, asking));
                }
            }
            match now {
                // A box, for whoever is counted: it has to be given back when the request is over.
                Now::In(place, _) => pending.get_or_insert_default().places.hold(place),
                Now::Shadowed(place) => {
                    let pending = pending.get_or_insert_default();
                    pending.places.hold(place);
                    pending.shadows.push(index);
                }
                Now::Full => {
                    if let Some(pending) = pending {
                        pending.places.give_up();
                    }
                    return Err(index);
                }
                Now::Line => {
                    let pending = pending.get_or_insert_default();
                    pending.shadows.retain(|&limit| self.rooms.get(limit).is_none_or(Option::is_none));
                    // All over again, in the one order: see the invariants of the module.
                    let wanted = needed.map(|(index, _, _, key)| (index, key)).collect();
                    pending.places = Holding::wanting(wanted, self);
                    return pending.take_places(self, plan);
                }
            }
        }
        Ok(())
    }

    /// A place under this limit, or one in its line. `None`: it is not on requests in flight.
    pub(super) fn come(&self, plan: &Plan, limit: usize, key: Key) -> Option<(Came, bool)> {
        let room = self.rooms.get(limit)?.as_ref()?;
        if plan.limits.get(limit).is_some_and(|limit| limit.shadow) {
            let (place, over) = room.come_anyway(limit, key);
            return Some((Came::In(place), over));
        }
        Some((room.come(limit, key), false))
    }
}

/// How a request fares that wants in at once.
enum Now {
    /// It has a place; `None`: nobody counts it. How many have one now.
    In(Option<Place>, u32),
    /// It has one that there is not: the limit refuses nobody.
    Shadowed(Option<Place>),
    /// There is none.
    Full,
    /// It may wait for one.
    Line,
}

impl Now {
    /// Whether it is over the limit (`true`) or near it; `None`: neither.
    fn is_over(&self, quota: &Quota) -> Option<bool> {
        match self {
            Self::In(_, count) => quota.is_near(quota.limit().saturating_sub(*count)).then_some(false),
            Self::Line => Some(false),
            Self::Full | Self::Shadowed(_) => Some(true),
        }
    }
}

impl Room {
    #[inline]
    fn try_come(self: &Arc<Self>, limit: usize, key: Key, shadow: bool) -> Now {
        if shadow {
            return match self.come_anyway(limit, key) {
                (place, false) => Now::In(place, 0),
                (place, true) => Now::Shadowed(place),
            };
        }
        match self.enter(limit, key) {
            Ok((place, count)) => Now::In(place, count),
            Err(Full) if self.queues() => Now::Line,
            Err(Full) => Now::Full,
        }
    }
}

//! How a request comes by its places.

use std::sync::Arc;

use probegate_policies::fields::Fields;
use probegate_policies::limit::{Key, Quota, Seed};

use super::holding::Wanted;
use super::{Came, Full, Holding, Room, Ticket};
use crate::limiter::Limiter;
use crate::limiter::key::{Asking, feed};
use crate::limiter::pending::Pending;
use crate::limiter::shown;
use crate::limiter::watch::{Asker, Label};
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
        let asker = Asker { worker: asking.worker, now: asking.now.nanos };
        // Only who waits for something comes back to this.
        let labels = || {
            let labels = needed.clone().filter_map(|(index, limit, ..)| Some((index, shown::label(limit, asking)?)));
            labels.collect::<Vec<_>>()
        };
        // `asked`: so many of the limits have been asked.
        let wanting = |asked: usize| {
            let wanted = needed.clone().enumerate();
            let wanted = wanted.map(|(at, (limit, _, _, key))| Wanted { limit, key, asked: at < asked });
            Holding::wanting(wanted.collect(), labels(), self)
        };
        if let Some(pending) = pending.as_mut().filter(|pending| pending.delays()) {
            pending.places = wanting(0);
            return Ok(());
        }
        for (at, (index, limit, room, key)) in needed.clone().enumerate() {
            let came = room.try_come(index, key, limit.shadow);
            if let Came::Waits(()) = came {
                let pending = pending.get_or_insert_default();
                // All over again, in the one order: see the invariants of the module.
                pending.places = wanting(at);
                return pending.take_places(self, plan, asker);
            }
            self.watch_place(asker, (index, key), true, came.is_over(&limit.quota), || shown::label(limit, asking));
            match came {
                // A box, for whoever is counted: it has to be given back when the request is over.
                Came::In(place, _) => pending.get_or_insert_default().places.hold(place),
                Came::Shadowed(place) => {
                    let pending = pending.get_or_insert_default();
                    pending.places.hold(place);
                    pending.shadows.push(index);
                }
                Came::Waits(()) | Came::Full => {
                    if let Some(pending) = pending {
                        pending.places.give_up();
                    }
                    return Err(index);
                }
            }
        }
        if let Some(pending) = pending.as_mut().filter(|pending| !pending.waits.is_empty()) {
            pending.places.name(labels());
        }
        Ok(())
    }

    /// A request has asked a limit on requests in flight for a place, for the `first` time or once more, and is over it (`true`), near it, or neither.
    pub(super) fn watch_place(
        &self,
        asker: Asker,
        (index, key): (usize, Key),
        first: bool,
        over: Option<bool>,
        label: impl FnOnce() -> Label,
    ) {
        let Some(watch) = self.watches.get(index) else { return };
        if first {
            watch.asked(asker.worker);
        }
        if let Some(over) = over {
            watch.met(asker.worker, key, over, asker.now, label);
        }
    }

    /// A place under this limit, or one in its line, and how many there are. `None`: it is not on requests in flight.
    pub(super) fn come<'a>(&self, plan: &'a Plan, limit: usize, key: Key) -> Option<(Came<Ticket>, &'a Quota)> {
        let room = self.rooms.get(limit)?.as_ref()?;
        let terms = plan.limits.get(limit)?;
        let came = if terms.shadow { room.come_anyway(limit, key) } else { room.come(limit, key) };
        Some((came, &terms.quota))
    }
}

impl Room {
    /// A place, or one in the line, which is not joined.
    #[inline]
    fn try_come(self: &Arc<Self>, limit: usize, key: Key, shadow: bool) -> Came<()> {
        if shadow {
            return self.come_anyway(limit, key);
        }
        match self.enter(limit, key) {
            Ok((place, count)) => Came::In(place, count),
            Err(Full) if self.queues() => Came::Waits(()),
            Err(Full) => Came::Full,
        }
    }
}

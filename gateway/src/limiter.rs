//! Rate limits of a plan, and the tables that remember clients. Tables outlive plans: a reload forgets nobody.
//!
//! Invariant: [`Limiter::admit`] does not wait, lock or read a clock, and allocates only for what has to wait ([`pending`]), and for what is written into a list of
//! those who are over a limit or near it ([`watch`]).

mod draw;
mod held;
pub mod in_flight;
mod key;
pub mod late;
pub mod pending;
pub mod shared;
mod shown;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use probegate_policies::fields::Fields;
use probegate_policies::limit::{Decision, Key, Seed, Table};
use probegate_policies::now::Now;

pub use self::draw::Draw;
pub use self::held::Held;
use self::in_flight::Room;
pub use self::key::Asking;
use self::key::key;
use self::late::Late;
use self::pending::{Asked, Charge, Pending, Wait};
use self::shared::Shared;
pub use self::shown::called;
use self::watch::Watch;
use crate::plan::{Limit, Plan, Telling};

/// Requests under way that a limit remembers at the most, whose answers decide whether they count: no more are, in all likelihood.
const FLIGHTS: usize = 1 << 16;

/// The limits of one plan with their tables, in the order of [`Plan::limits`].
#[derive(Debug)]
pub struct Limiter {
    tables: Vec<Arc<Table>>,
    /// Who is under way, for limits whose answers decide.
    flights: Vec<Option<Arc<Table>>>,
    shared: Shared,
    /// Who is in flight, for limits on that; empty where there are none.
    rooms: Vec<Option<Arc<Room>>>,
    /// In which order places of them are taken: see [`in_flight`].
    order: Vec<usize>,
    /// What people see of them.
    watches: Vec<Watch>,
    /// Who is among those whom a limit refuses that is enforced for a share.
    draw: Draw,
}

/// What a list of limits says about a request.
#[derive(Debug, Default)]
pub struct Admission {
    /// The decision that the client is told of; `None`: of none.
    pub limited: Option<Limited>,
    /// What has to be waited for before an admitted request goes on.
    pub pending: Option<Box<Pending>>,
}

/// The limit that decided, and how.
#[derive(Clone, Copy, Debug)]
pub struct Limited {
    /// The one that refused, or the one with the least left of those that tell clients what they have left. An index into [`Plan::limits`].
    pub limit: usize,
    /// Its decision.
    pub decision: Decision,
}

impl Limited {
    /// One more limit has let the request in: this one is told of, where it tells and has less left than what would be told so far.
    #[inline]
    fn tell(told: &mut Option<Self>, limit: &Limit, this: Self) {
        let is_tighter = |told: &Self| this.decision.remaining < told.decision.remaining;
        if limit.tells.when == Telling::Always && told.as_ref().is_none_or(is_tighter) {
            *told = Some(this);
        }
    }

    /// This limit in its place, where it refuses for longer.
    fn or_longer(self, limit: usize, decision: Option<Decision>) -> Self {
        let longer = |decision: &Decision| !decision.admitted && decision.retry_after > self.decision.retry_after;
        decision.filter(longer).map_or(self, |decision| Self { limit, decision })
    }
}

impl Limiter {
    /// Tables for `plan`, which `workers` work by. A limit that an earlier plan had under the same name, counting the same things, keeps its table.
    pub fn new(plan: &Plan, workers: usize, earlier: Option<(&Plan, &Self)>, seed: &Seed) -> Self {
        let new = |keys: usize| Arc::new(Table::new(keys, *seed).pausing(std::thread::yield_now));
        let kept = |limit: &Limit| {
            let (plan, limiter) = earlier?;
            let index = plan.limits.iter().position(|other| limit.continues(other))?;
            Some((limiter.tables.get(index).map(Arc::clone)?, limiter.flights.get(index)?.as_ref().map(Arc::clone)))
        };
        let tables = plan.limits.iter().map(|limit| {
            // A limit on requests in flight has a table of another kind.
            let keys = if limit.in_flight.is_some() { 1 } else { limit.max_keys };
            let (table, flights) = kept(limit).unwrap_or_else(|| (new(keys), None));
            let flights = limit.count.as_ref().map(|_| flights.unwrap_or_else(|| new(limit.max_keys.min(FLIGHTS))));
            (table, flights)
        });
        let (tables, flights) = tables.unzip();
        let shared = Shared::new(plan, earlier.map(|(plan, limiter)| (plan, &limiter.shared)), seed);
        let watches = watch::watches(plan, workers, earlier.map(|(plan, limiter)| (plan, limiter.watches.as_slice())));
        let (rooms, order) = (in_flight::rooms(plan, earlier, seed), in_flight::order(plan, earlier));
        let draw = earlier.map_or_else(|| Draw::new(seed), |(_, limiter)| limiter.draw.clone());
        Self { tables, flights, shared, rooms, order, watches, draw }
    }

    /// With what `keep` makes of the one that draws shares of keys.
    #[must_use]
    pub fn drawing(self, keep: impl FnOnce(Draw) -> Draw) -> Self {
        Self { draw: keep(self.draw), ..self }
    }

    /// Charges a request to every limit in `limits` that counts it: all of them, or none where one refuses (nginx's rule for several `limit_req`). A limit in
    /// shadow mode refuses nobody.
    pub fn admit<F: Fields + ?Sized>(
        &self,
        plan: &Plan,
        limits: impl Iterator<Item = usize> + Clone,
        asking: &Asking<'_, F>,
    ) -> Admission {
        let counted = limits.clone().filter_map(|index| {
            let is_rate = |limit: &&Limit| limit.in_flight.is_none() && limit.counts(asking.method);
            Some((index, plan.limits.get(index).filter(is_rate)?, self.tables.get(index)?))
        });
        let mut pending: Option<Box<Pending>> = None;
        let mut tightest: Option<Limited> = None;
        let mut delay = (0, 0);
        let mut is_shared = false;
        for (index, limit, table) in counted.clone() {
            let key = key(table, limit, asking);
            let decision = if limit.shared {
                is_shared = true;
                match self.shared.refusal(index, &limit.quota, key, asking.now) {
                    Some(refusal) => refusal,
                    // Judged by the store.
                    None => continue,
                }
            } else if let Some(flights) = self.flights.get(index).and_then(Option::as_ref) {
                // Those under way may all come to count.
                let (held, under_way) = Held::enter(index, key, flights);
                let decision = limit.beside(under_way, |quantity| table.peek(key, &limit.quota, asking.now, quantity));
                if decision.admitted {
                    pending.get_or_insert_default().held.push(held);
                }
                decision
            } else {
                table.admit(key, &limit.quota, asking.now)
            };
            self.watch(index, (limit, key), &decision, asking);
            // Of a shared limit there is nothing here but a refusal, and who is spared has not been refused.
            if limit.shadow || !limit.shared && limit.spares(|| self.draw.hundredth(limit, asking)) {
                if !decision.admitted {
                    pending.get_or_insert_default().shadows.push(index);
                }
                continue;
            }
            if !decision.admitted {
                let charges =
                    charges(counted.clone().take_while(|(earlier, ..)| *earlier != index), asking, pending.as_deref());
                self.give_back(plan, charges, asking.now);
                let rest = counted.skip_while(|(earlier, ..)| *earlier != index).skip(1);
                let limited = self.longest(Limited { limit: index, decision }, rest, asking);
                return Admission { limited: Some(limited), pending: refused(pending) };
            }
            Limited::tell(&mut tightest, limit, Limited { limit: index, decision });
            if decision.delay > delay.1 {
                delay = (index, decision.delay);
            }
        }
        if is_shared {
            let mut asked = Asked { worker: asking.worker, ..Asked::default() };
            for (index, limit, table) in counted.clone().filter(|(_, limit, _)| limit.shared) {
                let key = key(table, limit, asking);
                let entered = self.flights.get(index).and_then(Option::as_ref);
                let mut entered = entered.map(|flights| Held::enter(index, key, flights));
                let name =
                    self.shared.ask(plan, (index, key), entered.as_ref().map(|(_, all)| *all), asking, &mut asked);
                if let Some((held, _)) = &mut entered {
                    held.shared = name;
                }
                pending.get_or_insert_default().held.extend(entered.map(|(held, _)| held));
            }
            pending.get_or_insert_default().waits.push(Wait::Store(asked));
        }
        if delay.1 > 0 {
            let pending = pending.get_or_insert_default();
            pending.waits.push(Wait::Delay { limit: delay.0, time: Duration::from_nanos(delay.1) });
        }
        if asking.goes_in
            && !self.rooms.is_empty()
            && let Err(full) = self.take_places(plan, limits, asking, &mut pending)
        {
            // Where there is no place, no rate was used up.
            self.give_back(plan, charges(counted, asking, pending.as_deref()), asking.now);
            let limited = plan.limits.get(full).map(|limit| Limited { limit: full, decision: limit.full() });
            return Admission { limited, pending: refused(pending) };
        }
        if let Some(pending) = pending.as_deref_mut().filter(|pending| pending.waits()) {
            let left = |charge: Charge| Charge {
                left: self.tables.get(charge.limit).map(|table| table.state(charge.key)),
                ..charge
            };
            pending.charged = charges(counted, asking, Some(pending)).map(left).collect();
        }
        Admission { limited: tightest, pending }
    }

    /// Takes back what was charged for a request that is refused after all, now.
    pub fn give_back(&self, plan: &Plan, charged: impl IntoIterator<Item = Charge>, now: Now) {
        for charge in charged {
            if let (Some(limit), Some(table)) = (plan.limits.get(charge.limit), self.tables.get(charge.limit)) {
                match charge.left {
                    Some(left) => table.refund_late(charge.key, &limit.quota, left, now),
                    None => table.refund(charge.key, &limit.quota),
                }
            }
        }
    }

    /// Of those that refuse a request, the one that refuses it for longest: `first` does, and `rest` are asked, without charging them.
    #[cold]
    fn longest<'a, F: Fields + ?Sized>(
        &self,
        first: Limited,
        rest: impl Iterator<Item = (usize, &'a Limit, &'a Arc<Table>)>,
        asking: &Asking<'_, F>,
    ) -> Limited {
        rest.filter(|(_, limit, _)| !limit.shadow).fold(first, |longest, (index, limit, table)| {
            let key = key(table, limit, asking);
            let decision = if limit.shared {
                // The store is not asked: as far as is known here.
                self.shared.standing(index, &limit.quota, key, asking.now)
            } else if limit.spares(|| self.draw.hundredth(limit, asking)) {
                None
            } else {
                // Of those under way that may come to count, nobody knows.
                Some(table.peek(key, &limit.quota, asking.now, 1))
            };
            if let Some(decision) = decision.as_ref().filter(|decision| !decision.admitted) {
                self.watch(index, (limit, key), decision, asking);
            }
            longest.or_longer(index, decision)
        })
    }

    /// The request is over: charges it to those limits that count it for how it was answered. `counts`: whether this one does. What the store has to be told is
    /// returned.
    pub fn charge_held(&self, plan: &Plan, held: &mut Vec<Held>, now: Now, counts: impl Fn(&Limit) -> bool) -> Late {
        let mut late = Late::default();
        // One after the other: nobody is under way any more only when he was charged.
        for held in held.drain(..) {
            if let (Some(limit), Some(table)) = (plan.limits.get(held.limit), self.tables.get(held.limit))
                && counts(limit)
            {
                // There is room: no more were let in than could all be charged.
                table.admit(held.key, self.shared.share(held.limit).unwrap_or(&limit.quota), now);
                late.add(plan, limit, held);
            }
        }
        late
    }

    /// Where a limit stands in the order in which places are taken.
    fn rank(&self, limit: usize) -> usize {
        self.order.get(limit).copied().unwrap_or(limit)
    }

    /// A limit was asked, and says this.
    #[inline]
    fn watch<F: Fields + ?Sized>(
        &self,
        index: usize,
        (limit, key): (&Limit, Key),
        decision: &Decision,
        asking: &Asking<'_, F>,
    ) {
        if let Some(watch) = self.watches.get(index) {
            let label = || shown::label(limit, asking);
            watch.judged(asking.worker, (key, &limit.quota), decision, asking.now.nanos, label);
        }
    }

    /// What people see of the limits, in the order of the plan's.
    pub fn watches(&self) -> &[Watch] {
        &self.watches
    }

    /// The tables, in the order of the plan's limits.
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }
}

/// What was charged for a request by these limits, here.
fn charges<'a, F: Fields + ?Sized>(
    counted: impl Iterator<Item = (usize, &'a Limit, &'a Arc<Table>)>,
    asking: &Asking<'_, F>,
    pending: Option<&Pending>,
) -> impl Iterator<Item = Charge> {
    counted
        .filter(move |(index, limit, _)| {
            !limit.shared && limit.count.is_none() && pending.is_none_or(|pending| !pending.shadows.contains(index))
        })
        .map(move |(index, limit, table)| Charge { limit: index, key: key(table, limit, asking), left: None })
}

/// What is left of it when the request is refused: what would have been refused in shadow mode is told all the same.
fn refused(pending: Option<Box<Pending>>) -> Option<Box<Pending>> {
    pending.filter(|pending| !pending.shadows.is_empty()).map(|mut pending| {
        pending.held.clear();
        pending.places.give_up();
        pending.waits.clear();
        pending
    })
}

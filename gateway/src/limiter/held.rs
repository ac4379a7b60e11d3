//! Requests whose answers decide whether they count.
//!
//! Such a request is not charged when it comes. It is under way instead, and whoever comes meanwhile is let in only if the key could pay for all that are: if every one of
//! them counted in the end, the limit would still hold. So many guesses at once get no further than as many one after the other, and requests that do not
//! count leave nothing behind.

use std::sync::Arc;

use probegate_policies::limit::{Key, Table};

/// A request that counts if its answer says so. It is under way for as long as this lives.
#[derive(Debug)]
pub struct Held {
    /// Index of the limit in the plan.
    pub(super) limit: usize,
    /// Whom it may be charged to.
    pub(super) key: Key,
    /// Who is under way.
    flights: Arc<Table>,
    /// Where it is charged in the store, where gateways share the limit.
    pub(super) shared: Option<Vec<u8>>,
}

impl Held {
    /// One more is under way. How many there are now, this one included.
    pub(super) fn enter(limit: usize, key: Key, flights: &Arc<Table>) -> (Self, u64) {
        let under_way = flights.enter(key);
        (Self { limit, key, flights: Arc::clone(flights), shared: None }, under_way)
    }

    /// The index of its limit in the plan.
    pub const fn limit(&self) -> usize {
        self.limit
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.flights.leave(self.key);
    }
}

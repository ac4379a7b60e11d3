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
    pub(super) flights: Arc<Table>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.flights.leave(self.key);
    }
}

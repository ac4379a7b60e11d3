//! What holds for an HTTP/2 connection of the configuration in force, which may be younger than the connection.

use crate::plan::{Plan, Timeouts};
use crate::wire::pace::Pace;

/// What the plan in force says of connections that are open.
pub(super) struct Terms {
    pub(super) timeouts: Timeouts,
    /// Bytes a second that the client has to take.
    pub(super) write_rate: u64,
    /// Requests at a time.
    pub(super) streams: usize,
    /// Requests at a time on all connections of the client.
    pub(super) streams_per_client: usize,
    /// Requests in all.
    pub(super) requests: usize,
}

impl Terms {
    pub(super) fn of(plan: &Plan) -> Self {
        let bounds = &plan.bounds;
        Self {
            timeouts: plan.timeouts.clone(),
            write_rate: bounds.write_rate,
            streams: bounds.streams,
            streams_per_client: bounds.streams_per_client,
            requests: bounds.requests_per_connection,
        }
    }

    /// How slowly the client may take what is its own.
    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.timeouts.write, self.write_rate)
    }
}

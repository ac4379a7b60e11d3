//! Keys about slots: groups of servers of which one gets the requests.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{HashKey, Server};
use crate::config::shape::List;
use crate::config::value::{Count, Flag, Leaf, Percent, Seconds};

/// A group of servers that run one release.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{servers: [\"127.0.0.1:8000\"]}`")]
pub(in crate::config) struct UpstreamSlot {
    /// Its servers, at least one: as in `upstream`.
    #[schemars(required)]
    pub(in crate::config) servers: Option<List<Server>>,
}

/// How requests are moved from one slot to another, where `probegate switch` does not say it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{bake: 60s, errors: 5%}`")]
pub(in crate::config) struct Switching {
    /// What keeps a client in one slot while both get requests: `client_ip` (default), `{header: NAME}` or `{cookie: NAME}`. Requests without the
    /// header or the cookie: their client's address.
    pub(in crate::config) sticky: Option<HashKey>,
    /// How long the new slot is watched when it has all requests. Default: `60s`.
    pub(in crate::config) bake: Option<Leaf<Seconds>>,
    /// The share of errors beyond which everything goes back: 5xx, and servers that do not answer. Default: `5%`.
    pub(in crate::config) errors: Option<Leaf<Percent>>,
    /// Requests over which that share is counted at least. Default: 50.
    pub(in crate::config) min_requests: Option<Leaf<Count>>,
    /// Whether requests with idempotent methods (GET, HEAD, OPTIONS, PUT and DELETE, or what `retries.methods` says) that went wrong in the new slot
    /// are sent to the old one while it is watched. Default: `true`.
    pub(in crate::config) retry: Option<Leaf<Flag>>,
}

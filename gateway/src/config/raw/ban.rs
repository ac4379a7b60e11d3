//! Keys about clients that are kept out for a while.

use probegate_policies::route::PathPrefix;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::List;
use crate::config::value::{Count, DenyWord, Flag, Leaf, Method, ModeWord, Name, OffenceStatus, Seconds};

/// Clients that offend too often are kept out for a while.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{offences: {wrong_token: true}, mode: shadow}`")]
pub(in crate::config) struct Ban {
    /// What counts against a client, at least one thing.
    #[schemars(required)]
    pub(in crate::config) offences: Option<Offences>,
    /// Only requests with these methods count. Default: all.
    pub(in crate::config) methods: Option<List<Leaf<Method>>>,
    /// Only requests for these paths, and what lies below them, count. A ban is for all paths. Default: all.
    pub(in crate::config) paths: Option<List<Leaf<PathPrefix>>>,
    /// The services that count offences and keep the client out. Default: all.
    pub(in crate::config) services: Option<List<Leaf<Name>>>,
    /// So many offences in the window are a ban: 1 to 100. Default: 5.
    pub(in crate::config) max_offences: Option<Leaf<Count>>,
    /// The time in which offences are counted; it slides. Default: `10m`.
    pub(in crate::config) window: Option<Leaf<Seconds>>,
    /// How long the first ban lasts. Default: `10m`.
    pub(in crate::config) time: Option<Leaf<Seconds>>,
    /// How many times that a ban lasts, by how many the client had before; the last one is for all further ones. `[1]`: all are alike. Default:
    /// `[1, 2, 4, 8, 16, 32, 64]`.
    pub(in crate::config) multipliers: Option<List<Leaf<Count>>>,
    /// How long after its end a ban counts when the next one is measured. Default: `24h`.
    pub(in crate::config) remember: Option<Leaf<Seconds>>,
    /// `shadow`: nobody is kept out, and what would happen is counted and logged; `enforce`. Default: `shadow`.
    pub(in crate::config) mode: Option<Leaf<ModeWord>>,
    /// What those see who are kept out: `403`, `404` or `close`. Default: `403`.
    pub(in crate::config) deny: Option<Leaf<DenyWord>>,
    /// Networks that are never banned, besides trusted proxies, `internal` and the gateway's own addresses. Default: none.
    pub(in crate::config) except: Option<List<Leaf<Name>>>,
    /// How many clients are remembered. Default: 65536.
    pub(in crate::config) max_clients: Option<Leaf<Count>>,
}

/// What counts against a client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{denied: true, status: [404]}`")]
pub(in crate::config) struct Offences {
    /// A rule refused it: from outside of a network, without a token or certificate, or with a wrong one. Default: `false`.
    pub(in crate::config) denied: Option<Leaf<Flag>>,
    /// It presented a wrong token. Default: `false`; `denied` includes it.
    pub(in crate::config) wrong_token: Option<Leaf<Flag>>,
    /// A limit refused it that it alone has used up: one that counts each address apart. Default: `false`.
    pub(in crate::config) limited: Option<Leaf<Flag>>,
    /// What it sent is not HTTP. Default: `false`.
    pub(in crate::config) invalid: Option<Leaf<Flag>>,
    /// It asked for a host that no service has. Default: `false`.
    pub(in crate::config) unknown_host: Option<Leaf<Flag>>,
    /// The app, or a file, answered with one of these: `[404]` for scans, `[401, 403]` for logins that fail. Default: none.
    pub(in crate::config) status: Option<List<Leaf<OffenceStatus>>>,
}

//! Keys of the admin listener.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::value::{AdminAddress, FileMode, FilePath, Flag, Leaf, Name};

/// Where metrics, the gateway's own probes and the admin API are served.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `address`, `socket` and `tokens`, or `off`")]
pub(in crate::config) struct Admin {
    /// Where to listen, or `off`: at the socket alone. Default: `127.0.0.1:9900`.
    pub(in crate::config) address: Option<Leaf<AdminAddress>>,
    /// A Unix socket that answers as well. Whoever may open it may do everything.
    pub(in crate::config) socket: Option<AdminSocket>,
    /// The token set, one of which has to be presented: `tokens: {write: …}`. Default: none, and all is over loopback only.
    pub(in crate::config) token: Option<Leaf<Name>>,
    /// The token sets of those who may look, and of those who may change something.
    pub(in crate::config) tokens: Option<AdminTokens>,
    /// Whether `/metrics` takes no token where everything else does. Default: `false`.
    pub(in crate::config) open_metrics: Option<Leaf<Flag>>,
    /// A file that gets a line for every change. Default: none, and they are in the diagnostics log alone.
    pub(in crate::config) audit: Option<Leaf<FilePath>>,
}

/// The Unix socket of the admin listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{path: /run/probegate/admin.sock}`")]
pub(in crate::config) struct AdminSocket {
    /// Where it is made.
    #[schemars(required)]
    pub(in crate::config) path: Option<Leaf<FilePath>>,
    /// Its permissions. Default: `"0600"`.
    pub(in crate::config) mode: Option<Leaf<FileMode>>,
    /// Its owner, by name or number. Default: who runs the gateway.
    pub(in crate::config) owner: Option<Leaf<Name>>,
    /// Its group, by name or number. Default: that of who runs the gateway.
    pub(in crate::config) group: Option<Leaf<Name>>,
}

/// The token sets of the admin listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{read: viewers, write: operators}`")]
pub(in crate::config) struct AdminTokens {
    /// These may look.
    pub(in crate::config) read: Option<Leaf<Name>>,
    /// These may look, and change something. Default: none, and nobody may over TCP.
    pub(in crate::config) write: Option<Leaf<Name>>,
}

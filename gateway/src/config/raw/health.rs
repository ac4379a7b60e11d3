//! Keys about active checks.

use schemars::JsonSchema;
use serde::Deserialize;

use super::AppToken;
use crate::config::shape::List;
use crate::config::value::{Count, ExactPath, Flag, Host, Leaf, Seconds};

/// How servers are checked, whether or not anybody asks them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{path: /healthz}`")]
pub(in crate::config) struct Health {
    /// What servers are asked for. Default: `/healthz`.
    pub(in crate::config) path: Option<Leaf<ExactPath>>,
    /// `Host` to send, one of Django's `ALLOWED_HOSTS`. Default: the service's own `host`, else the first of its hosts without `*`, else the server's address.
    pub(in crate::config) host: Option<Leaf<Host>>,
    /// A token that the app wants to see.
    pub(in crate::config) token: Option<AppToken>,
    /// The statuses that pass. Default: any 2xx. A redirect passes only when it is named.
    pub(in crate::config) status: Option<List<Leaf<Count>>>,
    /// Whether a connection is enough, with its TLS handshake where TLS is spoken, and nothing is asked. Default: `false`.
    pub(in crate::config) tcp: Option<Leaf<Flag>>,
    /// From one check to the next, a tenth more or less. Default: `10s`.
    pub(in crate::config) interval: Option<Leaf<Seconds>>,
    /// For a whole check, the connection included. Default: `1s`.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
    /// How many failures in a row make a server down. Default: 3.
    pub(in crate::config) fall: Option<Leaf<Count>>,
    /// How many passes in a row make a server that is down up again. Default: 2.
    pub(in crate::config) rise: Option<Leaf<Count>>,
}

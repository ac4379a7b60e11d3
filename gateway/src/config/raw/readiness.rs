//! Keys about the gateway's own readiness.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::List;
use crate::config::value::{Leaf, Name};

/// When the gateway itself is ready, beside that it runs.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{services: [shop]}`")]
pub(in crate::config) struct Readiness {
    /// Services without which the gateway is not ready: of each, a server has to be neither down nor drained. Default: none.
    pub(in crate::config) services: Option<List<Leaf<Name>>>,
}

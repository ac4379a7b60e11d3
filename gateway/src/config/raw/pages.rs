//! Keys about what people see of errors, and about maintenance.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Allow;
use crate::config::shape::{Named, Toggle};
use crate::config::value::{FilePath, Flag, Leaf, PageWord, Seconds};

/// Pages by status, class (`5xx`) or `default`.
pub(in crate::config) type ErrorPages = Toggle<Named<Leaf<PageWord>>>;

/// What happens while a service is in maintenance.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{retry_after: 10m, allow: {network: office}}`")]
pub(in crate::config) struct Maintenance {
    /// Whether the service is in maintenance. `probegate maintenance on` and `off` change that without a reload. Default: `false`.
    pub(in crate::config) enabled: Option<Leaf<Flag>>,
    /// When clients are told to come back, in whole seconds. Default: they are not told, unless the command says it.
    pub(in crate::config) retry_after: Option<Leaf<Seconds>>,
    /// Who is served all the same. Default: nobody.
    pub(in crate::config) allow: Option<Allow>,
    /// The file with the page that browsers see. Relative to the configuration file. Default: as `error_pages` says.
    pub(in crate::config) page: Option<Leaf<FilePath>>,
}

impl Default for Maintenance {
    /// `maintenance: true`.
    fn default() -> Self {
        Self { enabled: Some(Leaf(Flag(true))), retry_after: None, allow: None, page: None }
    }
}

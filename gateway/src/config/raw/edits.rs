//! Keys about what is changed in requests and answers.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::{List, Named};
use crate::config::value::{FieldText, Leaf, TemplateText};

/// Changes of header fields. A field stands in one of them only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{set: {X-Env: prod}, remove: [X-Debug]}`")]
pub(in crate::config) struct FieldEdits {
    /// Fields by name that replace whatever is there.
    pub(in crate::config) set: Option<Named<Leaf<TemplateText>>>,
    /// Fields by name that come besides whatever is there.
    pub(in crate::config) add: Option<Named<Leaf<TemplateText>>>,
    /// Names of fields that do not pass.
    pub(in crate::config) remove: Option<List<Leaf<FieldText>>>,
}

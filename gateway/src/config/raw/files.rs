//! Keys about files that are served in the place of the app.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::{List, Named};
use crate::config::value::{
    AbsentWord, CacheControlWord, FileName, FilePath, Flag, IndexWord, Leaf, MediaType, NamePattern,
};

/// Files below a folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{root: static/}`")]
pub(in crate::config) struct Files {
    /// The folder. What the route covers is cut off the path (nginx's `alias`). Relative to the configuration file.
    #[schemars(required)]
    pub(in crate::config) root: Option<Leaf<FilePath>>,
    /// The file that answers for its folder, or `off`. Default: `index.html`.
    pub(in crate::config) index: Option<Leaf<IndexWord>>,
    /// The file that answers where there is none, for single-page apps: not for names with a dot, and not for probes. Default: none.
    #[serde(rename = "try")]
    pub(in crate::config) fallback: Option<Leaf<FileName>>,
    /// What happens where there is no file: `404` (default), or `app` to ask the app.
    pub(in crate::config) missing: Option<Leaf<AbsentWord>>,
    /// Whether `.br`, `.zst` and `.gz` beside a file are served in its place to clients that take them. Default: `false`.
    pub(in crate::config) precompressed: Option<Leaf<Flag>>,
    /// `Cache-Control` by name; the first that matches counts. Default: none.
    pub(in crate::config) cache_control: Option<List<CacheControl>>,
    /// Media types by ending, besides those that are known: `{glb: model/gltf-binary}`.
    pub(in crate::config) types: Option<Named<Leaf<MediaType>>>,
    /// Whether a folder without an index shows what is in it. Default: `false`.
    pub(in crate::config) listing: Option<Leaf<Flag>>,
    /// Whether names that begin with a dot are served; `.well-known` always is. Default: `false`.
    pub(in crate::config) dotfiles: Option<Leaf<Flag>>,
    /// Whether symbolic links are followed, as long as they stay below the root. Default: `true`.
    pub(in crate::config) symlinks: Option<Leaf<Flag>>,
    /// Whether only the app may point here, with `X-Accel-Redirect`. Default: `false`.
    pub(in crate::config) internal: Option<Leaf<Flag>>,
    /// Whether the app may name files below the root by their whole paths, with `X-Sendfile`. Default: `false`.
    pub(in crate::config) x_sendfile: Option<Leaf<Flag>>,
}

/// How long caches may keep some of the files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{match: hashed, set: immutable}`")]
pub(in crate::config) struct CacheControl {
    /// Which: a pattern with `*` and `?`, on the last segment of the name, or on all of it where the pattern has a `/`; or `hashed` for names with a
    /// hash of their content.
    #[serde(rename = "match")]
    #[schemars(required)]
    pub(in crate::config) pattern: Option<Leaf<NamePattern>>,
    /// The field's value, or `immutable` for a year without asking again.
    #[schemars(required)]
    pub(in crate::config) set: Option<Leaf<CacheControlWord>>,
}

//! What answers a route: the app, or files.

use std::path::PathBuf;

use probegate_policies::files::{CacheRule, Types};

/// Who answers the requests of a route.
#[derive(Debug, Default)]
pub enum Action {
    /// The app.
    #[default]
    Forward,
    /// Files below a folder.
    Files(Box<Files>),
}

impl Action {
    /// Whether the app may be asked.
    pub fn asks_app(&self) -> bool {
        match self {
            Self::Forward => true,
            Self::Files(files) => files.missing == Missing::App,
        }
    }
}

/// Files below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The folder. What the route covers is cut off the path; the rest is the name below this folder.
    pub root: PathBuf,
    /// Stands for everything that decides which file a name leads to, so that what was found for one route is not taken for another's.
    pub key: u64,
    /// The name of the file that answers for its folder.
    pub index: Option<Box<str>>,
    /// The file, by its name below the root, that answers where there is none: the page of a single-page app.
    pub fallback: Option<Box<str>>,
    /// What happens where there is no file.
    pub missing: Missing,
    /// `.br`, `.zst` and `.gz` beside a file are served in its place to clients that take them.
    pub precompressed: bool,
    /// `Cache-Control` by name; the first rule that matches counts.
    pub cache: Box<[CacheRule]>,
    /// Media types by ending.
    pub types: Types,
    /// A folder without an index shows what is in it.
    pub listing: bool,
    /// Names that begin with a dot are shown.
    pub dotfiles: bool,
    /// Symbolic links are followed, as long as they stay below the root.
    pub symlinks: bool,
    /// Only the app may point here (`X-Accel-Redirect`); for clients, nothing is there.
    pub internal: bool,
    /// The app may name files by their paths in the file system (`X-Sendfile`), below the root as it is called here: absolute and without detours.
    pub sendfile: Option<PathBuf>,
}

/// What happens where there is no file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// 404.
    #[default]
    NotFound,
    /// The app is asked.
    App,
}

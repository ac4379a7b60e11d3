//! Files that are served: opened beneath a root from which nothing leads out, kept open for a second or so, and read without keeping a worker from
//! its other connections where the system can tell that a disk would have to be waited for.
//!
//! Invariants: a name never leaves its root, neither by its segments nor by a symbolic link, not even one that is put there while the name is looked up
//! (`openat2` with `RESOLVE_BENEATH`); only regular files are ever handed out; what is kept open is bounded; a disk that does not answer holds a few
//! threads, and nobody for ever.

mod disk;
mod folder;
mod open;
mod shelf;
mod source;

use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

use probegate_policies::encoding::Coding;
use probegate_policies::files::Meta;

pub use self::disk::Disk;
use self::open::supported;
pub use self::shelf::Shelf;
pub use self::source::{FileSource, Segment};
use crate::plan::{Action, Plan};

/// An open file.
#[derive(Clone, Debug)]
pub struct Open {
    /// The file. Shared with threads that may wait for the disk.
    pub file: Arc<File>,
    /// What was known about it when it was opened.
    pub meta: Meta,
    /// It lies with somebody who may not answer: it is never read on a worker's thread.
    pub remote: bool,
}

/// A file, and what lies beside it in its place.
#[derive(Debug)]
pub struct Variants {
    /// The name of the plain file below the root.
    pub name: Box<[u8]>,
    /// The plain file.
    pub plain: Open,
    /// The same in other codings.
    pub coded: Vec<(Coding, Open)>,
}

/// What a name leads to.
#[derive(Clone, Debug)]
pub enum Found {
    /// A regular file.
    File(Rc<Variants>),
    /// A folder: without its slash, or without an index.
    Folder,
    /// Nothing that is served.
    Missing,
}

/// Whether this system can serve the files of a plan as safely as that has to be done.
///
/// # Errors
/// It can not: why, in a sentence.
pub fn prove(plan: &Plan) -> Result<(), String> {
    let has_files = |action: &Action| matches!(action, Action::Files(_));
    if !plan.services.iter().any(|service| service.routes.iter().any(|route| has_files(&route.action))) {
        return Ok(());
    }
    supported().map_err(|error| {
        format!(
            "files cannot be served: openat2 fails ({error}). It needs Linux 5.6 and must not be filtered; there is no other way that is safe"
        )
    })
}

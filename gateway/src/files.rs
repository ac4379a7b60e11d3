//! Files that are served: opened beneath a root from which nothing leads out, kept open for a second or so, and read without keeping a worker from
//! its other connections where the system can tell that a disk would have to be waited for.
//!
//! Invariants: a name never leaves its root, neither by its segments nor by a symbolic link, not even one that is put there while the name is looked up
//! (`openat2` with `RESOLVE_BENEATH`); only regular files are ever handed out; what is kept open is bounded.

mod folder;
mod open;
mod source;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::encoding::Coding;
use probegate_policies::files::{CODINGS, Meta, Name, ending};

pub use self::folder::Listing;
use self::open::{Opened, supported};
pub use self::source::{FileSource, Segment};
use crate::plan::{Action, Files, Plan};

/// For how long a file that was found counts as found. A change shows after this time at the latest, twice of it where the root itself is another
/// folder by then.
const FRESH: Duration = Duration::from_secs(1);

/// Names that a worker remembers the files of.
const KEPT: usize = 512;

/// An open file.
#[derive(Clone, Debug)]
pub struct Open {
    /// The file. Shared with threads that may wait for the disk.
    pub file: Arc<File>,
    /// What was known about it when it was opened.
    pub meta: Meta,
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

/// The files that a worker has open.
#[derive(Debug, Default)]
pub struct Shelf {
    roots: RefCell<HashMap<u64, Root>>,
}

#[derive(Debug)]
struct Root {
    folder: Arc<OwnedFd>,
    opened: Duration,
    files: HashMap<Box<[u8]>, (Duration, Rc<Variants>)>,
}

impl Shelf {
    /// What a name below a root leads to; `now` is the time of the event loop.
    ///
    /// # Errors
    /// The system has no descriptors or no memory left, or the disk fails.
    pub async fn find(&self, files: &Files, name: Name<'_>, now: Duration) -> io::Result<Found> {
        if !name.folder
            && let Some(found) = self.kept(files.key, name.relative, now)
        {
            return Ok(Found::File(found));
        }
        match self.look(files, name, now).await {
            // What is kept open may be what is missing.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                self.roots.borrow_mut().clear();
                self.look(files, name, now).await
            }
            found => found,
        }
    }

    fn kept(&self, key: u64, name: &[u8], now: Duration) -> Option<Rc<Variants>> {
        let roots = self.roots.borrow();
        let (looked, found) = roots.get(&key)?.files.get(name)?;
        (now.saturating_sub(*looked) < FRESH).then(|| Rc::clone(found))
    }

    async fn look(&self, files: &Files, name: Name<'_>, now: Duration) -> io::Result<Found> {
        let Some(root) = self.root(files, now).await? else { return Ok(Found::Missing) };
        if name.folder {
            let index = files.index.as_deref().map(|index| match name.relative {
                b"" => index.as_bytes().to_vec(),
                folder => [folder, b"/", index.as_bytes()].concat(),
            });
            if let Some(index) = &index {
                if let Some(found) = self.kept(files.key, index, now) {
                    return Ok(Found::File(found));
                }
                if let Opened::File(plain) = open::beneath(&root, index, files.symlinks).await? {
                    return self.found(files, &root, index, plain, now).await;
                }
            }
            return Ok(match open::beneath(&root, name.relative, files.symlinks).await? {
                Opened::Folder => Found::Folder,
                Opened::File(_) | Opened::Missing => Found::Missing,
            });
        }
        match open::beneath(&root, name.relative, files.symlinks).await? {
            Opened::File(plain) => self.found(files, &root, name.relative, plain, now).await,
            Opened::Folder => Ok(Found::Folder),
            Opened::Missing => Ok(Found::Missing),
        }
    }

    /// What is in a folder below a root. `None`: it is not there, or may not be read.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn list(&self, files: &Files, name: &[u8], now: Duration) -> io::Result<Option<Listing>> {
        match self.root(files, now).await? {
            Some(root) => folder::read(&root, name, files.symlinks, files.dotfiles).await,
            None => Ok(None),
        }
    }

    /// The root, opened anew now and then: deployments put another folder in its place.
    async fn root(&self, files: &Files, now: Duration) -> io::Result<Option<Arc<OwnedFd>>> {
        if let Some(root) = self.roots.borrow().get(&files.key)
            && now.saturating_sub(root.opened) < FRESH
        {
            return Ok(Some(Arc::clone(&root.folder)));
        }
        let Some(folder) = open::root(&files.root).await? else {
            tracing::warn!(root = %files.root.display(), "a folder with files to serve is not there");
            return Ok(None);
        };
        let folder = Arc::new(folder);
        let mut roots = self.roots.borrow_mut();
        let root = roots.entry(files.key).or_insert_with(|| Root {
            folder: Arc::clone(&folder),
            opened: now,
            files: HashMap::new(),
        });
        root.folder = Arc::clone(&folder);
        root.opened = now;
        Ok(Some(folder))
    }

    /// A plain file was found: looks for what lies beside it, and remembers all of it.
    async fn found(
        &self,
        files: &Files,
        root: &Arc<OwnedFd>,
        name: &[u8],
        plain: Open,
        now: Duration,
    ) -> io::Result<Found> {
        let mut coded = Vec::new();
        if files.precompressed {
            for coding in CODINGS {
                let beside = [name, ending(coding).as_bytes()].concat();
                if let Opened::File(open) = open::beneath(root, &beside, files.symlinks).await? {
                    coded.push((coding, open));
                }
            }
        }
        let found = Rc::new(Variants { name: name.into(), plain, coded });
        let mut roots = self.roots.borrow_mut();
        if roots.values().map(|root| root.files.len()).sum::<usize>() >= KEPT {
            forget(&mut roots, now);
        }
        if roots.values().map(|root| root.files.len()).sum::<usize>() < KEPT
            && let Some(root) = roots.get_mut(&files.key)
        {
            root.files.insert(name.into(), (now, Rc::clone(&found)));
        }
        Ok(Found::File(found))
    }

    /// Closes what nobody may take any more. Called now and then.
    pub fn sweep(&self, now: Duration) {
        let mut roots = self.roots.borrow_mut();
        if !roots.is_empty() {
            forget(&mut roots, now);
        }
    }
}

fn forget(roots: &mut HashMap<u64, Root>, now: Duration) {
    roots.retain(|_, root| {
        root.files.retain(|_, (looked, _)| now.saturating_sub(*looked) < FRESH);
        !root.files.is_empty() || now.saturating_sub(root.opened) < FRESH
    });
}

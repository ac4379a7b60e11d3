//! The files that a worker has open.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::files::{CODINGS, Name, ending};
use rustix::process::{Resource, getrlimit};
use tokio::sync::Semaphore;

use super::disk::PLACES;
use super::open::{self, Opened};
use super::{Disk, Found, Open, Variants, folder};
use crate::plan::Files;
use crate::wire::deadline::Deadline;

/// For how long a file that was found counts as found. A change shows after this time at the latest, twice of it where the root itself is another
/// folder by then.
const FRESH: Duration = Duration::from_secs(1);

/// Descriptors of files that a worker keeps at most.
const KEPT: u64 = 512;

/// The files that a worker has open.
#[derive(Debug)]
pub struct Shelf {
    roots: RefCell<HashMap<u64, Known>>,
    /// Descriptors that are kept, and how many may be.
    open: Cell<u64>,
    most: u64,
    places: Arc<Semaphore>,
}

/// What is known about a root.
#[derive(Debug)]
struct Known {
    /// `None`: it is not there.
    root: Option<open::Root>,
    opened: Duration,
    files: HashMap<Box<[u8]>, (Duration, Rc<Variants>)>,
}

impl Shelf {
    /// The shelf of one of so many workers: together they keep no more than an eighth of the descriptors that the process may have.
    pub fn new(workers: usize) -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self {
            roots: RefCell::default(),
            open: Cell::new(0),
            most: (limit / 8 / (workers.max(1) as u64)).min(KEPT),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }

    /// How a request waits for disks: `patience` for each step.
    pub fn disk<'a>(&'a self, deadline: &'a Deadline, patience: Duration) -> Disk<'a> {
        Disk { places: &self.places, deadline, patience }
    }

    /// What a name below a root leads to; `now` is the time of the event loop.
    ///
    /// # Errors
    /// The system has no descriptors or no memory left, or the disk fails or does not answer.
    pub async fn find(&self, files: &Files, name: Name<'_>, now: Duration, disk: Disk<'_>) -> io::Result<Found> {
        if !name.folder
            && let Some(found) = self.kept(files.key, name.relative, now)
        {
            return Ok(Found::File(found));
        }
        match self.look(files, name, now, disk).await {
            // What is kept open may be what is missing.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
                self.clear();
                self.look(files, name, now, disk).await
            }
            found => found,
        }
    }

    fn kept(&self, key: u64, name: &[u8], now: Duration) -> Option<Rc<Variants>> {
        let roots = self.roots.borrow();
        let (looked, found) = roots.get(&key)?.files.get(name)?;
        // Who writes into a file that is there changes its length under what is remembered of it.
        let unchanged =
            || open::is_unchanged(&found.plain) && found.coded.iter().all(|(_, open)| open::is_unchanged(open));
        (now.saturating_sub(*looked) < FRESH && unchanged()).then(|| Rc::clone(found))
    }

    async fn look(&self, files: &Files, name: Name<'_>, now: Duration, disk: Disk<'_>) -> io::Result<Found> {
        let Some(root) = self.root(files, now, disk).await? else { return Ok(Found::Missing) };
        if name.folder {
            let index = files.index.as_deref().map(|index| match name.relative {
                b"" => index.as_bytes().to_vec(),
                folder => [folder, b"/", index.as_bytes()].concat(),
            });
            if let Some(index) = &index {
                if let Some(found) = self.kept(files.key, index, now) {
                    return Ok(Found::File(found));
                }
                if let Opened::File(plain) = open::beneath(&root, index, files.symlinks, disk).await? {
                    return self.found(files, &root, index, plain, now, disk).await;
                }
            }
            return Ok(match open::beneath(&root, name.relative, files.symlinks, disk).await? {
                Opened::Folder => Found::Folder,
                Opened::File(_) | Opened::Missing => Found::Missing,
            });
        }
        match open::beneath(&root, name.relative, files.symlinks, disk).await? {
            Opened::File(plain) => self.found(files, &root, name.relative, plain, now, disk).await,
            Opened::Folder => Ok(Found::Folder),
            Opened::Missing => Ok(Found::Missing),
        }
    }

    /// The page that shows what is in a folder below a root; `path` is how clients call it. `None`: it is not there, or may not be read.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn list(
        &self,
        files: &Files,
        name: &[u8],
        path: &[u8],
        now: Duration,
        disk: Disk<'_>,
    ) -> io::Result<Option<Vec<u8>>> {
        match self.root(files, now, disk).await? {
            Some(root) => folder::page(&root, name, path, (files.symlinks, files.dotfiles), disk).await,
            None => Ok(None),
        }
    }

    /// The root, opened anew now and then: deployments put another folder in its place.
    async fn root(&self, files: &Files, now: Duration, disk: Disk<'_>) -> io::Result<Option<open::Root>> {
        if let Some(known) = self.roots.borrow().get(&files.key)
            && now.saturating_sub(known.opened) < FRESH
        {
            return Ok(known.root.clone());
        }
        let root = open::root(&files.root, disk).await?;
        if root.is_none() {
            tracing::warn!(root = %files.root.display(), "a folder with files to serve is not there");
        }
        let mut roots = self.roots.borrow_mut();
        let known = roots.entry(files.key).or_insert_with(|| Known { root: None, opened: now, files: HashMap::new() });
        known.root.clone_from(&root);
        known.opened = now;
        Ok(root)
    }

    /// A plain file was found: looks for what lies beside it, and remembers all of it.
    async fn found(
        &self,
        files: &Files,
        root: &open::Root,
        name: &[u8],
        plain: Open,
        now: Duration,
        disk: Disk<'_>,
    ) -> io::Result<Found> {
        let mut coded = Vec::new();
        if files.precompressed {
            for coding in CODINGS {
                let beside = [name, ending(coding).as_bytes()].concat();
                if let Opened::File(open) = open::beneath(root, &beside, files.symlinks, disk).await? {
                    coded.push((coding, open));
                }
            }
        }
        let found = Rc::new(Variants { name: name.into(), plain, coded });
        self.keep(files.key, &found, now);
        Ok(Found::File(found))
    }

    /// Remembers a file, where there is room for its descriptors.
    fn keep(&self, key: u64, found: &Rc<Variants>, now: Duration) {
        let mut roots = self.roots.borrow_mut();
        let more = descriptors(found);
        if self.open.get() + more > self.most {
            self.forget(&mut roots, now);
        }
        let Some(known) = roots.get_mut(&key) else { return };
        if let Some((_, before)) = known.files.remove(&found.name) {
            self.open.set(self.open.get() - descriptors(&before));
        }
        if self.open.get() + more <= self.most {
            self.open.set(self.open.get() + more);
            known.files.insert(found.name.clone(), (now, Rc::clone(found)));
        }
    }

    /// Closes what nobody may take any more. Called now and then.
    pub fn sweep(&self, now: Duration) {
        let mut roots = self.roots.borrow_mut();
        if !roots.is_empty() {
            self.forget(&mut roots, now);
        }
    }

    /// Closes everything: descriptors are missing elsewhere.
    pub fn clear(&self) {
        self.roots.borrow_mut().clear();
        self.open.set(0);
    }

    fn forget(&self, roots: &mut HashMap<u64, Known>, now: Duration) {
        let mut open = 0;
        roots.retain(|_, known| {
            known.files.retain(|_, (looked, _)| now.saturating_sub(*looked) < FRESH);
            open += known.files.values().map(|(_, found)| descriptors(found)).sum::<u64>();
            !known.files.is_empty() || now.saturating_sub(known.opened) < FRESH
        });
        self.open.set(open);
    }
}

fn descriptors(found: &Variants) -> u64 {
    1 + found.coded.len() as u64
}

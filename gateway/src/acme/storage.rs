//! One folder for each authority: the account, certificates with their keys, and what was ordered when.
//!
//! Folders are for their owner alone (0700), files as well (0600). A file is replaced whole or not at all. A certificate and its key
//! are one file, so that they can not part. Locks are the kernel's: they end with the process that holds them.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::durable::{self, Lock};

/// The largest file that is read.
const LIMIT: u64 = 1 << 20;

/// Written to see whether anything can be.
const PROOF: &str = ".writable";

/// A write takes no longer.
const OLD: Duration = Duration::from_secs(3600);

/// The folder of one authority.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// A file or folder that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub(super) struct StorageFailed {
    path: String,
    #[source]
    error: io::Error,
}

impl Folder {
    /// Opens, or makes, the folder of the authority with this directory URL, and proves that it can be written to.
    ///
    /// # Errors
    /// It can not.
    pub(super) fn open(storage: &Path, directory: &str) -> Result<Self, StorageFailed> {
        let acme = storage.join("acme");
        let folder = Self { path: acme.join(folder_name(directory)) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder.path);
        made.map_err(|error| folder.failed(&folder.path, error))?;
        for path in [&acme, &folder.path] {
            tighten(path, 0o700).map_err(|error| folder.failed(path, error))?;
        }
        folder.clear();
        folder.write(PROOF, b"")?;
        Ok(folder)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file; `None`: there is none.
    ///
    /// # Errors
    /// It can not be read, or is far too large.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageFailed> {
        let path = self.path.join(name);
        let read = || {
            tighten(&path, 0o600)?;
            let mut content = Vec::new();
            File::open(&path)?.take(LIMIT + 1).read_to_end(&mut content)?;
            if content.len() as u64 > LIMIT { Err(io::Error::other("it is too large")) } else { Ok(content) }
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&path, error)),
        }
    }

    /// Replaces a file. Whoever reads it meanwhile, or after a power failure, sees the old content or the new one.
    ///
    /// # Errors
    /// The old content stays.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), StorageFailed> {
        let path = self.path.join(name);
        durable::replace(&path, content, 0o600).map_err(|error| self.failed(&path, error))
    }

    /// Moves a file out of the way that is not what it should be, for somebody to look at. Says where it is now.
    ///
    /// # Errors
    /// It can not be moved.
    pub(super) fn set_aside(&self, name: &str, now: u64) -> Result<PathBuf, StorageFailed> {
        let path = self.path.join(name);
        let aside = self.path.join(format!("{name}.broken-{now}"));
        fs::rename(&path, &aside).map_err(|error| self.failed(&path, error))?;
        Ok(aside)
    }

    /// The files whose names end with `ending`, sorted.
    pub(super) fn names(&self, ending: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(ending) && !name.starts_with('.')).collect();
        names.sort_unstable();
        names
    }

    /// Removes what writes have left behind that a power failure ended.
    fn clear(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let old = || {
                entry
                    .metadata()
                    .and_then(|data| data.modified())
                    .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > OLD))
            };
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with('.') && name != PROOF) && old() {
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    /// Takes the lock of this name; `None`: another process (or task) holds it.
    ///
    /// # Errors
    /// The file of the lock can not be made.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<Lock>, StorageFailed> {
        let path = self.path.join(format!("{name}.lock"));
        durable::lock(&path, false).map_err(|error| self.failed(&path, error))
    }

    #[expect(clippy::unused_self, reason = "reads as what it is: this folder failed")]
    fn failed(&self, path: &Path, error: io::Error) -> StorageFailed {
        StorageFailed { path: path.display().to_string(), error }
    }
}

/// Takes rights from others that a backup or a hand has given them.
fn tighten(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?.permissions().mode() & 0o777;
    if found & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        tracing::warn!(path = %path.display(), mode = format!("{found:o}"), "others could read what holds keys: they can not any more");
    }
    Ok(())
}

/// The name of an authority's folder: its directory URL, as far as that makes a file name.
fn folder_name(directory: &str) -> String {
    let rest = directory.strip_prefix("https://").unwrap_or(directory);
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c.to_ascii_lowercase() } else { '-' };
    rest.trim_end_matches('/').trim_start_matches('.').chars().map(kept).take(200).collect()
}

/// The name that the files of a certificate with these names begin with. It changes when the names do.
pub(super) fn file_stem(domains: &[Box<str>]) -> String {
    let mut sorted: Vec<&str> = domains.iter().map(|domain| &**domain).collect();
    sorted.sort_unstable();
    // FNV-1a: the same in every version of the program, which is all that is asked of it.
    let hash = sorted
        .join(",")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let first = domains.first().map_or("", |domain| domain);
    format!("{}-{hash:016x}", first.get(..200).unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> (PathBuf, Folder) {
        let path = std::env::temp_dir().join(format!("probegate-storage-{}-{name}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        let folder = Folder::open(&path, "https://localhost:14000/dir").unwrap();
        (path, folder)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_for_their_owner_alone_and_replaced_whole() {
        let (storage, folder) = folder("modes");
        assert!(folder.path().ends_with("acme/localhost-14000-dir"));
        assert_eq!(folder.read("account.json").unwrap(), None);
        folder.write("account.json", b"one").unwrap();
        folder.write("account.json", b"two").unwrap();
        assert_eq!(folder.read("account.json").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(mode(&folder.path().join("account.json")), 0o600);
        assert_eq!((mode(folder.path()), mode(&storage.join("acme"))), (0o700, 0o700));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was left behind");
        // What was opened up is closed again when it is next used.
        fs::set_permissions(folder.path().join("account.json"), Permissions::from_mode(0o644)).unwrap();
        folder.read("account.json").unwrap();
        assert_eq!(mode(&folder.path().join("account.json")), 0o600);
        fs::remove_dir_all(storage).unwrap();
    }

    #[test]
    fn a_lock_is_held_once() {
        let (storage, folder) = folder("locks");
        let held = folder.try_lock("shop").unwrap();
        assert!(held.is_some());
        assert!(folder.try_lock("shop").unwrap().is_none());
        assert!(folder.try_lock("other").unwrap().is_some());
        drop(held);
        assert!(folder.try_lock("shop").unwrap().is_some());
        fs::remove_dir_all(storage).unwrap();
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let (storage, folder) = folder("aside");
        folder.write("a.pem", b"nonsense").unwrap();
        let aside = folder.set_aside("a.pem", 7).unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"nonsense");
        assert_eq!(folder.names(".pem"), [""; 0]);
        fs::remove_dir_all(storage).unwrap();
    }

    #[test]
    fn the_order_of_names_does_not_matter_for_their_file_but_the_names_do() {
        let stem = |names: &[&str]| file_stem(&names.iter().map(|&name| name.into()).collect::<Vec<Box<str>>>());
        assert!(stem(&["a.example", "b.example"]).starts_with("a.example-"));
        let hash = |names: &[&str]| stem(names).rsplit_once('-').unwrap().1.to_owned();
        assert_eq!(hash(&["a.example", "b.example"]), hash(&["b.example", "a.example"]));
        assert_ne!(hash(&["a.example"]), hash(&["a.example", "b.example"]));
        assert_eq!(
            folder_name("https://acme-v02.api.letsencrypt.org/directory"),
            "acme-v02.api.letsencrypt.org-directory"
        );
        assert_eq!(folder_name("https://../../etc/"), "-..-etc");
    }
}

//! What a configuration needs from around it: variables, files, the time, the number of processors.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;

use crate::accounts;

/// The surroundings of a configuration. Tests bring their own.
pub trait Environment {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<Vec<u8>>;

    /// At most `limit` bytes of a file. Relative paths begin at the folder of the configuration.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;

    /// Where a path of the configuration leads. Relative paths begin at the folder of the configuration.
    fn resolve(&self, path: &Path) -> PathBuf;

    /// Whether something could be written into a folder, or into the nearest one above it that is there. Nothing is: it is only asked for.
    fn is_writable(&self, folder: &Path) -> io::Result<()>;

    /// Whether a folder is there, and may be looked into.
    fn is_folder(&self, folder: &Path) -> io::Result<()>;

    /// Whether a file could be made in a folder, which has to be there.
    fn takes_files(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Whether lines could be added to a file, which may not be there yet. Its folder has to be.
    fn is_appendable(&self, _file: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Whether there is a user of this name, or number.
    fn knows_user(&self, _name: &str) -> bool {
        true
    }

    /// Whether there is a group of this name, or number.
    fn knows_group(&self, _name: &str) -> bool {
        true
    }

    /// The authorities that the system believes.
    fn authorities(&self) -> Vec<CertificateDer<'static>>;

    /// Seconds since 1970.
    fn unix(&self) -> u64;

    /// How many threads can run at a time.
    fn parallelism(&self) -> usize;
}

/// The real surroundings.
#[derive(Clone, Debug)]
pub struct System {
    folder: PathBuf,
}

impl System {
    /// With relative paths beginning at `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Environment for System {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        std::env::var_os(name).map(OsStringExt::into_vec)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        read_start(&self.folder.join(path), limit)
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn is_writable(&self, folder: &Path) -> io::Result<()> {
        for folder in folder.ancestors() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            match folder.metadata() {
                Ok(found) if found.is_dir() => return takes_files(folder),
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_folder(&self, folder: &Path) -> io::Result<()> {
        // Not only looked at: whoever may not read it could serve nothing from it.
        std::fs::read_dir(folder).map(drop)
    }

    fn takes_files(&self, folder: &Path) -> io::Result<()> {
        takes_files(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    }

    fn is_appendable(&self, file: &Path) -> io::Result<()> {
        // Opening waits for nobody, and makes nothing.
        match OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.takes_files(file.parent().unwrap_or_else(|| Path::new("/")))
            }
            // A pipe that nobody reads yet.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            opened => opened.map(drop),
        }
    }

    fn knows_user(&self, name: &str) -> bool {
        accounts::user(name).is_ok()
    }

    fn knows_group(&self, name: &str) -> bool {
        accounts::group(name).is_ok()
    }

    fn authorities(&self) -> Vec<CertificateDer<'static>> {
        // Those that can be read; that one file of many can not is the system's business.
        rustls_native_certs::load_native_certs().certs
    }

    fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn parallelism(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

/// Whether a file can be made in a folder: one without a name, which is gone at once.
fn takes_files(folder: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(folder) {
        // A file system without such files does not tell.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => Ok(()),
        made => made.map(drop),
    }
}

/// Reads a file that is not larger than `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    within(limit, read_start(path, limit.saturating_add(1))?)
}

/// Reads what a person names, which may be a pipe: `-c /dev/stdin`. Waits for whoever writes into it.
pub(super) fn read_named(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take((limit as u64).saturating_add(1)).read_to_end(&mut content)?;
    within(limit, content)
}

fn within(limit: usize, content: Vec<u8>) -> io::Result<Vec<u8>> {
    if content.len() > limit {
        return Err(io::Error::other(format!("it is larger than {} MiB", limit >> 20)));
    }
    Ok(content)
}

/// At most `limit` bytes of a file: one that grows must not fill the memory. What is no file is not read: a pipe into which nobody writes would be
/// waited for without end.
fn read_start(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    // Opening waits for nobody, and what is a terminal does not become this process's own.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    file.take(limit as u64).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_not_there_yet_is_asked_of_the_folder_above_and_nothing_is_made() {
        let folder = std::env::temp_dir().join(format!("probegate-writable-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        let system = System::new("");
        for inside in ["", "acme", "some/folders/below"] {
            system.is_writable(&folder.join(inside)).unwrap();
        }
        for blocked in ["file", "file/acme"] {
            let error = system.is_writable(&folder.join(blocked)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{blocked}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
        system.is_writable(Path::new("not-there/yet")).unwrap();
    }

    #[test]
    fn a_file_takes_lines_where_it_is_or_could_be_made_and_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let system = System::new("");
        fs::write(folder.path().join("there.log"), "before").unwrap();
        for fine in ["there.log", "new.log"] {
            system.is_appendable(&folder.path().join(fine)).unwrap();
        }
        for wrong in ["", "nowhere/a.log", "there.log/a.log"] {
            assert!(system.is_appendable(&folder.path().join(wrong)).is_err(), "{wrong}");
        }
        assert!(system.takes_files(&folder.path().join("nowhere")).is_err());
        system.takes_files(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read(folder.path().join("there.log")).unwrap(), b"before");
        assert!(system.knows_user("root") && system.knows_group("root") && system.knows_group("4711"));
        assert!(!system.knows_user("nobody-of-this-name") && !system.knows_group("nobody-of-this-name"));
    }
}

//! Files that must not be lost or half-written, whatever ends the process or the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

/// A lock on a file, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// How old the half of a file must be that somebody's end left behind: nobody writes for so long.
const FORSAKEN: Duration = Duration::from_secs(5 * 60);

/// Replaces a file. Whoever reads it meanwhile, or after a power failure, sees the old content or the new one. What writers left that were killed
/// in the middle goes.
///
/// # Errors
/// The old content stays.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let prefix = format!(".{}.", name.display());
    sweep(folder, &prefix);
    let temporary = folder.join(format!("{prefix}{:016x}", fastrand::u64(..)));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself is safe once the folder is.
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        fs::remove_file(&temporary).ok();
    })
}

/// Removes the temporary files of this prefix that nobody is going to finish. What can not be removed is in nobody's way.
fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let temporary = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix))
            .is_some_and(|random| random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit()));
        // A time to come, of a clock that was set back, says nothing.
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if temporary && age().is_some_and(|age| age > FORSAKEN) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// Takes the lock that is this file; `None`: somebody else holds it. `wait`: until nobody does.
///
/// # Errors
/// The file can not be made.
pub fn lock(path: &Path, wait: bool) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let how = if wait { FlockArg::LockExclusive } else { FlockArg::LockExclusiveNonblock };
    match Flock::lock(file, how) {
        Ok(file) => Ok(Some(Lock { _file: file })),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_killed_writers_left_goes_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("probegate-durable-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let old = SystemTime::now() - FORSAKEN * 2;
        let write = |name: &str, when: Option<SystemTime>| {
            let file = File::create(folder.join(name)).unwrap();
            if let Some(when) = when {
                file.set_modified(when).unwrap();
            }
        };
        write(".bans.json.0123456789abcdef", Some(old));
        write(".bans.json.fedcba9876543210", None);
        write(".bans.json.bad", Some(old));
        write(".switches.json.0123456789abcdef", Some(old));

        replace(&folder.join("bans.json"), b"{}", 0o600).unwrap();

        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(
            left,
            [".bans.json.bad", ".bans.json.fedcba9876543210", ".switches.json.0123456789abcdef", "bans.json"]
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}

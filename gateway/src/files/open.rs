//! Opening beneath a root. On a worker's thread only what the system can do without waiting for a disk (`RESOLVE_CACHED`); the rest elsewhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use probegate_policies::files::Meta;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat2};
use rustix::io::Errno;

use super::{Disk, Open};

/// File systems that ask somebody else, who may not answer: NFS, SMB (three), FUSE, 9P, Ceph, AFS (two). Linux, `magic.h` and their sources.
const REMOTE: [u64; 9] =
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400, 0x5346_414f, 0x6b41_4653];

/// How often a look-up is tried again that somebody disturbed by renaming on the way.
const TRIES: usize = 8;

/// What a name leads to.
#[derive(Debug)]
pub(super) enum Opened {
    /// A regular file.
    File(Open),
    /// A folder.
    Folder,
    /// Nothing that may be served: nothing at all, something that is no file, or something that lies elsewhere.
    Missing,
}

/// Whether the system can look names up beneath a folder (`openat2(2)`, Linux 5.6). Without, no file is served: there is no other way that is safe.
///
/// # Errors
/// It can not, or a filter on system calls forbids it.
pub(super) fn supported() -> io::Result<()> {
    openat2(CWD, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
        .map(drop)
        .map_err(io::Error::from)
}

/// A root that was opened.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// The folder.
    pub(super) folder: Arc<OwnedFd>,
    /// Nothing about it is asked on a worker's thread: whoever has it may not answer.
    pub(super) remote: bool,
}

/// Opens a root, wherever it is. `None`: it is not there.
pub(super) async fn root(path: &Path, disk: Disk<'_>) -> io::Result<Option<Root>> {
    let path = path.to_owned();
    let opened = disk.wait(move || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::empty())?;
        let kind = fstatfs(&folder).map(|system| system.f_type);
        let remote = kind.is_ok_and(|kind| u64::try_from(kind).is_ok_and(|kind| REMOTE.contains(&kind)));
        Ok(Root { folder: Arc::new(folder), remote })
    });
    match opened.await? {
        Ok(root) => Ok(Some(root)),
        Err(error) if is_absence(error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a name below a root; the empty name is the root itself.
pub(super) async fn beneath(root: &Root, name: &[u8], symlinks: bool, disk: Disk<'_>) -> io::Result<Opened> {
    let cached =
        if root.remote { Err(Errno::AGAIN) } else { open(root.folder.as_fd(), name, symlinks, ResolveFlags::CACHED) };
    let opened = match cached {
        // Something on the way is not in memory, or the system is older than the question (Linux 5.12).
        Err(Errno::AGAIN | Errno::INVAL) => {
            let (root, name) = (root.clone(), name.to_vec());
            let opened = disk.wait(move || {
                let mut opened = Err(Errno::AGAIN);
                for _ in 0..TRIES {
                    opened = open(root.folder.as_fd(), &name, symlinks, ResolveFlags::empty());
                    // With `RESOLVE_BENEATH`, somebody's renaming is told by this.
                    if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
                        break;
                    }
                }
                look(opened?, root.remote)
            });
            opened.await?
        }
        opened => opened.and_then(|file| look(file, root.remote)),
    };
    match opened {
        Ok(opened) => Ok(opened),
        Err(error) if is_absence(error) => Ok(Opened::Missing),
        Err(error) => Err(error.into()),
    }
}

fn open(root: BorrowedFd<'_>, name: &[u8], symlinks: bool, more: ResolveFlags) -> Result<OwnedFd, Errno> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
    if !symlinks {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    // Without blocking: nobody writes into a pipe that lies here.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat2(root, name_of(name), flags, Mode::empty(), resolve)
}

/// A name as the system takes it; the empty name is the folder itself.
pub(super) fn name_of(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(if name.is_empty() { b"." } else { name })
}

/// What was opened. The inode is in memory by now.
fn look(file: OwnedFd, remote: bool) -> Result<Opened, Errno> {
    let stat = fstat(&file)?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Opened::File(Open { file: Arc::new(File::from(file)), meta: meta(&stat), remote }),
        FileType::Directory => Opened::Folder,
        _ => Opened::Missing,
    })
}

fn meta(stat: &Stat) -> Meta {
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    // Before 1970 counts as 1970: no date of HTTP is earlier.
    let modified = u64::try_from(stat.st_mtime).unwrap_or(0);
    Meta { length, modified }
}

/// Whether what is known about a file is still so: somebody may have written into it. Who has to ask somebody else for that does not.
pub(super) fn is_unchanged(open: &Open) -> bool {
    open.remote || fstat(&*open.file).is_ok_and(|stat| meta(&stat) == open.meta)
}

/// Whether an error means that there is nothing to serve under a name, rather than that serving fails.
pub(super) fn is_absence(error: Errno) -> bool {
    if matches!(error, Errno::ACCESS | Errno::PERM | Errno::XDEV | Errno::LOOP) {
        tracing::debug!(%error, "a file is there but not served");
        return true;
    }
    matches!(
        error,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
            | Errno::INVAL
            | Errno::ILSEQ
    )
}

//! The Unix socket of the admin listener.
//!
//! It is made beside its place, gets its owner and mode, is listened at from then on, and is moved to its place: nobody finds one that is open to more people
//! than it is to be, whatever the umask, as nobody can connect to one that is not listened at; and in a hand-over there is always one that answers.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::accounts::{group, user};
use crate::plan::AdminSocket;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// The file of a socket, which goes when this does, unless another process has put its own there.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    file: (u64, u64),
}

impl Drop for Bound {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Makes the socket. `takes_over`: the one that is there may be in use.
///
/// # Errors
/// Another process answers there, something else is there, or the system refuses the file, its owner or its mode.
pub(super) fn bind(socket: &AdminSocket, takes_over: bool) -> io::Result<(UnixListener, Bound)> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", socket.path.display()));
    clear(&socket.path, takes_over).map_err(at)?;
    let mut new = socket.path.clone().into_os_string();
    new.push(AdminSocket::SUFFIX);
    let new = PathBuf::from(new);
    // What a process that died left behind.
    fs::remove_file(&new).ok();
    let made = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(at)?;
    let prepared = made.bind(&SockAddr::unix(&new)?).and_then(|()| restrict(&new, socket));
    let ready = || {
        prepared?;
        made.set_nonblocking(true)?;
        made.listen(BACKLOG)?;
        fs::rename(&new, &socket.path)?;
        identity(&socket.path)
    };
    match ready() {
        Ok(file) => Ok((OwnedFd::from(made).into(), Bound { path: socket.path.clone(), file })),
        Err(error) => {
            fs::remove_file(&new).ok();
            Err(at(error))
        }
    }
}

/// Gives a socket at which nobody listens yet its owner and mode.
fn restrict(new: &Path, socket: &AdminSocket) -> io::Result<()> {
    let owner = socket.owner.as_deref().map(user).transpose()?;
    let group = socket.group.as_deref().map(group).transpose()?;
    if owner.is_some() || group.is_some() {
        chown(new, owner, group)?;
    }
    fs::set_permissions(new, Permissions::from_mode(socket.mode))
}

/// Sees to it that nothing is there that must stay.
fn clear(path: &Path, takes_over: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if !about.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"))
        }
        Ok(_) if !takes_over && UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Which file is there.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|about| (about.dev(), about.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(path: PathBuf) -> AdminSocket {
        AdminSocket { path, mode: 0o660, owner: None, group: None }
    }

    #[test]
    fn a_socket_is_made_as_it_is_to_be_and_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = socket(folder.path().join("admin.sock"));
        let (listener, bound) = bind(&wanted, false).unwrap();
        assert_eq!(fs::metadata(&wanted.path).unwrap().mode() & 0o777, 0o660);
        assert_eq!(bind(&wanted, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // A new process takes its place; the old one takes nothing away when it ends.
        let (_later, next) = bind(&wanted, true).unwrap();
        drop((bound, listener));
        assert!(UnixStream::connect(&wanted.path).is_ok());
        drop(next);
        assert!(!wanted.path.exists());
        // One that nobody listens at any more is in nobody's way, and a file is.
        drop(UnixListener::bind(&wanted.path).unwrap());
        drop(bind(&wanted, false).unwrap());
        fs::write(&wanted.path, "a file").unwrap();
        assert_eq!(bind(&wanted, true).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&wanted.path).unwrap(), b"a file");
    }

    #[test]
    fn nobody_can_connect_before_the_socket_has_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = socket(folder.path().join("admin.sock"));
        wanted.group = Some("nobody-of-this-name".into());
        // What fails between the two leaves nothing behind that somebody could have found.
        assert!(bind(&wanted, false).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let path = folder.path().join("one");
        let made = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        made.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        restrict(&path, &socket(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        made.listen(BACKLOG).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn owners_are_names_or_numbers() {
        assert_eq!((user("0").unwrap(), user("root").unwrap(), group("root").unwrap()), (0, 0, 0));
        assert!(user("nobody-of-this-name").is_err() && group("nobody-of-this-name").is_err());
    }
}

//! Where listening sockets change hands: from a running process to a new one that is started with `--upgrade`.
//!
//! The old process sends its sockets and goes on. The new one says when it has everything it needs and accepts; only then the old one leaves. A new
//! process that ends before, for whatever reason, changes nothing.
//!
//! Invariant: nobody but the user whose process this is can come near the sockets.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pingora::server::ListenFds;
use tokio::net::UnixListener;
use tokio::time::timeout;

use crate::listen;

/// How long a new process may take to receive the sockets and to come back to us.
const RECEIVE: Duration = Duration::from_secs(5);

/// How long it may take from then on until it accepts.
const ACCEPT: Duration = Duration::from_secs(15);

/// What follows the path of the socket over which the new process gives its word.
const WORD: &str = ".taken";

/// The longest path of a Unix socket that every system takes, without its end.
const LONGEST: usize = 107;

/// The meeting point.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    path: PathBuf,
}

impl Meeting {
    /// At the socket `path`. Its folder is made where there is none.
    ///
    /// # Errors
    /// Others may enter the folder, or it can not be made; the path is too long.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let path = std::path::absolute(path)?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid(format!("{} is no path of a socket", path.display())));
        };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", folder.display())));
            }
            _ => {}
        }
        let folder = folder.canonicalize()?;
        let about = fs::metadata(&folder)?;
        if about.uid() != listen::user() || about.mode() & 0o077 != 0 {
            let text = format!(
                "{} must belong to this user alone (mode 0700): whoever can enter it can take the listening sockets",
                folder.display()
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        // The kernel's table of sockets shows the path as it was bound: both processes have to spell it in one way.
        let path = folder.join(name);
        if path.as_os_str().len() + WORD.len() > LONGEST {
            return Err(invalid(format!("{} is too long for a socket", path.display())));
        }
        Ok(Self { path })
    }

    /// The path, as Pingora wants it.
    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether a process listens there.
    pub(super) fn is_waited_on(&self) -> bool {
        let path = self.path();
        fs::read_to_string("/proc/net/unix")
            .is_ok_and(|table| table.lines().any(|line| line.split_ascii_whitespace().nth(7) == Some(&path)))
    }

    fn word(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(WORD);
        path.into()
    }

    /// The old process: sends the sockets, and waits until the new one has said that it can go on without this one.
    ///
    /// # Errors
    /// It has not. The sockets are still ours as well.
    pub(super) async fn give(&self, table: &ListenFds) -> io::Result<()> {
        let count = table.lock().serialize().0.len();
        if count > listen::MOST_SOCKETS {
            let text = format!(
                "{count} listening sockets are open, and at most {} change hands: reloads have added listeners to those of the start. Take \
                 listeners away with a reload, or restart",
                listen::MOST_SOCKETS
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let word = self.word();
        // What an old process that died left behind.
        fs::remove_file(&word).ok();
        let listener = UnixListener::bind(&word)?;
        let given = self.hand_over(table, &listener).await;
        fs::remove_file(&word).ok();
        given
    }

    async fn hand_over(&self, table: &ListenFds, listener: &UnixListener) -> io::Result<()> {
        let (table, path) = (Arc::clone(table), self.path());
        let send = move || table.lock().send_to_sock(path.as_str());
        tokio::task::spawn_blocking(send).await.map_err(io::Error::other)?.map_err(io::Error::from)?;
        // On their way: whether the new process goes on with them, only its word tells.
        tracing::info!("the sockets are sent, and the new process has to say that it accepts");
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the new process did not answer in time");
        let (stream, _) = timeout(RECEIVE, listener.accept()).await.map_err(late)??;
        let answered = timeout(ACCEPT, answer(&stream)).await.map_err(late).and_then(|answered| answered);
        // Before the stream ends: where the new process finds the path gone, it knows that this one goes on.
        fs::remove_file(self.word()).ok();
        answered
    }

    /// The new process, which has received the sockets: from now on the old one knows when this one ends.
    ///
    /// # Errors
    /// The old process has given up waiting and goes on: this one must not.
    pub(super) fn take(&self) -> io::Result<Taken> {
        match UnixStream::connect(self.word()) {
            Ok(stream) => Ok(Taken { stream: Some(stream), word: self.word() }),
            // The old process takes the path away when it stays in charge.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(given_up()),
            Err(error) => {
                // It has died. Whoever has the sockets goes on.
                tracing::warn!(%error, "the old process does not wait for an answer");
                Ok(Taken { stream: None, word: self.word() })
            }
        }
    }
}

/// The word of the new process.
async fn answer(stream: &tokio::net::UnixStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0]) {
            Ok(0) => {
                let text = "the new process ended before it accepted";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sockets that were taken over, before the old process knows that it can leave.
#[derive(Debug)]
pub(super) struct Taken {
    stream: Option<UnixStream>,
    word: PathBuf,
}

impl Taken {
    /// This process accepts: the old one may leave.
    ///
    /// # Errors
    /// The old process has given up waiting and goes on: this one must not.
    pub(super) fn confirm(self) -> io::Result<()> {
        if let Some(mut stream) = self.stream
            && let Err(error) = stream.write_all(&[1])
        {
            if !self.word.exists() {
                return Err(given_up());
            }
            // It has died. Whoever has the sockets goes on.
            tracing::warn!(%error, "the old process was not told that it may leave");
        }
        Ok(())
    }
}

fn given_up() -> io::Error {
    let text = "this process came too late: the old one has given up the hand-over and goes on";
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn who_comes_too_late_does_not_go_on_and_who_comes_after_a_death_does() {
        let root = std::env::temp_dir().join(format!("probegate-late-{}", std::process::id()));
        let meeting = Meeting::at(&root.join("upgrade.sock")).unwrap();
        meeting.take().unwrap_err();
        let bind = || std::os::unix::net::UnixListener::bind(meeting.word()).unwrap();
        let given_up = bind();
        let taken = meeting.take().unwrap();
        drop((given_up.accept().unwrap(), fs::remove_file(meeting.word()).unwrap()));
        drop(given_up);
        taken.confirm().unwrap_err();
        let died = bind();
        let taken = meeting.take().unwrap();
        drop((died.accept().unwrap(), died));
        taken.confirm().unwrap();
        meeting.take().unwrap().confirm().unwrap();
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_folder_is_made_private_and_refused_when_it_is_not() {
        let root = std::env::temp_dir().join(format!("probegate-meeting-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let path = root.join("private/upgrade.sock");
        Meeting::at(&path).unwrap();
        let mode = || fs::metadata(root.join("private")).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o700);
        for open in [0o750, 0o701, 0o770] {
            fs::set_permissions(root.join("private"), fs::Permissions::from_mode(open)).unwrap();
            let error = Meeting::at(&path).unwrap_err().to_string();
            assert!(error.contains("mode 0700"), "{error}");
            assert_eq!(mode(), open, "it is not ours to change");
        }
        assert!(Meeting::at(&root.join("no/such/upgrade.sock")).is_err(), "one level is made, not a path");
        fs::set_permissions(root.join("private"), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Meeting::at(&root.join("private").join("x".repeat(100))).is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}

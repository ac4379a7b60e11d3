//! A pipe between two sockets: large bodies pass from one to the other without being copied into this process and out of it again (splice(2)).
//!
//! Only where nobody has to look at the bytes: a body of known length, on connections without TLS. Invariant: whoever gives a pipe back has
//! emptied it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

/// What a pipe holds, in bytes. The kernel lets the processes of a user have 64 MiB in large pipes; what is beyond that it makes too small to be of
/// use.
const SIZE: usize = 256 * 1024;

/// How many pipes a worker has at the most. Whoever finds none copies.
const MOST: usize = 16;

/// How often nobody asks for a new pipe after the kernel had none.
const PAUSE: u32 = 1000;

/// The pipes of one worker.
#[derive(Clone, Debug, Default)]
pub struct Pipes {
    unused: Rc<RefCell<Unused>>,
}

#[derive(Debug, Default)]
struct Unused {
    pipes: Vec<Ends>,
    lent: usize,
    /// How often nobody asks the kernel in vain.
    pause: u32,
}

impl Pipes {
    /// A pipe, where there is one.
    pub fn lend(&self) -> Option<Pipe> {
        let mut unused = self.unused.borrow_mut();
        if unused.lent >= MOST {
            return None;
        }
        let ends = match unused.pipes.pop() {
            Some(ends) => ends,
            None if unused.pause > 0 => {
                unused.pause -= 1;
                return None;
            }
            None => match Ends::new() {
                Ok(ends) => ends,
                Err(_) => {
                    unused.pause = PAUSE;
                    return None;
                }
            },
        };
        unused.lent += 1;
        Some(Pipe { ends: Some(ends), held: 0, home: self.clone() })
    }
}

#[derive(Debug)]
struct Ends {
    read: File,
    write: OwnedFd,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let size = fcntl(&write, FcntlArg::F_SETPIPE_SZ(i32::try_from(SIZE).unwrap_or(i32::MAX)))?;
        if usize::try_from(size).is_ok_and(|size| size >= SIZE) {
            Ok(Self { read: read.into(), write })
        } else {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

/// A pipe on loan. One that still holds something when it is dropped is closed: its bytes belong to nobody else.
#[derive(Debug)]
pub struct Pipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    held: usize,
    home: Pipes,
}

impl Pipe {
    /// Bytes that went in and have not come out.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `most` bytes from a socket into the pipe, without waiting. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: nothing is there. [`io::ErrorKind::InvalidInput`]: the pipe is not empty. The kernel would not say which of
    /// the two it has no room in.
    pub fn fill(&mut self, from: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let ends = self.ends.as_ref().filter(|_| self.held == 0 && most > 0).ok_or(io::ErrorKind::InvalidInput)?;
        self.held = splice(from, None, &ends.write, None, most.min(SIZE), flags())?;
        Ok(self.held)
    }

    /// Moves what is in the pipe into a socket, as far as that takes it without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: it takes nothing.
    pub fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        let n = splice(ends.read.as_fd(), None, to, None, self.held, flags())?;
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }

    /// Takes out what is left.
    ///
    /// # Errors
    /// The system's; what was left is lost then.
    pub fn take(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let ends = self.ends.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        ends.read.read_exact(&mut bytes)?;
        self.held = 0;
        Ok(bytes)
    }
}

/// More is to come or not: the kernel need not be told, as with ordinary writes.
fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut unused = self.home.unused.borrow_mut();
        unused.lent = unused.lent.saturating_sub(1);
        if self.held == 0
            && let Some(ends) = self.ends.take()
        {
            unused.pipes.push(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_what_is_left_can_be_taken() {
        let (mut app, from) = UnixStream::pair().unwrap();
        let (to, mut client) = UnixStream::pair().unwrap();
        let pipes = Pipes::default();
        let mut pipe = pipes.lend().unwrap();
        from.set_nonblocking(true).unwrap();
        assert_eq!(pipe.fill(from.as_fd(), 10).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        app.write_all(b"some bytes, and more").unwrap();
        assert_eq!(pipe.fill(from.as_fd(), 10).unwrap(), 10);
        assert_eq!(pipe.drain(to.as_fd()).unwrap(), 10);
        let mut seen = [0; 10];
        client.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"some bytes");
        assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 10);
        assert_eq!((pipe.held(), pipe.take().unwrap()), (10, b", and more".to_vec()));
        drop(app);
        assert_eq!(pipe.fill(from.as_fd(), 10).unwrap(), 0);
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_nobody_elses() {
        let (mut app, from) = UnixStream::pair().unwrap();
        let pipes = Pipes::default();
        let mut pipe = pipes.lend().unwrap();
        app.write_all(b"mine").unwrap();
        assert_eq!(pipe.fill(from.as_fd(), 10).unwrap(), 4);
        drop(pipe);
        assert!(pipes.unused.borrow().pipes.is_empty());
        drop(pipes.lend().unwrap());
        assert_eq!(pipes.unused.borrow().pipes.len(), 1);
    }

    #[test]
    fn there_are_only_so_many() {
        let pipes = Pipes::default();
        let lent: Vec<_> = std::iter::from_fn(|| pipes.lend()).collect();
        assert_eq!(lent.len(), MOST);
        drop(lent);
        assert!(pipes.lend().is_some());
    }
}

//! A piece of a file that goes from the file into a socket without being copied into this process and out of it again (sendfile(2)).

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Bytes that are sent at a time: the worker's other connections have their turn in between.
pub const MOST: usize = 512 * 1024;

/// A piece of a file.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The file.
    pub file: Arc<File>,
    /// Where the piece begins.
    pub at: u64,
    /// Its bytes, at most [`MOST`].
    pub count: usize,
}

impl Piece {
    /// Writes what fits into a socket. `Ok(0)`: the file ends before.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: nothing fits. [`io::ErrorKind::Unsupported`]: this file has to be read.
    pub fn send(&self, to: BorrowedFd<'_>) -> io::Result<usize> {
        let mut at = self.at;
        match rustix::fs::sendfile(to, &*self.file, Some(&mut at), self.count) {
            // Some file systems can not, and one whose disk fails is told of when it is read.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::IO) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            sent => Ok(sent?),
        }
    }
}

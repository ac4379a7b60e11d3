//! The one place with `unsafe`: a descriptor number received from an old process becomes a socket.
#![allow(unsafe_code, reason = "only the caller can know that a raw descriptor is open and owned by nobody else")]

use std::io;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, RawFd};

/// A socket of our own for a descriptor that Pingora's table keeps. The table's descriptor stays open for a later hand-over.
pub(super) fn adopt(fd: RawFd) -> io::Result<TcpListener> {
    // SAFETY: the descriptor was received over the hand-over socket and put into Pingora's table, which keeps it open for the life of
    // the process; it is only borrowed here, for the time of the duplication.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = TcpListener::from(borrowed.try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

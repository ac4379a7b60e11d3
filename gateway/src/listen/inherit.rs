//! The one place with `unsafe`: descriptor numbers received from an old process or a supervisor become sockets, and the system is asked who
//! we are, and what a socket still holds.
#![allow(unsafe_code, reason = "only the caller can know that a raw descriptor is open and owned by nobody else")]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A socket of our own for a descriptor that Pingora's table keeps. The table's descriptor stays open for a later hand-over.
pub(super) fn adopt(fd: RawFd) -> io::Result<TcpListener> {
    // SAFETY: the descriptor was received over the hand-over socket and put into Pingora's table, which keeps it open for the life of
    // the process; it is only borrowed here, for the time of the duplication.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let socket = TcpListener::from(borrowed.try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The descriptors that a supervisor has opened for this process (`sd_listen_fds(3)`), with their names, closed on exec. The variables that say so
/// are gone afterwards, so that a second call finds none and no child believes them.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// The variables contradict themselves.
pub(super) fn activated() -> io::Result<Vec<(String, OwnedFd)>> {
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !ours {
        // Meant for a process that started this one.
        return Ok(Vec::new());
    }
    // SAFETY: the callers of `listen::activated` are the commands, before anything has started a thread.
    let found = unsafe { sd_notify::listen_fds_with_names_and_unset_env() }?;
    // SAFETY: the supervisor says that these are open and ours; the variables are gone, so that nobody takes them twice.
    Ok(found.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect())
}

/// The user whose rights this process has.
pub(super) fn user() -> u32 {
    // SAFETY: takes nothing, changes nothing, can not fail.
    unsafe { libc::geteuid() }
}

/// Bytes that were written to this socket and that the other side has not acknowledged (`SIOCOUTQ`, tcp(7) and unix(7)).
pub(super) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes one `int`, for whose whole life the pointer is good.
    // `SIOCOUTQ` is another name of `TIOCOUTQ`.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if asked < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(bytes).unwrap_or(0)) }
}

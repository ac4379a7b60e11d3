//! Users and groups of the system, by name or number.

use std::io;

use nix::unistd::{Group, User};

/// The number of a user.
///
/// # Errors
/// There is none of this name, or the system can not say.
pub fn user(name: &str) -> io::Result<u32> {
    let found = || Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
    name.parse().map_or_else(|_| found().and_then(|user| user.ok_or_else(|| unknown("user", name))), Ok)
}

/// The number of a group.
///
/// # Errors
/// As of [`user`].
pub fn group(name: &str) -> io::Result<u32> {
    let found = || Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
    name.parse().map_or_else(|_| found().and_then(|group| group.ok_or_else(|| unknown("group", name))), Ok)
}

fn unknown(what: &str, name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {what} `{name}`"))
}

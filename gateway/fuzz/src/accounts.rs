//! Of the system's accounts, what a configuration asks for. The target finds none but those that are numbers.

use std::io;

/// As the gateway's.
pub fn user(name: &str) -> io::Result<u32> {
    name.parse().map_err(|_| io::ErrorKind::NotFound.into())
}

/// As the gateway's.
pub fn group(name: &str) -> io::Result<u32> {
    user(name)
}

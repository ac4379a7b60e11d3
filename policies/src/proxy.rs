//! The PROXY protocol (`proxy-protocol.txt`, versions 1 and 2): the header with which a load balancer says, before anything
//! else, whose connection it passes on.
//!
//! Whether such a header is due is never guessed from the bytes: a listener demands it or knows nothing of it. Invariant: addresses that
//! leave this module are canonical, like all others.

mod crc32c;
mod parse;
mod write;

use std::net::SocketAddr;

pub use crc32c::crc32c;
pub use parse::{Invalid, MAX_LENGTH, parse};
pub use write::{Written, write};

/// What the binary version begins with; no protocol in use begins so.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, and the sender speaks for itself.
pub const LOCAL: u8 = 0x20;

/// Version 2, and the sender speaks for somebody.
pub const PROXY: u8 = 0x21;

/// Address family and transport: TCP over IPv4.
pub const TCP4: u8 = 0x11;

/// Address family and transport: TCP over IPv6.
pub const TCP6: u8 = 0x21;

/// The additional value that holds a checksum of the whole header.
pub const TLV_CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is the sender's own (a health check), or it does not say whose it is: what the kernel says about it counts.
    Own,
    /// The connection of a client that the sender passes on.
    Relayed {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
}

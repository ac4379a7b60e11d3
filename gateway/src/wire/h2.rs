//! HTTP/2 (RFC 9113), by the crate `h2`: it keeps the frames, the header compression and the windows; what is here joins it to the seam
//! in [`super`].
//!
//! [`io`] lets it read and write over a [`super::transport::Transport`]. [`session`] is a connection to an app, and [`client`] one
//! exchange on it.

pub mod client;
pub mod io;
mod message;
pub mod session;

//! HTTP/2 (RFC 9113), by the crate `h2`: it keeps the frames, the header compression and the windows; what is here joins it to the seam
//! in [`super`].
//!
//! [`io`] lets it read and write over a [`super::transport::Transport`], watched by [`guard`]. [`session`] is a connection to an app, and
//! [`client`] one exchange on it. Towards clients, [`head`], [`body`] and [`reply`] are one request (`behind`: its wait for the client); [`tunnel`] is what follows an extended
//! CONNECT.

mod behind;
pub mod body;
pub mod client;
pub mod guard;
pub mod head;
pub mod io;
mod message;
pub mod reply;
pub mod session;
pub mod tunnel;
pub mod websocket;

//! HTTP/1.0 and HTTP/1.1 (RFC 9112): one strict interpretation on both sides.
//!
//! Parsing ([`request`], [`response`], [`lines`], [`framing`], [`chunked`]) does no I/O. [`io`] moves bytes under deadlines,
//! [`body`] and [`reply`] are the client's side of one request, [`client`] is the app's side, [`fields`] decides which lines pass on, [`tunnel`] is what follows an
//! upgrade.

pub mod body;
pub mod chunked;
pub mod client;
pub mod fields;
pub mod framing;
pub mod io;
pub mod lines;
pub mod reply;
pub mod request;
pub mod response;
pub mod trailers;
pub mod tunnel;

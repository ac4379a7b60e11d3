//! HTTP/1.0 and HTTP/1.1 (RFC 9112): one strict interpretation on both sides.
//!
//! Parsing ([`request`], [`response`], [`lines`], [`framing`], [`chunked`]) does no I/O. [`io`] moves bytes under deadlines,
//! [`server`] is the client's side of one request, [`tunnel`] is what follows an upgrade.

pub mod chunked;
pub mod framing;
pub mod io;
pub mod lines;
pub mod request;
pub mod response;
pub mod server;
pub mod trailers;
pub mod tunnel;

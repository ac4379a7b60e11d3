//! A connection to a server, protected or not.

pub use crate::wire::transport::Socket as Link;

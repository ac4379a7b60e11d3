//! The rules of probegate: who a client is, what its path means, what it may do and how often.
//!
//! Everything here is a function of its arguments. The gateway reads the clock, the configuration and the network and
//! hands over plain facts; `probegate explain` and the tests hand over invented ones and get the same answers.
//!
//! Invariant: no clock, no randomness, no I/O, no environment, no async, no logging, no Pingora. `policies/clippy.toml`
//! and the dependency list keep it so. Nothing on the path of a request allocates, besides growing a buffer the caller
//! reuses.

#![forbid(unsafe_code)]

pub mod accept;
pub mod access;
pub mod aggregate;
pub mod balance;
pub mod ban;
pub mod bandwidth;
pub mod breaker;
pub mod client;
pub mod cors;
pub mod ejection;
pub mod encoding;
pub mod fields;
pub mod files;
pub mod forwarded;
pub mod health;
pub mod host;
pub mod hsts;
pub mod ip;
pub mod limit;
pub mod now;
pub mod path;
pub mod printable;
pub mod probe;
pub mod proxy;
pub mod reason;
pub mod resolve;
pub mod retry;
pub mod route;
pub mod secrecy;
pub mod shield;
pub mod switch;
mod text;
pub mod version;

pub use fields::Fields;
pub use now::Now;
pub use reason::Reason;

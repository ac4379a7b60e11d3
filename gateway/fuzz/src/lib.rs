//! The parts of the gateway that read what others wrote, compiled alone. `config`, `plan` and the folders `tls` and `wire` are links.

// What only the rest of the gateway uses.
#![allow(dead_code, unused_imports)]

pub mod accounts;
pub mod config;
pub mod plan;
pub mod tls;
pub mod wire;

//! probegate: a gateway in front of an app.
//!
//! In reading order: [`cli`] starts things; [`config`] turns a file into a [`plan`]; [`server`] runs workers under Pingora's `Server`;
//! a [`worker`] accepts connections; [`connection`] is the life of a connection and [`request`] the life of a request: judge,
//! exchange, finish; [`wire`] moves bytes; a [`spool`] keeps those that must wait; [`files`] opens those that are served; [`upstream`] keeps connections to apps; [`limiter`], [`clients`], [`bans`], [`switches`] and [`state`] outlive plans;
//! [`telemetry`] tells about all of it. The rules themselves are in the crate `probegate-policies`.

pub mod accounts;
pub mod acme;
pub mod admin;
pub mod aggregates;
pub mod bans;
pub mod cli;
pub mod clients;
pub mod config;
pub mod connection;
pub mod draws;
pub mod durable;
pub mod files;
pub mod health;
pub mod limiter;
pub mod listen;
pub mod local;
pub mod memory;
pub mod plan;
pub mod readiness;
pub mod reload;
pub mod request;
pub mod server;
pub mod servers;
pub mod shields;
pub mod slots;
pub mod spool;
pub mod state;
pub mod store;
pub mod switches;
pub mod switching;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod versions;
pub mod wire;
pub mod worker;

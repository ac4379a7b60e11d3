//! End-to-end tests: the built program on real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests say what they expect in the shortest way; clippy.toml reaches only functions marked #[test]"
)]

mod acme;
mod activation;
mod admin;
mod admin_access;
mod admin_bounds;
mod admin_writes;
mod adversary;
mod aggregates;
mod attacks;
mod ban_offences;
mod bandwidth;
mod bans;
mod bans_shared;
mod bodies;
mod bounds;
mod buffering;
mod certificates;
mod cli;
mod client_certificates;
mod compression;
mod compression_apps;
mod compression_oracle;
mod concurrency;
mod connections;
#[path = "../attacks/corpus.rs"]
mod corpus;
mod defects;
mod dev;
mod disks;
mod django;
mod drain;
mod edits;
mod error_pages;
mod error_pages_django;
mod errors;
mod examples;
mod expect;
mod explain;
mod fail2ban;
mod files;
mod files_disks;
mod files_oracle;
mod files_pointed;
mod fleet;
mod grpc;
mod handover;
mod handover_signals;
mod harness;
mod headers;
mod health;
mod http2;
mod identity;
mod lifecycle;
mod limit_answers;
mod limit_counts;
mod limit_delays;
mod limit_django;
mod limit_edges;
mod limit_hot;
mod limit_keys;
mod limit_oracle;
mod limits;
mod logs;
mod maintenance;
mod memory;
mod metrics;
mod misdirected;
mod monitoring;
#[cfg(feature = "fault-injection")]
mod names;
mod page;
mod page_shows;
mod page_tokens;
mod page_trouble;
mod panic;
mod paths;
mod probe_policies;
mod probe_results;
mod probes;
mod proxy;
mod proxy_protocol;
mod readiness;
mod readme;
mod recipes;
mod redirects;
mod reload_command;
mod rewriting;
mod shared_limits;
mod shield;
mod slots;
mod slots_command;
mod slots_django;
mod slots_kept;
mod slots_meets;
mod slots_seen;
mod slots_watch;
mod slow_clients;
mod smuggling;
mod splitting;
mod switches;
mod ten_services;
mod tls;
mod tokens;
mod upgrade;
mod upstream_h2;
mod upstream_proxy;
mod upstream_tls;
mod upstreams;
mod upstreams_load;
mod versions;
mod websockets;

//! Configurations with little typing.

use std::fmt::{self, Write as _};

use super::Upstream;

/// The configuration of one service `app` in front of some servers, with one worker, listening on a free port.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    workers: usize,
    servers: Vec<String>,
    upstream: String,
    service: String,
    top: String,
    patient: bool,
}

impl Config {
    /// In front of `upstream`.
    pub(crate) fn before(upstream: &Upstream) -> Self {
        Self::servers([upstream.server()])
    }

    /// In front of these servers.
    pub(crate) fn servers(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let servers = servers.into_iter().map(Into::into).collect();
        Self { workers: 1, servers, upstream: String::new(), service: String::new(), top: String::new(), patient: true }
    }

    /// So many workers instead of one.
    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Adds lines to the service's `upstream`.
    pub(crate) fn upstream(mut self, lines: &str) -> Self {
        self.upstream.push_str(&indented(lines, 6));
        self
    }

    /// Adds lines to the service.
    pub(crate) fn service(mut self, lines: &str) -> Self {
        self.service.push_str(&indented(lines, 4));
        self
    }

    /// Neither requests nor answers wait in the gateway.
    pub(crate) fn streaming(self) -> Self {
        self.service("buffering: off")
    }

    /// With the program's own times for unused connections to apps and for probes. They are short: without this, a busy machine has
    /// more, where nothing else is said.
    pub(crate) fn with_default_times(mut self) -> Self {
        self.patient = false;
        self
    }

    /// Adds lines at the top level.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top.push_str(&indented(lines, 0));
        self
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workers, servers, upstream, service, top, patient } = self;
        // A test whose thread stands still for a moment must not find its connection gone, nor its probe given up.
        let probes = if *patient && !top.lines().any(|line| line.starts_with("probes:")) {
            "probes: {timeout: 10s}\n"
        } else {
            ""
        };
        let idle = if *patient && !upstream.contains("idle_timeout:") { "      idle_timeout: 15s\n" } else { "" };
        write!(
            f,
            "listeners:\n  - address: \"127.0.0.1:0\"\nadmin: {{address: \"127.0.0.1:0\"}}\nworkers: {workers}\n{top}{probes}\
             services:\n  app:\n    upstream:\n      servers: {servers:?}\n{upstream}{idle}{service}"
        )
    }
}

fn indented(lines: &str, by: usize) -> String {
    let mut out = String::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(out, "{:by$}{line}", "").unwrap();
    }
    out
}

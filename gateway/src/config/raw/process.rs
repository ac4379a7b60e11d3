//! Keys about the gateway itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Address;
use crate::config::shape::List;
use crate::config::value::{Count, FieldText, Leaf, LogLevel, MissingWord, Seconds, Size};
use crate::plan::{AccessFormat, LogTarget};
use ipnet::IpNet;

/// One listening address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{address: 0.0.0.0:8080}`")]
pub(in crate::config) struct Listener {
    /// Where to listen. Port 0 lets the system choose.
    #[schemars(required)]
    pub(in crate::config) address: Option<Address>,
}

/// How the client behind trusted proxies is found.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `trusted_proxies`, `header` and `missing`")]
pub(in crate::config) struct ClientIp {
    /// Networks of the proxies whose forwarding header is believed. Default: none.
    pub(in crate::config) trusted_proxies: Option<List<Leaf<IpNet>>>,
    /// The header that names the client: `X-Forwarded-For` (default), `Forwarded`, or one with a single address such as
    /// `X-Real-IP`.
    pub(in crate::config) header: Option<Leaf<FieldText>>,
    /// Who the client is when a trusted proxy sends no such header: `unknown` (default: no network lets it in) or `peer`
    /// (the proxy itself).
    pub(in crate::config) missing: Option<Leaf<MissingWord>>,
}

/// Where metrics and the gateway's own probes are served.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `address`, or `off`")]
pub(in crate::config) struct Admin {
    /// Where to listen. Default: `127.0.0.1:9900`.
    pub(in crate::config) address: Option<Address>,
}

/// What is logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `level` and `access`")]
pub(in crate::config) struct Log {
    /// Level of the diagnostics log on standard error. Default: `info`.
    pub(in crate::config) level: Option<Leaf<LogLevel>>,
    /// The access log.
    pub(in crate::config) access: Option<AccessLog>,
}

/// The access log: one line for each request.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `format` and `to`")]
pub(in crate::config) struct AccessLog {
    /// How a line looks: `json` (default), `combined` as nginx writes it, or `off`.
    pub(in crate::config) format: Option<Leaf<AccessFormat>>,
    /// Where lines go: `stderr` (default), `stdout`, or a file, which is opened again on SIGUSR1.
    pub(in crate::config) to: Option<Leaf<LogTarget>>,
}

/// Deadlines towards clients.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping from deadlines to durations")]
pub(in crate::config) struct Timeouts {
    /// From the first byte of a request to the end of its head. Default: `10s`.
    pub(in crate::config) head: Option<Leaf<Seconds>>,
    /// Between two requests of a connection. Default: `75s`.
    pub(in crate::config) keep_alive: Option<Leaf<Seconds>>,
    /// Between two parts of a request body. Default: `30s`.
    pub(in crate::config) body: Option<Leaf<Seconds>>,
    /// Between two moments at which the client took something of the answer. Default: `60s`.
    pub(in crate::config) write: Option<Leaf<Seconds>>,
    /// Silence in both directions of an upgraded connection (WebSocket). Default: `1h`.
    pub(in crate::config) tunnel: Option<Leaf<Seconds>>,
}

/// Sizes that a client may not exceed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping from bounds to sizes")]
pub(in crate::config) struct Bounds {
    /// The whole request head. Default: `32KiB`.
    pub(in crate::config) head: Option<Leaf<Size>>,
    /// Header lines of a request. Default: 100.
    pub(in crate::config) fields: Option<Leaf<Count>>,
    /// The path and query of a request. Default: `8KiB`.
    pub(in crate::config) target: Option<Leaf<Size>>,
    /// Connections over all listeners. Default: 16384.
    pub(in crate::config) connections: Option<Leaf<Count>>,
}

/// What happens between SIGTERM and the end.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `delay` and `drain`")]
pub(in crate::config) struct Shutdown {
    /// How long the gateway still accepts requests while its own readiness already fails. Default: `0s`.
    pub(in crate::config) delay: Option<Leaf<Seconds>>,
    /// How long requests in flight may take after that. Default: `30s`.
    pub(in crate::config) drain: Option<Leaf<Seconds>>,
}

//! Keys about the gateway itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Address, ListenerTls};
use crate::config::shape::List;
use crate::config::value::{
    Count, FieldText, FilePath, Flag, Leaf, ListenerWord, LogLevel, MissingWord, RedirectWord, Seconds, Size,
};
use crate::plan::{AccessFormat, LogTarget};
use ipnet::IpNet;

/// One listening address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{address: 0.0.0.0:8080}`")]
pub(in crate::config) struct Listener {
    /// Where to listen. Port 0 lets the system choose.
    #[schemars(required)]
    pub(in crate::config) address: Option<Address>,
    /// It speaks TLS, with these certificates.
    pub(in crate::config) tls: Option<ListenerTls>,
    /// Whether requests are redirected to HTTPS, all but those for probes and ACME challenges: `true` for port 443, or another port.
    /// Default: `false`.
    pub(in crate::config) redirect_https: Option<Leaf<RedirectWord>>,
    /// What is served: `all` (default), or `probes`, those of every service, for every host and nothing else.
    pub(in crate::config) serve: Option<Leaf<ListenerWord>>,
    /// Who the client is when a trusted proxy sends no forwarding header to this listener: `unknown` or `peer`, as in `client_ip`, which is the default.
    pub(in crate::config) missing: Option<Leaf<MissingWord>>,
    /// Every connection begins with a PROXY protocol header, version 1 or 2.
    pub(in crate::config) proxy_protocol: Option<ProxyProtocol>,
    /// Whether HTTP/2 is spoken, too. Default: `true` with TLS, `false` without (where clients have to know that it is).
    pub(in crate::config) http2: Option<Leaf<Flag>>,
}

/// The PROXY protocol on a listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{from: [10.0.0.5]}`")]
pub(in crate::config) struct ProxyProtocol {
    /// Networks of the load balancers that send it. Connections from elsewhere are refused.
    #[schemars(required)]
    pub(in crate::config) from: Option<List<Leaf<IpNet>>>,
    /// For the whole header. Default: `3s`.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
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

/// What is logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `level`, `access` and `nginx_errors`")]
pub(in crate::config) struct Log {
    /// Level of the diagnostics log on standard error. Default: `info`.
    pub(in crate::config) level: Option<Leaf<LogLevel>>,
    /// The access log.
    pub(in crate::config) access: Option<AccessLog>,
    /// Where refusals are written in the words of nginx's error log, for tools that read it, such as fail2ban: `stderr`, `stdout`, or a file. Default:
    /// nowhere.
    pub(in crate::config) nginx_errors: Option<Leaf<LogTarget>>,
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
    /// From the first byte of a request to the end of its head; and for a new connection to send its first byte. Default: `10s`.
    pub(in crate::config) head: Option<Leaf<Seconds>>,
    /// Between two requests of a connection. Default: `75s`.
    pub(in crate::config) keep_alive: Option<Leaf<Seconds>>,
    /// Between two parts of a request body. Default: `30s`.
    pub(in crate::config) body: Option<Leaf<Seconds>>,
    /// Between two moments at which the client took something of the answer. Default: `60s`.
    pub(in crate::config) write: Option<Leaf<Seconds>>,
    /// Silence in both directions of an upgraded connection (WebSocket). Default: `1h`.
    pub(in crate::config) tunnel: Option<Leaf<Seconds>>,
    /// From the first byte of a TLS connection to the end of its handshake. Default: `10s`.
    pub(in crate::config) handshake: Option<Leaf<Seconds>>,
    /// The age at which a connection is told to end after the requests it is at. Default: `1h`.
    pub(in crate::config) connection: Option<Leaf<Seconds>>,
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
    /// Connections over all listeners. When nine tenths of them are open, idle ones end early. Default: 16384.
    pub(in crate::config) connections: Option<Leaf<Count>>,
    /// Connections of one client (an IPv4 address, 64 bits of an IPv6 one). Trusted proxies are not bound. Default: 1024.
    pub(in crate::config) connections_per_client: Option<Leaf<Count>>,
    /// Requests that one connection may bring. Default: 10000.
    pub(in crate::config) requests_per_connection: Option<Leaf<Count>>,
    /// TLS handshakes in flight over all listeners. Default: 1024.
    pub(in crate::config) handshakes: Option<Leaf<Count>>,
    /// Requests at a time on one HTTP/2 connection. Default: 100.
    pub(in crate::config) streams: Option<Leaf<Count>>,
    /// Requests at a time on all HTTP/2 connections of one client. Trusted proxies are not bound. Default: 2048.
    pub(in crate::config) streams_per_client: Option<Leaf<Count>>,
    /// Bytes a second that a request body must come with on average, once the deadline `body` has passed. 0: any. Default: 240.
    pub(in crate::config) body_rate: Option<Leaf<Count>>,
    /// Bytes a second that a client must take of an answer on average, once the deadline `write` has passed. 0: any. Default: 240.
    pub(in crate::config) write_rate: Option<Leaf<Count>>,
}

/// Memory and disk for bodies that wait: requests for their own end, answers for slow clients.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with `memory`, `total_memory`, `disk`, `total_disk` and `directory`"
)]
pub(in crate::config) struct Buffers {
    /// What is kept of one body in memory, before a temporary file is used. Default: `64KiB`.
    pub(in crate::config) memory: Option<Leaf<Size>>,
    /// Memory for all bodies together. Default: `256MiB`.
    pub(in crate::config) total_memory: Option<Leaf<Size>>,
    /// What is kept of one answer in a temporary file; beyond it, the app waits for the client. Default: `1GiB`.
    pub(in crate::config) disk: Option<Leaf<Size>>,
    /// Temporary files for all bodies together. Default: `4GiB`.
    pub(in crate::config) total_disk: Option<Leaf<Size>>,
    /// How long the disk may take for 32 KiB of a temporary file; then the request is answered with 507, or its answer breaks off. The
    /// same for each step of looking for files and reading them; then it is 500. Default: `30s`.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
    /// Where temporary files are made; they have no names there, and are gone with the process. Default: `$TMPDIR`, or `/tmp`.
    pub(in crate::config) directory: Option<Leaf<FilePath>>,
}

/// What happens between SIGTERM and the end.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `delay` and `drain`")]
pub(in crate::config) struct Shutdown {
    /// How long the gateway still accepts requests while its own readiness, and `readyz` of every service, already fails. Default: `0s`.
    pub(in crate::config) delay: Option<Leaf<Seconds>>,
    /// How long requests in flight may take after that. Default: `30s`.
    pub(in crate::config) drain: Option<Leaf<Seconds>>,
}

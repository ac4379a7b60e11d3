//! The plan: the configuration, proved and compiled. What the program runs from.
//!
//! A plan is immutable and swapped whole; a request keeps the plan it began with. Everything a request needs is resolved here
//! once: sets are sorted, tokens are digests, limits point at their tables, probes and routes lie in look-up tables.
//!
//! Invariant: no serde, no YAML and no Pingora here. `config` makes plans, everything else only reads them.

mod admin;
mod aggregate;
mod balance;
mod ban;
mod edits;
mod files;
mod health;
mod limit;
mod listener;
mod pages;
mod probe;
mod shaping;
mod slots;
mod store;
mod template;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::access::{Origin, Rule};
use probegate_policies::client::TrustedProxies;
use probegate_policies::fields::FieldName;
use probegate_policies::host::HostTable;
use probegate_policies::hsts::Hsts;
use probegate_policies::ip::IpSet;
use probegate_policies::route::{PathPrefix, RouteTable};

pub use self::admin::{AdminSocket, AdminTokens};
pub use self::aggregate::{Aggregate, AggregateMember, AggregateSource, Readiness};
pub use self::balance::{Balancing, Choice, HashKey, Methods, Queue, Retries};
pub use self::ban::{BY_HAND, BanPolicy, Offences};
pub use self::edits::{AnswerEdits, Change, Cors, Edits, FieldEdit, Redirect, RequestEdits, Rewrite, SecurityGroups};
pub use self::files::{Action, Files, Missing};
pub use self::health::{HealthCheck, HealthRequest};
pub use self::limit::{Counted, Delay, InFlight, Limit, LimitKey, LimitPart, Telling, Tells};
pub use self::listener::{
    Acme, Certificate, CertificateSet, Challenge, ClientCertificates, Listener, ListenerTls, ProxyHeader,
};
pub use self::pages::{Errors, Maintenance, Page, PagePart, PageVariable, Statuses};
pub use self::probe::{AppToken, Probe, ProbeForward, Serve};
pub use self::shaping::{Bandwidth, Compression, Levels};
pub use self::slots::{Slot, Slots, Switching};
pub use self::store::{LimitStore, Login, OnFailure, StoreServer, Topology};
pub use self::template::{Segment, Template, Variable};
pub use self::upstream::{OwnCertificate, Server, ServerAddress, Upstream, UpstreamProtocol, UpstreamTls};

/// Everything the gateway runs from.
#[derive(Debug)]
pub struct Plan {
    /// Where clients are accepted.
    pub listeners: Vec<Listener>,
    /// Worker threads, each with its own event loop, upstream pools and buffers.
    pub workers: usize,
    /// How the client behind trusted proxies is found.
    pub client: TrustedProxies,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
    /// `Host` to index into `services`.
    pub hosts: HostTable,
    /// One answer from what several services say, in the order of the file; no two have the same path.
    pub aggregates: Vec<Aggregate>,
    /// When the gateway itself is ready.
    pub readiness: Readiness,
    /// Every limit that is defined; services and routes point into this list.
    pub limits: Vec<Limit>,
    /// Where shared limits are counted; `None`: there are none.
    pub limit_store: Option<LimitStore>,
    /// The network `internal`: whoever is inside is never banned.
    pub internal: Arc<IpSet>,
    /// Who is kept out for a while, in the order of the file.
    pub bans: Vec<BanPolicy>,
    /// Where metrics and the gateway's own probes are served; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Where the same is served to those who may open a file; `None`: nowhere.
    pub admin_socket: Option<AdminSocket>,
    /// Who may ask there.
    pub admin_tokens: AdminTokens,
    /// The file that changes are written to, one line each; `None`: they are in the diagnostics log alone.
    pub audit: Option<PathBuf>,
    /// The access log.
    pub access_log: AccessLog,
    /// Level of the diagnostics log, as `tracing`'s filter understands it (`info`, `probegate=debug`).
    pub log_level: String,
    /// Deadlines towards clients.
    pub timeouts: Timeouts,
    /// Sizes that a client may not exceed.
    pub bounds: Bounds,
    /// Memory and disk for bodies that wait.
    pub buffers: Buffers,
    /// What happens between SIGTERM and the end.
    pub shutdown: Shutdown,
    /// Sets of client certificates; the index is the bit that rules ask for.
    pub client_certificates: Vec<CertificateSet>,
    /// What becomes of errors that belong to no service. Services have it in what is theirs.
    pub errors: Option<Arc<Errors>>,
    /// Answers of the gateway's own say why in `X-Gateway-Error`, and the field never comes from an app.
    pub error_header: bool,
    /// Where the gateway keeps what must survive it: switches, bans, ACME accounts and certificates.
    pub storage: PathBuf,
    /// Fields that carry the gateway's own tokens: not passed on to apps, unless the token set says `forward: true`.
    pub private_fields: Vec<FieldName>,
    /// Fields that carry tokens which apps see as well: they may judge by them.
    pub forwarded_fields: Vec<FieldName>,
}

/// One app behind the gateway.
#[derive(Debug)]
pub struct Service {
    /// Its name in the configuration: a log field and a metric label.
    pub name: Box<str>,
    /// The servers that answer for it.
    pub upstream: Upstream,
    /// Its probes; at most one for each kind, paths all different.
    pub probes: Vec<Probe>,
    /// Routes with rules or limits of their own.
    pub routes: Vec<Route>,
    /// Canonical path to index into `routes`; the longest prefix wins.
    pub route_table: RouteTable,
    /// Limits on every request of the service (probes excepted): indices into [`Plan::limits`].
    pub limits: Vec<usize>,
    /// Protocols that `Upgrade` may switch to, lower-case. Never `h2c`.
    pub upgrades: Vec<Box<str>>,
    /// How its requests are handled.
    pub handling: Handling,
    /// Browsers are told to come back over HTTPS only (RFC 6797).
    pub hsts: Option<Hsts>,
    /// The app may point to files that are sent in the place of its answers: a route is for that.
    pub may_point: bool,
    /// What becomes of the field `Server`.
    pub server_header: ServerHeader,
    /// Clients that name one of its hosts in the handshake are asked for a certificate.
    pub clients: Option<ClientCertificates>,
    /// What happens while it is in maintenance.
    pub maintenance: Maintenance,
    /// Where the service is defined.
    pub origin: Origin,
}

impl Service {
    /// How requests are handled that belong to this route, or to none.
    #[inline]
    pub fn handling(&self, route: Option<usize>) -> &Handling {
        route.and_then(|index| self.routes.get(index)).map_or(&self.handling, |route| &route.handling)
    }

    /// Who answers requests that belong to this route, or to none.
    #[inline]
    pub fn action(&self, route: Option<usize>) -> &Action {
        route.and_then(|index| self.routes.get(index)).map_or(&Action::Forward, |route| &route.action)
    }
}

/// What becomes of `Server` in answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// There is none, whatever the app says.
    #[default]
    Off,
    /// The app's, if it sends one.
    Pass,
    /// This one.
    Text(Box<str>),
}

/// What a refused client sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deny {
    /// 403 with the reason's kind.
    #[default]
    Forbidden,
    /// 404, as if nothing were there.
    Hidden,
    /// The connection is closed without an answer (nginx's 444).
    Close,
}

/// A part of a service with rules or limits of its own.
#[derive(Debug)]
pub struct Route {
    /// What it covers.
    pub path: PathPrefix,
    /// Who may enter.
    pub allow: Rule,
    /// What strangers see.
    pub deny: Deny,
    /// Limits in addition to the service's: indices into [`Plan::limits`].
    pub limits: Vec<usize>,
    /// How its requests are handled.
    pub handling: Handling,
    /// Who answers them.
    pub action: Action,
    /// Where it is defined.
    pub origin: Origin,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// How a line looks.
    pub format: AccessFormat,
    /// Where lines go.
    pub target: LogTarget,
    /// Where refusals go in the words of nginx's error log; `None`: nowhere.
    pub nginx_errors: Option<LogTarget>,
}

/// How an access-log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// No access log.
    Off,
    /// One JSON object a line.
    Json,
    /// nginx's `combined`.
    Combined,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to and opened again on SIGUSR1.
    File(PathBuf),
}

/// Deadlines towards clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head: 408. Also for a new connection to send its first byte.
    pub head: Duration,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// Between two parts of a request body: 408.
    pub body: Duration,
    /// Between two moments at which the client took something of the answer.
    pub write: Duration,
    /// Silence in both directions of an upgraded connection (WebSocket).
    pub tunnel: Duration,
    /// From the first byte of a TLS connection to the end of its handshake.
    pub handshake: Duration,
    /// The age at which a connection is told to end after the request it is at.
    pub connection: Duration,
}

/// Sizes that a client may not exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The whole request head in bytes: 431.
    pub head: usize,
    /// Field lines of a request: 431.
    pub fields: usize,
    /// The request target in bytes: 414.
    pub target: usize,
    /// Connections over all listeners; beyond it new ones wait in the kernel's queue. When nine tenths are open, idle ones end early.
    pub connections: usize,
    /// Connections of one client's network (an IPv4 address, 64 bits of an IPv6 one); beyond it new ones are closed. Trusted proxies, and
    /// senders of the PROXY protocol, are not bound: behind them the client they name is.
    pub connections_per_client: usize,
    /// Requests that one connection may bring.
    pub requests_per_connection: usize,
    /// TLS handshakes in flight over all listeners.
    pub handshakes: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: usize,
    /// Requests at a time on all HTTP/2 connections of one client's network; beyond it their streams are refused. Who is bound is told at
    /// [`Self::connections_per_client`].
    pub streams_per_client: usize,
    /// Bytes a second that a request body must come with on average, once [`Timeouts::body`] has passed; 0: any.
    pub body_rate: u64,
    /// Bytes a second that a client must take of an answer on average, once [`Timeouts::write`] has passed; 0: any.
    pub write_rate: u64,
}

/// Memory and disk for bodies that wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes of one body in memory, before a temporary file is used.
    pub memory: usize,
    /// Bytes of memory for all bodies together.
    pub total_memory: u64,
    /// Bytes of one answer in its temporary file; beyond it the app waits for the client. Request bodies are bound by
    /// [`Handling::max_body`].
    pub disk: u64,
    /// Bytes in temporary files for all bodies together.
    pub total_disk: u64,
    /// How long the disk may take for one block of a temporary file.
    pub timeout: Duration,
    /// Where temporary files are made. They have no names there.
    pub folder: PathBuf,
}

/// How the requests of a service, or of a part of it, are handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handling {
    /// The largest request body in bytes; beyond it 413.
    pub max_body: u64,
    /// The app is asked when the whole request body is here.
    pub buffer_request: bool,
    /// What the app sends faster than the client takes it is kept, so that the app is free for others.
    pub buffer_response: bool,
    /// Which answers are compressed, and how; `None`: the app's business alone.
    pub compression: Option<Box<Compression>>,
    /// What is changed about its requests and answers.
    pub edits: Option<Arc<Edits>>,
    /// What becomes of errors; `None`: what is built in.
    pub errors: Option<Arc<Errors>>,
    /// How fast answers may go.
    pub bandwidth: Bandwidth,
}

/// What happens between SIGTERM and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long the gateway still accepts while its own readiness already fails, so that a load balancer can look away.
    pub delay: Duration,
    /// How long requests in flight may take after that.
    pub drain: Duration,
}

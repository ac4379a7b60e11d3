//! The configuration as it is written: one type for each mapping, one field for each key.
//!
//! Every field is optional here. Defaults, required keys and names are the business of [`super::compile`], which takes these
//! types apart without `..`: a key that nothing reads does not build. The comments are the descriptions of the JSON Schema.
//!
//! Invariant: no `flatten`, no `untagged`. Both would lose the path of a mistake.

mod access;
mod admin;
mod aggregate;
mod balance;
mod ban;
mod edits;
mod files;
mod health;
mod limit;
mod pages;
mod probe;
mod process;
mod readiness;
mod service;
mod shaping;
mod slots;
mod store;
mod tls;

use std::net::SocketAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use access::{Allow, Conditions, Slot, TokenSet};
pub(super) use admin::{Admin, AdminSocket, AdminTokens};
pub(super) use aggregate::{Aggregate, AggregateDetails, AggregateServices};
pub(super) use balance::{Balance, HashKey, HashName, HashOn, Queue, Retries, Server, ServerDetails};
pub(super) use ban::{Ban, Offences};
pub(super) use edits::{Cors, FieldEdits, Redirect, SecurityHeaders};
pub(super) use files::{CacheControl, Files};
pub(super) use health::Health;
pub(super) use limit::{Counted, Limit, LimitKey, LimitName, LimitPart, Methods};
pub(super) use pages::{ErrorPages, Maintenance};
pub(super) use probe::{AppToken, Probe, ProbeCache, Probes, Version};
pub(super) use process::{AccessLog, Bounds, Buffers, ClientIp, Listener, Log, ProxyProtocol, Shutdown, Timeouts};
pub(super) use readiness::Readiness;
pub(super) use service::{Buffering, Hsts, Route, Service, Upstream};
pub(super) use shaping::{Bandwidth, Compression, Levels};
pub(super) use slots::{Switching, UpstreamSlot};
pub(super) use store::{LimitStore, Secret, Sentinel, StoreTls, StoreUrls};
pub(super) use tls::{Acme, Certificate, CertificateSet, ClientCertificates, ListenerTls, UpstreamTls};

use super::shape::{List, Named, Toggle};
use super::value::{FilePath, Flag, Leaf, Workers};

/// The configuration of a probegate gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with the keys of a configuration")]
#[schemars(title = "probegate")]
pub(super) struct Config {
    /// Where clients are accepted. Default: `0.0.0.0:8080`.
    pub(super) listeners: Option<List<Listener>>,
    /// Worker threads. Default: `auto`, as many as there are processors to use.
    pub(super) workers: Option<Leaf<Workers>>,
    /// How the client behind trusted proxies is found.
    pub(super) client_ip: Option<ClientIp>,
    /// Networks by name, for `allow: {network: NAME}`. `internal` exists without being written: loopback and private networks.
    pub(super) networks: Option<Named<List<Leaf<IpNet>>>>,
    /// Sets of tokens by name, for `allow: {token: NAME}`.
    pub(super) tokens: Option<Named<TokenSet>>,
    /// Sets of client certificates by name, for `allow: {client_certificate: NAME}`.
    pub(super) client_certificates: Option<Named<CertificateSet>>,
    /// Rate limits by name. They apply where a service or a route names them.
    pub(super) limits: Option<Named<Limit>>,
    /// Where limits with `shared: true` are counted: a Redis or Valkey that several gateways have in common.
    pub(super) limit_store: Option<LimitStore>,
    /// Bans by name: clients that offend too often are kept out for a while.
    pub(super) bans: Option<Named<Ban>>,
    /// What holds for the probes of every service that says nothing else. Default: as told there.
    pub(super) probes: Option<Probes>,
    /// The apps behind the gateway, by name.
    #[schemars(required)]
    pub(super) services: Option<Named<Service>>,
    /// One answer from what several services say, by name.
    pub(super) aggregates: Option<Named<Aggregate>>,
    /// When the gateway itself is ready. Default: as soon as it runs.
    pub(super) readiness: Option<Readiness>,
    /// Files with the pages that browsers see in place of the gateway's own errors, by status: `"404"`, `5xx` for all of a class, `default` for
    /// all. `off`, for one or for all: the small page that is built in. Default: `off`.
    pub(super) error_pages: Option<ErrorPages>,
    /// Whether the gateway's own errors say why in the field `X-Gateway-Error`, which apps then cannot send. Default: `false`.
    pub(super) error_header: Option<Leaf<Flag>>,
    /// Where metrics, the gateway's own probes and the admin API are served. Default: `127.0.0.1:9900`.
    pub(super) admin: Option<Toggle<Admin>>,
    /// The folder for what must survive the gateway: switches, bans, whom `enforce: 10%` meets, ACME accounts and certificates. Default: `$STATE_DIRECTORY`, which systemd sets,
    /// or `/var/lib/probegate`.
    pub(super) storage: Option<Leaf<FilePath>>,
    /// What is logged.
    pub(super) log: Option<Log>,
    /// Deadlines towards clients.
    pub(super) timeouts: Option<Timeouts>,
    /// Sizes that a client may not exceed.
    pub(super) bounds: Option<Bounds>,
    /// Memory and disk for bodies that wait: requests for their own end, answers for slow clients.
    pub(super) buffers: Option<Buffers>,
    /// What happens between SIGTERM and the end.
    pub(super) shutdown: Option<Shutdown>,
}

/// A `SocketAddr` as it is written.
pub(super) type Address = Leaf<SocketAddr>;

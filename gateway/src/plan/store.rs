//! Where limits are counted that several gateways share.

use std::time::Duration;

use probegate_policies::access::Origin;
use probegate_policies::limit::KeySecret;
use rustls::pki_types::ServerName;
use secrecy::SecretString;

use super::{ServerAddress, UpstreamTls};

/// The store of limits with `shared: true`.
#[derive(Clone, Debug)]
pub struct LimitStore {
    /// The server, or those that know the others of a cluster, or sentinels. At least one.
    pub servers: Vec<StoreServer>,
    /// What they are.
    pub topology: Topology,
    /// The database on the server; 0 on a cluster.
    pub database: u32,
    /// Who the gateway is to the server.
    pub login: Login,
    /// TLS to all of them; `None`: in clear text.
    pub tls: Option<UpstreamTls>,
    /// What every key begins with.
    pub prefix: Box<str>,
    /// What keys are hashed with: the same on every gateway.
    pub secret: KeySecret,
    /// How long a request waits for the store.
    pub timeout: Duration,
    /// How many gateways share the store: by so many the limits are divided while it is gone.
    pub replicas: u32,
    /// What happens while it is gone.
    pub on_failure: OnFailure,
    /// Gateways tell each other of bans through it.
    pub bans: bool,
    /// Where it is defined.
    pub origin: Origin,
    /// Stands for all of the above.
    pub fingerprint: u64,
}

/// A server of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreServer {
    /// How it is reached.
    pub address: ServerAddress,
    /// As written, without secrets.
    pub label: Box<str>,
    /// The name that its certificate must carry, where TLS is spoken.
    pub name: Option<ServerName<'static>>,
}

/// A user and a password; `None` where there is none.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user; without one the server's `default`.
    pub user: Option<Box<str>>,
    /// The password.
    pub password: Option<SecretString>,
}

/// What the servers of a store are.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server.
    Server,
    /// Some of a cluster's; they tell of the others.
    Cluster,
    /// Sentinels, which tell who the master is.
    Sentinel {
        /// The name the sentinels have for it.
        master: Box<str>,
        /// Who the gateway is to the sentinels.
        login: Login,
    },
}

impl Topology {
    /// One word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Cluster => "cluster",
            Self::Sentinel { .. } => "sentinel",
        }
    }
}

/// What happens to requests on shared limits while the store is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// Each gateway counts alone, with its share of the limit.
    #[default]
    Local,
    /// They pass.
    Open,
    /// They are refused with 503.
    Closed,
}

impl OnFailure {
    /// The word in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

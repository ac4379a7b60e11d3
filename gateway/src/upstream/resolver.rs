//! Asking for the addresses of a name: the hosts file first, and then DNS, as `/etc/resolv.conf` says or by the servers that the configuration names.
//!
//! One for each worker, made when the first name is asked for, and anew when one of the two files has changed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};

/// Where the system keeps its two answers.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// For one question to one server.
const PATIENCE: Duration = Duration::from_secs(3);

/// For an answer, whoever gives it.
const ALTOGETHER: Duration = Duration::from_secs(10);

/// How long an entry of the hosts file is good for.
const HOSTS: Duration = Duration::from_secs(5);

/// The servers that are asked; `None`: the system's.
type Asked = Option<Arc<[SocketAddr]>>;

/// The resolvers of one worker, by the servers they ask.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    made: RefCell<HashMap<Asked, Rc<Resolver>>>,
}

/// One way to ask.
struct Resolver {
    /// When the files were changed that it was made from.
    stamps: [Option<SystemTime>; 2],
    hosts: Hosts,
    dns: TokioResolver,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("stamps", &self.stamps).finish_non_exhaustive()
    }
}

/// Addresses, and how long they are good for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) life: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// There is no such name, or no address for it, which is good for this time.
    None(Duration),
    /// Nobody could say.
    Failed(String),
}

impl Resolvers {
    /// Asks for the addresses of `name`; `servers`: those to ask, else the system's.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn ask(&self, name: &str, servers: Option<&Arc<[SocketAddr]>>) -> Result<Answer, Unanswered> {
        let failed = |error: NetError| Unanswered::Failed(error.to_string());
        let resolver = self.resolver(servers).map_err(failed)?;
        if let Some(addresses) = resolver.listed(name) {
            return Ok(Answer { addresses, life: HOSTS });
        }
        match tokio::time::timeout(ALTOGETHER, resolver.dns.lookup_ip(name)).await {
            Err(_) => Err(Unanswered::Failed("no answer in time".to_owned())),
            Ok(Ok(found)) => {
                let life = found.valid_until().saturating_duration_since(Instant::now());
                let addresses: Vec<_> = found.iter().collect();
                if addresses.is_empty() { Err(Unanswered::None(life)) } else { Ok(Answer { addresses, life }) }
            }
            Ok(Err(error)) if error.is_no_records_found() => Err(Unanswered::None(Duration::ZERO)),
            Ok(Err(error)) => Err(failed(error)),
        }
    }

    fn resolver(&self, servers: Option<&Arc<[SocketAddr]>>) -> Result<Rc<Resolver>, NetError> {
        let stamps = FILES.map(|path| fs::metadata(path).and_then(|about| about.modified()).ok());
        let mut made = self.made.borrow_mut();
        let key = servers.cloned();
        if let Some(resolver) = made.get(&key).filter(|resolver| resolver.stamps == stamps) {
            return Ok(Rc::clone(resolver));
        }
        let resolver = Rc::new(Resolver::new(servers, stamps)?);
        made.insert(key, Rc::clone(&resolver));
        Ok(resolver)
    }
}

impl Resolver {
    fn new(servers: Option<&Arc<[SocketAddr]>>, stamps: [Option<SystemTime>; 2]) -> Result<Self, NetError> {
        let mut hosts = Hosts::default();
        if let Ok(file) = File::open("/etc/hosts") {
            hosts.read_hosts_conf(file)?;
        }
        let (config, mut options) = match servers {
            // Names are taken as they are: whoever says whom to ask knows what to ask for.
            Some(servers) => {
                let servers = servers.iter().map(|address| {
                    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                        connection.port = address.port();
                        connection
                    });
                    NameServerConfig::new(address.ip(), true, connections.into())
                });
                (ResolverConfig::from_name_servers(servers.collect()), ResolverOpts::default())
            }
            // Without the file, names that the hosts file knows are all there is.
            None => system_conf::read_system_conf().unwrap_or_default(),
        };
        options.timeout = options.timeout.min(PATIENCE);
        options.attempts = options.attempts.min(2);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        // How long an answer is used is decided once, where it is used.
        options.cache_size = 0;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { stamps, hosts, dns: builder.build()? })
    }

    /// What the hosts file says, which is not asked for elsewhere then.
    fn listed(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_utf8(name).ok()?.to_lowercase();
        let found = [RecordType::A, RecordType::AAAA].into_iter().flat_map(|kind| {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
            let records = lookup.map(|lookup| lookup.answers().to_vec()).unwrap_or_default();
            records.into_iter().filter_map(|record| record.data.ip_addr())
        });
        let found: Vec<_> = found.collect();
        (!found.is_empty()).then_some(found)
    }
}

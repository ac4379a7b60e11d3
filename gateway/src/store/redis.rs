//! Redis and Valkey: the only place that knows the client library.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError, ServerErrorKind,
    ToRedisArgs,
};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;

use super::client::{Answering, Client, Failed, Failure, Telling};
use super::cluster;
use super::dial::{self, Dialled};
use super::link::CONNECT;
use crate::plan::{LimitStore, Login, ServerAddress, StoreServer, Topology};

/// What one sentinel may take at the longest: the next one may be less busy.
const SENTINEL: Duration = Duration::from_millis(500);

/// The script.
pub const SCRIPT: &str = include_str!("limits.lua");

/// The script that exchanges bans.
const BANS: &str = include_str!("bans.lua");

/// The scripts' names on servers that know them.
#[derive(Clone, Debug)]
pub struct Script {
    hash: Arc<str>,
    bans: Arc<str>,
}

impl Default for Script {
    /// The names of [`SCRIPT`] and its neighbour.
    fn default() -> Self {
        let hash = |text: &str| redis::Script::new(text).get_hash().into();
        Self { hash: hash(SCRIPT), bans: hash(BANS) }
    }
}

/// Connects. `first`: which sentinel is asked first, the one that answered last.
///
/// # Errors
/// Nobody is there, or nobody lets the gateway in.
pub async fn connect(
    store: &LimitStore,
    tls: Option<&Arc<rustls::ClientConfig>>,
    script: &Script,
    first: &AtomicUsize,
) -> Result<Box<dyn Client>, Failed> {
    match &store.topology {
        Topology::Server => {
            let mut last = unreachable("no server is configured".to_owned());
            for server in &store.servers {
                match open(server, &store.login, store.database, tls).await {
                    Ok(opened) => return Ok(Box::new(opened.with(script))),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Topology::Sentinel { master, login } => {
            let server = ask_sentinels(store, master, login, tls, first).await?;
            let mut opened = open(&server, &store.login, store.database, tls).await?;
            prove_master(&mut opened.connection, &server).await?;
            Ok(Box::new(opened.with(script)))
        }
        Topology::Cluster => {
            let connection = cluster::open(store).await.map_err(|error| unreachable(error.to_string()))?;
            // The library connects to its servers as it needs them.
            Ok(Box::new(Opened { connection, is_open: Rc::new(Cell::new(true)), mends: true }.with(script)))
        }
    }
}

/// Connections, and what is asked on them.
struct Connected<C> {
    opened: Opened<C>,
    script: Script,
}

/// Connections of the library.
struct Opened<C> {
    connection: C,
    /// Cleared when whatever drives the connection has ended.
    is_open: Rc<Cell<bool>>,
    /// The library replaces those that break.
    mends: bool,
}

impl<C> Opened<C> {
    fn with(self, script: &Script) -> Connected<C> {
        Connected { opened: self, script: script.clone() }
    }
}

impl<C: ConnectionLike + Clone> Client for Connected<C> {
    fn run<'a>(&'a self, keys: &'a [Vec<u8>], arguments: &'a [u64]) -> Answering<'a> {
        Box::pin(self.call((&self.script.hash, SCRIPT), keys, arguments))
    }

    fn tell<'a>(&'a self, keys: &'a [Vec<u8>], arguments: &'a [String]) -> Telling<'a> {
        Box::pin(self.call((&self.script.bans, BANS), keys, arguments))
    }

    fn is_open(&self) -> bool {
        self.opened.is_open.get()
    }

    fn mends(&self) -> bool {
        self.opened.mends
    }
}

impl<C: ConnectionLike + Clone> Connected<C> {
    /// Runs the script with this name and text.
    async fn call<A: ToRedisArgs, T: FromRedisValue>(
        &self,
        (name, text): (&str, &str),
        keys: &[Vec<u8>],
        arguments: &[A],
    ) -> Result<T, Failed> {
        // A handle on the same connection.
        let mut connection = self.opened.connection.clone();
        let answer = match call("EVALSHA", name, keys, arguments).query_async(&mut connection).await {
            // A server that has started, or was made to forget. Running it makes it known there, wherever in a cluster that is.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                call("EVAL", text, keys, arguments).query_async(&mut connection).await
            }
            answer => answer,
        };
        answer.map_err(|error| failed(&error))
    }
}

fn call<A: ToRedisArgs>(command: &str, script: &str, keys: &[Vec<u8>], arguments: &[A]) -> Cmd {
    let mut call = Cmd::new();
    call.arg(command).arg(script).arg(keys.len()).arg(keys).arg(arguments);
    call
}

/// Connects to one server and logs in.
async fn open(
    server: &StoreServer,
    login: &Login,
    database: u32,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Opened<MultiplexedConnection>, Failed> {
    let at = |error: &dyn std::fmt::Display| unreachable(format!("{}: {error}", server.label));
    // Whoever waits for an answer knows for how long.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    // What it is called in CLIENT LIST is not worth a right that the user would need.
    let mut info = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
    if let Some(user) = &login.user {
        info = info.set_username(user);
    }
    if let Some(password) = &login.password {
        info = info.set_password(password.expose_secret());
    }
    macro_rules! start {
        ($stream:expr) => {{
            let (connection, driver) =
                MultiplexedConnection::new_with_config(&info, $stream, config).await.map_err(|error| at(&error))?;
            // It ends with the last handle on the connection, or when the connection breaks.
            let is_open = Rc::new(Cell::new(true));
            let opened = Opened { connection, is_open: Rc::clone(&is_open), mends: false };
            tokio::task::spawn_local(async move {
                driver.await;
                is_open.set(false);
            });
            Ok(opened)
        }};
    }
    match dial::dial(server, tls).await.map_err(|error| at(&error))? {
        Dialled::Tcp(stream) => start!(stream),
        Dialled::Unix(stream) => start!(stream),
        Dialled::Tls(stream) => start!(stream),
    }
}

/// Who the master is, by the first sentinel that knows it.
async fn ask_sentinels(
    store: &LimitStore,
    master: &str,
    login: &Login,
    tls: Option<&Arc<rustls::ClientConfig>>,
    first: &AtomicUsize,
) -> Result<StoreServer, Failed> {
    let mut last = unreachable("no sentinel is configured".to_owned());
    // However many are silent, as much time as each of them got is left for the master.
    let share = u32::try_from(store.servers.len()).unwrap_or(u32::MAX).saturating_add(1);
    let patience = (CONNECT / share).min(SENTINEL);
    let begin = first.load(Ordering::Relaxed) % store.servers.len().max(1);
    for (index, sentinel) in store.servers.iter().enumerate().cycle().skip(begin).take(store.servers.len()) {
        let asked = async {
            let mut opened = open(sentinel, login, 0, tls).await?;
            let mut question = Cmd::new();
            question.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master);
            let answer: Result<Option<(String, u16)>, Failed> = question
                .query_async(&mut opened.connection)
                .await
                .map_err(|error| unreachable(format!("{}: {error}", sentinel.label)));
            answer
        };
        let answer = timeout(patience, asked).await;
        match answer.unwrap_or_else(|_| Err(unreachable(format!("{}: it does not answer", sentinel.label)))) {
            Ok(Some((host, port))) => {
                first.store(index, Ordering::Relaxed);
                return Ok(told(&host, port, sentinel));
            }
            Ok(None) => last = unreachable(format!("{}: it knows no master `{master}`", sentinel.label)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The server that a sentinel has told of. Its certificate carries the name that was written, or the host that was told.
fn told(host: &str, port: u16, sentinel: &StoreServer) -> StoreServer {
    let ip = host.parse().map(|ip| std::net::SocketAddr::new(ip, port));
    let address = ip.map_or_else(|_| ServerAddress::Name(host.into(), port), ServerAddress::Tcp);
    let is_own = |name: &rustls::pki_types::ServerName<'_>| match &sentinel.address {
        ServerAddress::Name(host, _) => name.to_str() == **host,
        ServerAddress::Tcp(address) => name.to_str() == address.ip().to_string(),
        ServerAddress::Unix(_) => false,
    };
    let name = sentinel.name.clone().map(|name| match host.to_owned().try_into() {
        Ok(told) if is_own(&name) => told,
        _ => name,
    });
    StoreServer { address, label: format!("{host}:{port}").into(), name }
}

/// Sentinels may be behind: who is told to be the master has to say so itself.
async fn prove_master(connection: &mut MultiplexedConnection, server: &StoreServer) -> Result<(), Failed> {
    let role: Result<Vec<redis::Value>, _> = Cmd::new().arg("ROLE").query_async(connection).await;
    match role {
        Ok(role) if matches!(role.first(), Some(redis::Value::BulkString(word)) if word.as_slice() == b"master") => {
            Ok(())
        }
        Ok(_) => Err(unreachable(format!("{}: it is not the master", server.label))),
        // A user without the right to ask; writing will show it.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(()),
        Err(error) => Err(unreachable(format!("{}: {error}", server.label))),
    }
}

fn unreachable(text: String) -> Failed {
    Failed { kind: Failure::Unreachable, text }
}

fn failed(error: &RedisError) -> Failed {
    let kind = match error.kind() {
        // The master of yesterday: whoever is it today has to be found.
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => Failure::Broken,
        _ if error.is_timeout() => Failure::Timeout,
        _ if error.is_connection_dropped() || error.is_unrecoverable_error() || error.is_io_error() => Failure::Broken,
        _ => Failure::Refused,
    };
    Failed { kind, text: error.to_string() }
}

//! The store of shared limits.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use probegate_policies::limit::KeySecret;
use secrecy::{ExposeSecret as _, SecretString};

use super::secret::{self, Places};
use super::{Context, tls_upstream};
use crate::config::value::{DomainName, Flag, Leaf, Name, OnFailureWord, StoreUrl, Text};
use crate::config::{ConfigPath, lint, raw};
use crate::plan::{self, Login, OnFailure, ServerAddress, StoreServer, Topology};

/// How long a request waits for the store.
const TIMEOUT: Duration = Duration::from_millis(20);

/// A request that waits longer is worse off than one that is counted inexactly.
const LONGEST: Duration = Duration::from_secs(1);

/// What every key begins with.
const PREFIX: &str = "probegate";

/// The store, where there is one. Reports what limits ask for and is not there.
pub(super) fn limit_store(
    raw: Option<raw::LimitStore>,
    limits: &[plan::Limit],
    has_bans: bool,
    cx: &mut Context<'_>,
) -> Option<plan::LimitStore> {
    let path = ConfigPath::root().key("limit_store");
    let Some(raw) = raw else {
        // One that could not be read is there, too.
        let is_broken = cx.is_broken(&path);
        for limit in limits.iter().filter(|limit| limit.shared && !is_broken) {
            let path = ConfigPath::root().key("limits").key(&limit.name).key("shared");
            cx.error(
                &path,
                "there is no store that this limit could be counted in",
                "write `limit_store: {redis: \"redis://redis.internal:6379\"}` at the top level",
            );
        }
        return None;
    };
    compile(raw, (limits, has_bans), &path, cx)
}

fn compile(
    raw: raw::LimitStore,
    (limits, has_bans): (&[plan::Limit], bool),
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<plan::LimitStore> {
    let raw::LimitStore {
        redis,
        cluster,
        sentinel,
        user,
        password,
        tls,
        prefix,
        secret,
        timeout,
        replicas,
        on_failure,
        bans,
    } = raw;
    let topology = topology(cluster, sentinel, path, cx);
    // One that could not be read has been reported.
    let has_password = password.is_some() || cx.is_broken(&path.key("password"));
    let password = password.and_then(|raw| read("password", raw, &path.key("password"), cx));
    let secret = secret.and_then(|raw| read("secret", raw, &path.key("secret"), cx));
    let prefix = prefix.map_or_else(|| PREFIX.into(), |Leaf(Name(prefix))| prefix);
    let timeout_given = timeout.is_some();
    let timeout = cx.deadline(timeout, path, "timeout", TIMEOUT);
    if timeout_given && timeout > LONGEST {
        let message = "requests would wait longer than a second for the store";
        cx.error(&path.key("timeout"), message, "write some milliseconds: beyond them, a request is counted locally");
    }
    let bans = bans.map_or(has_bans, |Leaf(Flag(bans))| bans);
    lint::store_in_use(limits, bans, path, cx);
    let on_failure = on_failure.map_or(OnFailure::Local, |Leaf(OnFailureWord(word))| word);
    lint::store_replicas(on_failure, replicas.is_some(), path, cx);
    let replicas = u32::try_from(cx.number(replicas, path, "replicas", 1..=10_000, 1)).unwrap_or(1);
    let urls = cx.required(redis, path, "redis", "redis: \"redis://redis.internal:6379\"")?;
    let (servers, database, tls) = servers(urls, &topology, tls, path, cx)?;
    let login = Login { user: user.map(|Leaf(Text(user))| user), password };
    if login.user.is_some() && !has_password {
        let hint = "write `password: {env: REDIS_PASSWORD}`";
        cx.error(&path.key("user"), "a user without a password can not log in", hint);
    }
    // Whatever all gateways know. Without a password there is nothing to keep from whoever reads the store.
    let text = secret.as_ref().or(login.password.as_ref()).map_or(&*prefix, |secret| secret.expose_secret());
    let secret = KeySecret::derive(text.as_bytes());
    let mut store = plan::LimitStore {
        servers,
        topology,
        database,
        login,
        tls,
        prefix,
        secret,
        timeout,
        replicas,
        on_failure,
        bans,
        origin: cx.origin(path),
        fingerprint: 0,
    };
    store.fingerprint = fingerprint(&store);
    Some(store)
}

fn topology(
    cluster: Option<Leaf<Flag>>,
    sentinel: Option<raw::Sentinel>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Topology {
    let is_cluster = cluster.is_some_and(|Leaf(Flag(cluster))| cluster);
    let Some(raw::Sentinel { master, user, password }) = sentinel else {
        return if is_cluster { Topology::Cluster } else { Topology::Server };
    };
    let path_of = path.key("sentinel");
    if is_cluster {
        cx.key_error(&path.key("cluster"), "a cluster has no sentinels", "remove `cluster` or `sentinel`");
    }
    let password = password.and_then(|raw| read("password", raw, &path_of.key("password"), cx));
    let login = Login { user: user.map(|Leaf(Text(user))| user), password };
    match cx.required(master, &path_of, "master", "master: mymaster") {
        Some(Leaf(Text(master))) => Topology::Sentinel { master, login },
        None => Topology::Server,
    }
}

/// The servers, their database and TLS to them.
fn servers(
    urls: raw::StoreUrls,
    topology: &Topology,
    tls: Option<raw::StoreTls>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<(Vec<StoreServer>, u32, Option<plan::UpstreamTls>)> {
    let path_of = path.key("redis");
    let urls: Vec<(ConfigPath, StoreUrl)> = match urls {
        raw::StoreUrls::One(Leaf(url)) => vec![(path_of.clone(), url)],
        raw::StoreUrls::Several(list) => {
            list.into_iter().map(|(index, Leaf(url))| (path_of.index(index), url)).collect()
        }
    };
    let Some((_, first)) = urls.first().cloned() else {
        if cx.is_clean() {
            cx.error(&path_of, "`redis` names no server", "write `redis: \"redis://redis.internal:6379\"`");
        }
        return None;
    };
    if let (Topology::Server, Some((path, _))) = (topology, urls.get(1)) {
        let hint = "write `cluster: true` for a cluster, or `sentinel: {master: mymaster}` for sentinels";
        cx.error(path, "several servers that are neither a cluster nor sentinels would count apart", hint);
    }
    for (path, url) in &urls {
        if url.tls != first.tls {
            cx.error(path, "some servers are reached over TLS and some are not", "write `rediss://` for all of them");
        }
        if url.database != first.database {
            cx.error(path, "this is another database than the first server's", "write the same one for all of them");
        }
        if matches!(topology, Topology::Cluster) && (url.database != 0 || matches!(url.address, ServerAddress::Unix(_)))
        {
            cx.error(path, "a cluster is reached over TCP, and has the database 0 only", "write `redis://HOST:PORT`");
        }
    }
    let mut name = None;
    let compiled = match (first.tls, tls) {
        (true, tls) => {
            let raw::StoreTls { ca, cert, key, server_name } = tls.unwrap_or_default();
            let raw = raw::UpstreamTls { ca, cert, key, server_name: None, verify: None };
            name = server_name.map(|Leaf(DomainName(name))| name);
            Some(tls_upstream::compile(raw, &path.key("tls"), cx)?.tls)
        }
        (false, Some(_)) => {
            cx.key_error(&path.key("tls"), "`tls` has no meaning for `redis://`", "write `rediss://` for TLS");
            None
        }
        (false, None) => None,
    };
    if let (Some(_), Topology::Cluster) = (&name, topology) {
        let message = "each server of a cluster is known by the address that the cluster tells";
        cx.key_error(
            &path.key("tls").key("server_name"),
            message,
            "remove it, and let certificates carry the addresses",
        );
    }
    let mut servers = Vec::new();
    for (path, StoreUrl { address, label, .. }) in urls {
        let name = match &compiled {
            Some(_) => Some(tls_upstream::name(&address, name.as_deref(), &path, cx)?),
            None => None,
        };
        servers.push(StoreServer { address, label, name });
    }
    Some((servers, first.database, compiled))
}

fn read(what: &'static str, raw: raw::Secret, path: &ConfigPath, cx: &mut Context<'_>) -> Option<SecretString> {
    let raw::Secret { env, file, value } = raw;
    if !secret::exactly_one(
        what,
        &[("env", env.is_some()), ("file", file.is_some()), ("value", value.is_some())],
        path,
        cx,
    ) {
        return None;
    }
    let secret = secret::read(Places { what, env, file, value }, path, cx)?;
    // Printable ASCII: it was just judged.
    String::from_utf8(secret.expose_secret().to_vec()).ok().map(SecretString::from)
}

fn fingerprint(store: &plan::LimitStore) -> u64 {
    let mut hasher = DefaultHasher::new();
    for StoreServer { address, label, name } in &store.servers {
        (format!("{address:?}"), label, name.as_ref().map(|name| name.to_str().into_owned())).hash(&mut hasher);
    }
    let logins = match &store.topology {
        Topology::Sentinel { master, login } => {
            master.hash(&mut hasher);
            [Some(&store.login), Some(login)]
        }
        Topology::Server | Topology::Cluster => [Some(&store.login), None],
    };
    for login in logins.into_iter().flatten() {
        (&login.user, login.password.as_ref().map(|password| password.expose_secret().to_owned())).hash(&mut hasher);
    }
    (store.topology.word(), store.database, store.tls.as_ref().map(|tls| tls.fingerprint)).hash(&mut hasher);
    (&store.prefix, store.secret, store.timeout, store.replicas, store.on_failure, store.bans).hash(&mut hasher);
    hasher.finish()
}

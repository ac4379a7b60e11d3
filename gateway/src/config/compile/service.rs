//! Services: hosts, upstreams, routes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use probegate_policies::host::{HostPattern, HostTable};

use super::{Context, Definitions, limit, names, probe, route};
use crate::config::shape::{List, Named};
use crate::config::value::{Leaf, ServerWord, Size, Upgrade};
use crate::config::{ConfigPath, raw};
use crate::plan;

/// The largest request body unless another one is named.
const MAX_BODY: u64 = 1 << 20;

/// The services and the table of their hosts.
pub(super) fn services(
    raw: Option<Named<raw::Service>>,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<(Vec<plan::Service>, HostTable)> {
    let root = ConfigPath::root();
    let raw: Vec<_> = cx
        .required(raw, &root, "services", "services: {app: {upstream: {servers: [\"127.0.0.1:8000\"]}}}")?
        .into_iter()
        .collect();
    let path = root.key("services");
    if raw.is_empty() {
        cx.error(
            &path,
            "`services` is empty: there is nothing to be a gateway for",
            "write `app: {upstream: {servers: [\"127.0.0.1:8000\"]}}` below it",
        );
    }
    let alone = raw.len() == 1;
    let mut hosts = Hosts::default();
    let mut services = Vec::new();
    for (name, service) in raw {
        let path = path.key(&name);
        names::check(&name, &path, cx);
        let Some(mut service) = service else { continue };
        hosts.add(service.hosts.take(), alone, services.len(), &path, cx);
        services.extend(compile(name, service, &path, definitions, cx));
    }
    let table = HostTable::new(hosts.patterns).ok();
    cx.is_clean().then_some(services).zip(table)
}

/// Which service answers for which host.
#[derive(Default)]
struct Hosts {
    patterns: Vec<(HostPattern, usize)>,
    owners: HashMap<HostPattern, Box<str>>,
}

impl Hosts {
    fn add(
        &mut self,
        raw: Option<List<Leaf<HostPattern>>>,
        alone: bool,
        service: usize,
        path: &ConfigPath,
        cx: &mut Context<'_>,
    ) {
        if raw.is_none() && alone {
            self.patterns.push((HostPattern::Any, service));
            return;
        }
        let example = "hosts: [shop.example.com]";
        let owner = path.last_key().unwrap_or_default();
        let Some(raw) = raw else {
            if !cx.is_broken(&path.key("hosts")) {
                let message = format!(
                    "key `hosts` is missing in `{owner}`: with several services, hosts say which one a request is for"
                );
                cx.key_error(path, message, format!("write `{example}`, or `hosts: [\"*\"]` for all others"));
            }
            return;
        };
        let path = path.key("hosts");
        if raw.is_empty() {
            cx.error(
                &path,
                "`hosts` is empty: no request would reach this service",
                format!("write `{example}`, or `hosts: [\"*\"]` for all"),
            );
        }
        for (index, Leaf(host)) in raw {
            if let Some(other) = self.owners.insert(host.clone(), owner.into()) {
                let message = format!("host `{host}` belongs to service `{other}` already");
                cx.error(&path.index(index), message, "a host belongs to one service; remove it here or there");
            }
            self.patterns.push((host, service));
        }
    }
}

fn compile(
    name: Box<str>,
    raw: raw::Service,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<plan::Service> {
    // The hosts of all services are compared with one another, and were taken out before.
    let raw::Service { hosts: _, upstream, max_body, upgrades, probes, limits, routes } = raw;
    let probes = probe::probes(probes, &name, path, definitions, cx);
    let limits = limit::indices(limits, &path.key("limits"), &definitions.limits, cx);
    let (routes, route_table) = route::routes(routes, &path.key("routes"), &probes, definitions, cx);
    let upgrades = match upgrades {
        Some(upgrades) => upgrades.into_iter().map(|(_, Leaf(Upgrade(name)))| name).collect(),
        None => vec!["websocket".into()],
    };
    let max_body = compile_max_body(max_body, &path.key("max_body"), cx);
    let upstream = cx.required(upstream, path, "upstream", "upstream: {servers: [\"127.0.0.1:8000\"]}");
    let upstream = compile_upstream(upstream?, &path.key("upstream"), cx)?;
    let origin = cx.origin(path);
    Some(plan::Service {
        name,
        upstream,
        probes,
        routes,
        route_table: route_table?,
        limits,
        upgrades,
        max_body,
        origin,
    })
}

fn compile_max_body(raw: Option<Leaf<Size>>, path: &ConfigPath, cx: &mut Context<'_>) -> u64 {
    match raw {
        // nginx's zero means "any size", a reader's means "none". Neither is guessed.
        Some(Leaf(Size(0))) => {
            cx.error(
                path,
                "`max_body` of zero would refuse every upload and every form",
                "write the largest body you expect, such as `1MiB`",
            );
            MAX_BODY
        }
        Some(Leaf(Size(bytes))) => bytes,
        None => MAX_BODY,
    }
}

fn compile_upstream(raw: raw::Upstream, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::Upstream> {
    let raw::Upstream { servers, connect_timeout, response_timeout, idle_timeout, max_idle } = raw;
    let connect_timeout = cx.deadline(connect_timeout, path, "connect_timeout", Duration::from_secs(5));
    let response_timeout = cx.deadline(response_timeout, path, "response_timeout", Duration::from_secs(60));
    let idle_timeout = cx.deadline(idle_timeout, path, "idle_timeout", Duration::from_millis(1500));
    let max_idle = cx.number(max_idle, path, "max_idle", 0..=65_536, 64);
    let servers = cx.required(servers, path, "servers", "servers: [\"127.0.0.1:8000\"]")?;
    let path = path.key("servers");
    if servers.is_empty() {
        cx.error(&path, "`servers` is empty: nobody would answer", "write `[\"127.0.0.1:8000\"]`");
    }
    let mut compiled: Vec<plan::Server> = Vec::new();
    for (index, Leaf(ServerWord { address, label })) in servers {
        if compiled.iter().any(|server| server.address == address) {
            cx.error(&path.index(index), format!("server `{label}` is listed twice"), "remove one of the two");
        }
        let mut hasher = DefaultHasher::new();
        address.hash(&mut hasher);
        compiled.push(plan::Server { address, label, key: hasher.finish() });
    }
    Some(plan::Upstream { servers: compiled, connect_timeout, response_timeout, idle_timeout, max_idle })
}

//! Services: hosts, upstreams, routes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::host::{HostPattern, HostTable};

use super::{
    Context, Definitions, balance, edits, handling, health, hsts, limit, names, pages, probe, route, slots, tls,
    tls_upstream,
};
use crate::config::shape::{List, Named};
use crate::config::value::{Flag, Host, Leaf, ProtocolWord, ServerHeaderWord, ServerWord, Upgrade};
use crate::config::{ConfigPath, raw};
use crate::plan;

/// A host, where it is written, and the index of its service.
pub(in crate::config) struct WrittenHost {
    pub(in crate::config) pattern: HostPattern,
    pub(in crate::config) path: ConfigPath,
    pub(in crate::config) service: usize,
}

/// The services, the table of their hosts, and the hosts as they are written.
pub(super) fn services(
    raw: Option<Named<raw::Service>>,
    defaults: &raw::Probes,
    errors: Option<&Arc<plan::Errors>>,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<(Vec<plan::Service>, HostTable, Vec<WrittenHost>)> {
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
        let own = hosts.first_name(services.len());
        services.extend(compile(name, service, own, (errors, defaults), &path, definitions, cx));
    }
    let table = HostTable::new(hosts.patterns).ok()?;
    cx.is_clean().then_some((services, table, hosts.written))
}

/// Which service answers for which host.
#[derive(Default)]
struct Hosts {
    patterns: Vec<(HostPattern, usize)>,
    written: Vec<WrittenHost>,
    owners: HashMap<HostPattern, Box<str>>,
}

impl Hosts {
    /// The first host of a service that is a name.
    fn first_name(&self, service: usize) -> Option<&str> {
        self.written.iter().find_map(|host| match &host.pattern {
            HostPattern::Exact(name) if host.service == service => Some(&**name),
            _ => None,
        })
    }

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
            self.written.push(WrittenHost { pattern: host.clone(), path: path.index(index), service });
            self.patterns.push((host, service));
        }
    }
}

fn compile(
    name: Box<str>,
    raw: raw::Service,
    own_host: Option<&str>,
    (errors, defaults): (Option<&Arc<plan::Errors>>, &raw::Probes),
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<plan::Service> {
    // The hosts of all services are compared with one another, and were taken out before.
    let raw::Service {
        hosts: _,
        upstream,
        slots,
        active,
        switch,
        max_body,
        buffering,
        compression,
        request_headers,
        response_headers,
        host,
        bandwidth,
        security_headers,
        cors,
        redirect,
        error_pages,
        intercept,
        maintenance,
        hsts: transport,
        server_header,
        client_certificates,
        upgrades,
        probes,
        limits,
        routes,
    } = raw;
    let hsts = transport.and_then(|raw| hsts::hsts(raw, &path.key("hsts"), cx));
    let server_header = server_header.map_or(plan::ServerHeader::Off, |Leaf(ServerHeaderWord(header))| header);
    let clients =
        client_certificates.and_then(|raw| tls::clients(raw, &path.key("client_certificates"), definitions, cx));
    let mut probes = probe::probes(probes, defaults, (&name, own_host), path, definitions, cx);
    let appless = redirect.is_some() || cx.is_broken(&path.key("redirect"));
    if appless {
        edits::without_app(upstream.is_some(), &mut probes, path, cx);
    }
    let slotted = slots.is_some() || cx.is_broken(&path.key("slots"));
    let slots = slots::slots(slots::Written { slots, active, switch }, appless, path, cx);
    let limits = limit::indices(limits, &path.key("limits"), &definitions.limits, cx);
    let mut handling = handling::handling(
        max_body.as_ref(),
        buffering.as_ref(),
        compression,
        bandwidth.as_ref(),
        path,
        &handling::DEFAULT,
        cx,
    );
    // What the app is called towards itself.
    let own_host = host.as_ref().map(|Leaf(Host(host))| host.clone()).or_else(|| own_host.map(Into::into));
    let written = edits::Written {
        request_headers,
        response_headers,
        host,
        security_headers,
        cors,
        redirect,
        rewrite: None,
        files: false,
    };
    handling.edits = edits::edits(written, path, None, definitions, cx);
    if appless && intercept.is_some() {
        pages::nothing_to_intercept(path, cx);
    }
    handling.errors = pages::errors(error_pages, intercept, path, errors, cx);
    let maintenance = pages::maintenance(maintenance, path, definitions, cx);
    edits::leave_to_tokens(handling.edits.as_deref(), &probes, path, cx);
    let (routes, route_table) = route::routes(routes, &path.key("routes"), &probes, &handling, definitions, cx);
    let upgrades = match upgrades {
        Some(upgrades) => upgrades.into_iter().map(|(_, Leaf(Upgrade(name)))| name).collect(),
        None => vec!["websocket".into()],
    };
    let upstream = if appless {
        plan::Upstream::nobody()
    } else {
        // The servers of slots are spoken to as `upstream` says, which may say nothing.
        let upstream = if slotted { Some(upstream.unwrap_or_default()) } else { upstream };
        let upstream = cx.required(upstream, path, "upstream", "upstream: {servers: [\"127.0.0.1:8000\"]}");
        compile_upstream(upstream?, (slots, slotted), own_host.as_deref(), &path.key("upstream"), cx)?
    };
    let may_point = routes
        .iter()
        .any(|route| matches!(&route.action, plan::Action::Files(files) if files.internal || files.sendfile.is_some()));
    let origin = cx.origin(path);
    Some(plan::Service {
        name,
        upstream,
        probes,
        routes,
        route_table: route_table?,
        limits,
        upgrades,
        handling,
        hsts,
        may_point,
        server_header,
        clients,
        maintenance,
        origin,
    })
}

/// `host`: what the service sends as `Host`, or the first of its own that is a name.
fn compile_upstream(
    raw: raw::Upstream,
    (slots, slotted): (Option<slots::Compiled>, bool),
    host: Option<&str>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<plan::Upstream> {
    let raw::Upstream {
        servers,
        balance,
        max_fails,
        fail_timeout,
        slow_start,
        fail_on,
        queue,
        retries,
        connect_timeout,
        response_timeout,
        idle_timeout,
        max_idle,
        protocol,
        tls: secure,
        proxy_protocol,
        health,
        resolver,
    } = raw;
    let protocol = protocol.map_or(plan::UpstreamProtocol::Http1, |Leaf(ProtocolWord(protocol))| protocol);
    let proxy = proxy_protocol.is_some_and(|Leaf(Flag(proxy))| proxy);
    let tls_path = path.key("tls");
    let broken_tls = cx.is_broken(&tls_path);
    let health = health.map(|raw| health::check(raw, host, &path.key("health"), cx));
    let resolver_path = path.key("resolver");
    let resolver = resolver.map(|list| health::resolver(list, &resolver_path, cx));
    let connect_timeout = cx.deadline(connect_timeout, path, "connect_timeout", Duration::from_secs(5));
    let response_timeout = cx.deadline(response_timeout, path, "response_timeout", Duration::from_secs(60));
    let idle_timeout = cx.deadline(idle_timeout, path, "idle_timeout", Duration::from_millis(1500));
    let max_idle = cx.number(max_idle, path, "max_idle", 0..=65_536, 64);
    let written = balance::Written { balance, max_fails, fail_timeout, slow_start, fail_on, queue, retries };
    let (slots, servers) = slots::or_servers(slots, servers, slotted, path, cx)?;
    let mut compiled: Vec<plan::Server> = Vec::new();
    // `https://` on one server means TLS; on some of several it would leave open what the others mean.
    let marked = servers.iter().filter(|(_, server, _)| server.tls == Some(true)).count();
    if let Some((at, server, _)) = servers.iter().find(|(_, server, _)| match server.tls {
        Some(true) => marked < servers.len() && secure.is_none(),
        Some(false) => marked > 0 || secure.is_some(),
        None => false,
    }) {
        let message = format!("server `{}` disagrees with the others about TLS", server.label);
        cx.error(at, message, "write `https://` at all of them, or at none and `tls: {}` beside `servers`");
    }
    let secure = match secure {
        Some(raw) => Some((raw, tls_path)),
        None => servers
            .first()
            .filter(|_| marked > 0 && !broken_tls)
            .map(|(at, ..)| (raw::UpstreamTls::default(), at.clone())),
    };
    let spoken = secure.is_some();
    let secure = secure.and_then(|(raw, path)| tls_upstream::compile(raw, &path, cx));
    for (path, ServerWord { address, label, tls: _ }, special) in servers {
        if compiled.iter().any(|server| server.address == address) {
            cx.error(&path, format!("server `{label}` is listed twice"), "remove one of the two");
        }
        let written = secure.as_ref().and_then(|secure| secure.name.as_deref());
        let name = if spoken { tls_upstream::name(&address, written, &path, cx) } else { None };
        let mut hasher = DefaultHasher::new();
        // Whatever a connection depends on: two upstreams that differ in any of it must not share one.
        let fingerprint = secure.as_ref().map(|secure| secure.tls.fingerprint);
        (&address, protocol, spoken, fingerprint, &name, proxy, &resolver).hash(&mut hasher);
        compiled.push(plan::Server {
            address,
            label,
            name,
            weight: special.weight,
            backup: special.backup,
            max_in_flight: special.max_in_flight,
            key: hasher.finish(),
        });
    }
    if resolver.is_some() && !compiled.iter().any(|server| matches!(server.address, plan::ServerAddress::Name(..))) {
        let message = "`resolver` has no meaning here: no server is written as a name";
        cx.key_error(&resolver_path, message, "remove it, or write a server as `name:port`");
    }
    let balancing = balance::balancing(written, &compiled, path, cx);
    let tls = secure.map(|secure| secure.tls);
    if spoken && tls.is_none() {
        // Said already. Without it, the app would be spoken to in clear text.
        return None;
    }
    Some(plan::Upstream {
        servers: compiled,
        slots,
        balancing,
        health,
        resolver,
        connect_timeout,
        response_timeout,
        idle_timeout,
        max_idle,
        protocol,
        tls,
        proxy,
    })
}

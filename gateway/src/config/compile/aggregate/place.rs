//! Where an aggregate is found, and what would be there otherwise.

use probegate_policies::host::{HostPattern, HostTable};

use super::{Services, WrittenHost};
use crate::config::ConfigPath;
use crate::config::compile::Context;
use crate::config::shape::List;
use crate::config::value::Leaf;
use crate::plan;

/// The hosts at which an aggregate with the path `at` is found. A path that means a probe there already would have two meanings.
pub(super) fn place(
    at: Option<&str>,
    hosts: Option<List<Leaf<HostPattern>>>,
    services: Option<&Services>,
    listeners: &[plan::Listener],
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<HostTable> {
    let on_listener = listeners.iter().any(|listener| listener.probes_only);
    let key = path.key("hosts");
    let broken = cx.is_broken(&key) || cx.is_broken(&ConfigPath::root().key("listeners"));
    if hosts.is_none() && !on_listener && !broken {
        let message = "nobody could ask: it has no `hosts`, and no listener serves probes";
        cx.key_error(path, message, "write `hosts: [status.example.com]`, or give a listener `serve: probes`");
    }
    if hosts.as_ref().is_some_and(List::is_empty) {
        cx.error(&key, "`hosts` is empty", "write `[status.example.com]`, `[\"*\"]` for all, or leave it out");
    }
    let mut patterns: Vec<HostPattern> = Vec::new();
    for (index, Leaf(host)) in hosts.into_iter().flatten() {
        if patterns.contains(&host) {
            cx.error(&key.index(index), format!("host `{host}` is listed twice"), "remove one of the two");
            continue;
        }
        patterns.push(host);
    }
    if let Some(at) = at {
        let (services, _, written) = services?;
        if on_listener && let Some((service, probe)) = on_probe_listener(at, services) {
            let message =
                format!("on listeners that serve probes, `{at}` is probe `{probe}` of service `{service}` already");
            cx.error(&path.key("path"), message, "give the aggregate another path, such as `/all/readyz`");
        } else if let Some((service, probe, host)) = on_host(at, &patterns, services, written) {
            let message = format!("at host `{host}`, `{at}` is probe `{probe}` of service `{service}` already");
            cx.error(&path.key("path"), message, "give the aggregate another path, such as `/all/readyz`");
        }
    }
    HostTable::new(patterns.into_iter().map(|pattern| (pattern, 0))).ok()
}

/// Which probe a path is on a listener that serves nothing else.
fn on_probe_listener<'a>(at: &str, services: &'a [plan::Service]) -> Option<(&'a str, &'static str)> {
    for service in services {
        for probe in &service.probes {
            let name = probe.kind.name();
            let named = at.strip_prefix('/').and_then(|rest| rest.strip_prefix(&*service.name));
            let alone = services.len() == 1 && (*probe.path == *at || at.strip_prefix('/') == Some(name));
            if alone || named.and_then(|rest| rest.strip_prefix('/')) == Some(name) {
                return Some((&service.name, name));
            }
        }
    }
    None
}

/// Which probe a path is at one of these hosts.
fn on_host<'a>(
    at: &str,
    patterns: &[HostPattern],
    services: &'a [plan::Service],
    written: &[WrittenHost],
) -> Option<(&'a str, &'static str, String)> {
    for (index, service) in services.iter().enumerate() {
        let Some(probe) = service.probes.iter().find(|probe| *probe.path == *at) else { continue };
        let mut hosts = written.iter().filter(|host| host.service == index).map(|host| &host.pattern).peekable();
        // One service alone needs no hosts, and has them all.
        let meets = match hosts.peek() {
            None => patterns.first(),
            Some(_) => hosts.find_map(|host| patterns.iter().find(|pattern| meet(pattern, host))),
        };
        if let Some(pattern) = meets {
            return Some((&service.name, probe.kind.name(), pattern.to_string()));
        }
    }
    None
}

/// Whether there is a host that both match.
fn meet(one: &HostPattern, other: &HostPattern) -> bool {
    let below = |name: &str, of: &str| name.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    match (one, other) {
        (HostPattern::Any, _) | (_, HostPattern::Any) => true,
        (HostPattern::Exact(one), HostPattern::Exact(other)) => one == other,
        (HostPattern::Exact(name), HostPattern::Wildcard(of))
        | (HostPattern::Wildcard(of), HostPattern::Exact(name)) => below(name, of),
        (HostPattern::Wildcard(one), HostPattern::Wildcard(other)) => {
            one == other || below(one, other) || below(other, one)
        }
    }
}

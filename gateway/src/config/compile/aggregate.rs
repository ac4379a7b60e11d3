//! Aggregates: which services, and where they are found.

mod place;

use std::time::Duration;

use probegate_policies::access::Origin;
use probegate_policies::aggregate::{Need, Terms};
use probegate_policies::host::HostTable;
use probegate_policies::probe::ProbeKind;

use super::service::WrittenHost;
use super::{Context, Definitions, names, rule};
use crate::config::shape::{List, Named};
use crate::config::value::{
    AggregateKindWord, AggregateSourceWord, Count, DenyWord, ExactPath, Flag, Leaf, Name, Percent,
};
use crate::config::{ConfigPath, lint, raw, suggest};
use crate::plan::{self, AggregateMember, AggregateSource, Serve, Service};

/// For all questions together. Kubelet gives up after one second.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Services, the table of their hosts, and those as they are written.
type Services = (Vec<Service>, HostTable, Vec<WrittenHost>);

/// The aggregates. `services`: `None` where something is wrong with them, which was said.
pub(super) fn aggregates(
    raw: Option<Named<raw::Aggregate>>,
    services: Option<&Services>,
    listeners: &[plan::Listener],
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Vec<plan::Aggregate> {
    let mut aggregates: Vec<plan::Aggregate> = Vec::new();
    for (name, raw) in raw.unwrap_or_default() {
        let path = ConfigPath::root().key("aggregates").key(&name);
        names::check(&name, &path, cx);
        let Some(raw) = raw else { continue };
        let Some(aggregate) = compile(name, raw, services, listeners, &path, definitions, cx) else { continue };
        if let Some(other) = aggregates.iter().find(|other| other.path == aggregate.path) {
            let message = format!("aggregate `{}` has the path `{}` already", other.name, other.path);
            cx.error(&path.key("path"), message, "give each aggregate a path of its own");
        }
        aggregates.push(aggregate);
    }
    aggregates
}

fn compile(
    name: Box<str>,
    raw: raw::Aggregate,
    services: Option<&Services>,
    listeners: &[plan::Listener],
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<plan::Aggregate> {
    let raw::Aggregate {
        path: at,
        hosts,
        services: members,
        from,
        probe,
        timeout,
        fall,
        rise,
        up,
        one_version,
        gateway,
        allow,
        deny,
        details,
    } = raw;
    let checks = from.is_some_and(|Leaf(from)| from == AggregateSourceWord::Checks);
    let written = [
        ("probe", probe.is_some() && checks),
        ("timeout", timeout.is_some() && checks),
        ("fall", fall.is_some() && checks),
        ("rise", rise.is_some() && checks),
        ("one_version", one_version.is_some() && checks),
    ];
    for (key, _) in written.iter().filter(|(_, there)| *there) {
        let message = format!("`{key}` has no meaning with `from: checks`: nobody is asked");
        cx.key_error(&path.key(key), message, "remove it, or write `from: probes`");
    }
    if up.is_some() && !checks {
        let message = "`up` has no meaning with `from: probes`: services are asked as a whole";
        cx.key_error(&path.key("up"), message, "remove it, or write `from: checks`");
    }
    let kind = probe.map_or(ProbeKind::Readyz, |Leaf(AggregateKindWord(kind))| kind);
    if let Some(Leaf(Flag(true))) = gateway
        && kind != ProbeKind::Readyz
    {
        let message =
            format!("`gateway` has no meaning for `{}`: what goes down is alive, and has started", kind.name());
        cx.key_error(&path.key("gateway"), message, "remove it, or write `probe: readyz`");
    }
    let source = if checks {
        AggregateSource::Checks { up: up.map_or(0, |Leaf(Percent(up))| up) }
    } else {
        let mut count = |raw: Option<Leaf<Count>>, key: &str| {
            u32::try_from(cx.number(raw, path, key, 1..=1000, 1)).unwrap_or(u32::MAX)
        };
        let terms = Terms { fall: count(fall, "fall"), rise: count(rise, "rise") };
        AggregateSource::Probes { timeout: cx.deadline(timeout, path, "timeout", TIMEOUT), terms }
    };
    let allow = match allow {
        Some(allow) => rule::rule(allow, &path.key("allow"), definitions, cx),
        None => rule::internal(definitions, path, cx),
    };
    let details = match details {
        Some(raw::AggregateDetails::Off) => None,
        Some(raw::AggregateDetails::To(who)) => Some(rule::rule(who, &path.key("details"), definitions, cx)),
        None => Some(rule::internal(definitions, path, cx)),
    };
    let deny = deny.map_or(plan::Deny::Forbidden, |Leaf(DenyWord(deny))| deny);
    let at = cx.required(at, path, "path", "path: /readyz").map(|Leaf(ExactPath(at))| at);
    let place = place::place(at.as_deref(), hosts, services, listeners, path, cx);
    let members = self::members(members, (kind, checks), &services?.0, path, cx);
    if let AggregateSource::Probes { timeout, .. } = source {
        lint::aggregate_timeout(timeout, &members, &services?.0, path, cx);
    }
    let one_version = named(one_version, &path.key("one_version"), &services?.0, cx, |service, path, cx| {
        if !is_told(service) {
            let message = format!("service `{}` has no probe `version` that its app answers", service.name);
            cx.error(path, message, "switch it on with `serve: forward`, or leave the service out");
        }
    });
    let gateway = gateway.map_or(kind == ProbeKind::Readyz, |Leaf(Flag(gateway))| gateway);
    let own = plan::Aggregate::GATEWAY;
    let services = &services?.0;
    if gateway && members.iter().any(|member| services.get(member.service).is_some_and(|service| &*service.name == own))
    {
        let message = format!("service `{own}` and the gateway itself would stand under one name in the answer");
        cx.error(path, message, "write `gateway: false`, leave the service out, or call it something else");
    }
    Some(plan::Aggregate {
        name,
        path: at?,
        hosts: place?,
        members,
        source,
        kind,
        one_version,
        gateway,
        allow,
        deny,
        details,
        origin: Origin { line: cx.origin(path).line },
    })
}

/// When the gateway itself is ready.
pub(super) fn readiness(
    raw: Option<raw::Readiness>,
    services: Option<&Services>,
    cx: &mut Context<'_>,
) -> plan::Readiness {
    let (Some(raw::Readiness { services: names }), Some((services, ..))) = (raw, services) else {
        return plan::Readiness::default();
    };
    let path = ConfigPath::root().key("readiness").key("services");
    let services = named(names, &path, services, cx, |service, path, cx| {
        if service.upstream.servers.is_empty() {
            let message = format!("service `{}` has no servers: nothing could be wrong with them", service.name);
            cx.error(path, message, "leave it out");
        }
    });
    plan::Readiness { services }
}

/// The indices of services in a list of their names, each looked at by `prove`.
fn named(
    raw: Option<List<Leaf<Name>>>,
    path: &ConfigPath,
    services: &[Service],
    cx: &mut Context<'_>,
    prove: impl Fn(&Service, &ConfigPath, &mut Context<'_>),
) -> Vec<usize> {
    let mut found = Vec::new();
    for (at, Leaf(Name(name))) in raw.into_iter().flatten() {
        let path = path.index(at);
        let Some((index, service)) = find(&name, services, &path, cx) else { continue };
        if found.contains(&index) {
            cx.error(&path, format!("service `{name}` is named twice"), "remove one of the two");
            continue;
        }
        prove(service, &path, cx);
        found.push(index);
    }
    found
}

/// The service with this name, and its index.
fn find<'a>(
    name: &str,
    services: &'a [Service],
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<(usize, &'a Service)> {
    let found = services.iter().enumerate().find(|(_, service)| *service.name == *name);
    if found.is_none() {
        let known = services.iter().map(|service| &*service.name);
        let hint = suggest::hint(name, known, "the names under `services` are");
        let hint = hint.unwrap_or_else(|| "define it under `services`".to_owned());
        cx.error(path, format!("service `{name}` is not defined"), hint);
    }
    found
}

/// Whom it asks, and for which probe.
fn members(
    raw: Option<raw::AggregateServices>,
    (kind, checks): (ProbeKind, bool),
    services: &[Service],
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Vec<AggregateMember> {
    let mut members: Vec<AggregateMember> = Vec::new();
    let Some(raw::AggregateServices { required, optional }) = raw else {
        if cx.is_broken(&path.key("services")) {
            return members;
        }
        for (index, service) in services.iter().enumerate().filter(|(_, service)| !service.upstream.servers.is_empty())
        {
            members.extend(member(index, service, Need::Required, (kind, checks), path, cx));
        }
        return members;
    };
    let path = path.key("services");
    let is_written = |list: &Option<List<Leaf<Name>>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if !is_written(&required) && !is_written(&optional) {
        cx.error(&path, "no service is named: nobody would be asked", "write `{required: [NAME]}`");
    }
    for (list, key, need) in [(required, "required", Need::Required), (optional, "optional", Need::Optional)] {
        for (at, Leaf(Name(name))) in list.into_iter().flatten() {
            let path = path.key(key).index(at);
            let Some((index, service)) = find(&name, services, &path, cx) else { continue };
            if members.iter().any(|member| member.service == index) {
                cx.error(&path, format!("service `{name}` is named twice"), "remove one of the two");
                continue;
            }
            members.extend(member(index, service, need, (kind, checks), &path, cx));
        }
    }
    members
}

/// A service, where it can say something.
fn member(
    index: usize,
    service: &Service,
    need: Need,
    (kind, checks): (ProbeKind, bool),
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<AggregateMember> {
    let (name, word) = (&service.name, kind.name());
    if checks {
        if service.upstream.health.is_none() {
            let message = format!("the servers of service `{name}` are not checked: nothing is known about them");
            cx.error(path, message, "write `health: {path: /readyz}` in its `upstream`, or `from: probes`");
        }
        return Some(AggregateMember { service: index, probe: 0, need });
    }
    let found = service.probes.iter().position(|probe| probe.kind == kind);
    let Some((probe, found)) = found.and_then(|probe| Some((probe, service.probes.get(probe)?))) else {
        cx.error(path, format!("service `{name}` has no probe `{word}`"), "switch it on, or leave the service out");
        return None;
    };
    match &found.serve {
        Serve::Answer(_) => {
            let message =
                format!("the gateway answers probe `{word}` of service `{name}` itself: that says nothing about it");
            cx.error(path, message, "write `serve: forward` there, or leave the service out");
        }
        Serve::Forward(forward) if forward.cache.is_none() => {
            let message = format!(
                "probe `{word}` of service `{name}` has `cache: off`: each question here would be one to the app"
            );
            cx.error(path, message, "give it a `cache` there, or leave the service out");
        }
        Serve::Forward(_) => {}
    }
    Some(AggregateMember { service: index, probe, need })
}

/// Whether its app tells its version.
fn is_told(service: &Service) -> bool {
    let mut probes = service.probes.iter().filter(|probe| probe.kind == ProbeKind::Version);
    !service.upstream.servers.is_empty() && probes.any(|probe| matches!(probe.serve, Serve::Forward(_)))
}

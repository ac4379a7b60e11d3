//! Lints about trusted proxies.

use ipnet::IpNet;
use probegate_policies::client::Missing;
use probegate_policies::ip::IpSet;

use crate::config::ConfigPath;
use crate::config::compile::{Client, Context, Names, Network, names_network};
use crate::plan;

/// Networks with shorter prefixes than this belong to nobody alone.
const LARGE: u8 = 8;

/// A network of proxies so large that strangers are in it.
pub(in crate::config) fn trusted_network(net: &IpNet, path: &ConfigPath, cx: &mut Context<'_>) {
    if net.prefix_len() < LARGE {
        let whom = if net.prefix_len() == 0 { "everybody" } else { "a large part of the internet" };
        let message = format!("`{net}` trusts {whom}: whoever is in it can claim any address");
        cx.lint(path, message, "list the addresses of your own proxies");
    }
}

/// Keys about forwarding without anybody who may forward.
pub(in crate::config) fn forwarding_without_proxies(path: &ConfigPath, cx: &mut Context<'_>) {
    cx.lint(
        path,
        "`client_ip` has no effect without `trusted_proxies`",
        "list the addresses of your proxies, or remove it",
    );
}

/// Proxies that are inside a network that opens doors; and listeners that say who a proxy is, where there is none.
pub(in crate::config) fn trusted_proxies(
    client: &Client,
    networks: &Names<Network>,
    listeners: &[plan::Listener],
    services: &[plan::Service],
    cx: &mut Context<'_>,
) {
    let path = ConfigPath::root().key("listeners");
    for (index, _) in listeners.iter().enumerate().filter(|(_, listener)| listener.missing.is_some()) {
        if client.trusted.is_empty() {
            let message = "`missing` has no effect without `trusted_proxies` in `client_ip`";
            cx.lint(&path.index(index).key("missing"), message, "list the addresses of your proxies, or remove it");
        }
    }
    // Where proxies ask for probes as themselves, and for nothing else, a network of theirs is meant to open probes.
    let as_itself =
        |listener: &plan::Listener| listener.missing.unwrap_or_else(|| client.proxies.missing()) == Missing::Peer;
    let (probing, serving): (Vec<_>, Vec<_>) = listeners.iter().partition(|listener| listener.probes_only);
    let meant = probing.into_iter().any(as_itself) && !serving.into_iter().any(as_itself);
    for entry in networks.iter().filter(|entry| entry.is_used()) {
        let Some(network) = &entry.value else { continue };
        if meant && !opens_more(&entry.name, services) {
            continue;
        }
        for (net, path) in &client.trusted {
            let name = &entry.name;
            let whole = network.set.covers(net);
            // A network that holds everybody has a lint of its own.
            if net.prefix_len() < LARGE || !whole && network.set.intersects(&IpSet::new([*net])).is_none() {
                continue;
            }
            let shown = if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() };
            let lies = if whole { "lies in" } else { "overlaps with" };
            let message = format!(
                "trusted proxy `{shown}` {lies} network `{name}`: what the proxy asks for itself is let in as `{name}`"
            );
            cx.lint(path, message, format!("define `{name}` without the addresses of the proxies"));
        }
    }
}

/// Whether a network opens more than probes and aggregates.
fn opens_more(name: &str, services: &[plan::Service]) -> bool {
    let routes = services.iter().flat_map(|service| service.routes.iter().map(|route| &route.allow));
    let mut rules = routes.chain(services.iter().filter_map(|service| service.maintenance.allow.as_ref()));
    rules.any(|rule| names_network(rule, name))
}

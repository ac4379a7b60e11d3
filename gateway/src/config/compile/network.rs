//! Networks by name.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use probegate_policies::ip::IpSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Context, Names};
use crate::config::ConfigPath;
use crate::config::shape::{List, Named};
use crate::config::value::Leaf;

/// One network.
pub(in crate::config) struct Network {
    pub(in crate::config) set: Arc<IpSet>,
}

/// The name of the network that exists without being written, and that guards probes by default.
pub(super) const INTERNAL: &str = "internal";

pub(super) fn networks(raw: Option<Named<List<Leaf<IpNet>>>>, cx: &mut Context<'_>) -> Names<Network> {
    let mut names = Names::new("network", "networks", cx);
    let mut internal_written = false;
    for (name, nets) in raw.unwrap_or_default() {
        internal_written |= &*name == INTERNAL;
        let network = nets.map(|nets| {
            if nets.is_empty() {
                let path = ConfigPath::root().key("networks").key(&name);
                cx.error(
                    &path,
                    format!("network `{name}` is empty: nobody would be in it"),
                    "write at least one network or address",
                );
            }
            Network { set: Arc::new(IpSet::new(nets.into_iter().map(|(_, Leaf(net))| net))) }
        });
        names.define(name, network, cx);
    }
    if !internal_written {
        names.define_builtin(INTERNAL, Network { set: Arc::new(IpSet::new(internal())) });
    }
    names
}

/// The network `internal`, whether or not anything names it; nothing where it is broken.
pub(super) fn inside(networks: &Names<Network>) -> Arc<IpSet> {
    let network = networks.iter().find(|entry| &*entry.name == INTERNAL).and_then(|entry| entry.value.as_ref());
    network.map(|network| Arc::clone(&network.set)).unwrap_or_default()
}

/// Loopback, and the private networks of RFC 1918 and RFC 4193.
fn internal() -> impl Iterator<Item = IpNet> {
    let v4 = [([127, 0, 0, 0], 8), ([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16)];
    let v6 = [(Ipv6Addr::LOCALHOST, 128), (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)];
    let v4 = v4.into_iter().map(|(octets, prefix)| Ipv4Net::new_assert(Ipv4Addr::from(octets), prefix).into());
    v4.chain(v6.into_iter().map(|(address, prefix)| Ipv6Net::new_assert(address, prefix).into()))
}

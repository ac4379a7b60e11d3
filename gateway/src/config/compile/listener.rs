//! Where clients are accepted.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use probegate_policies::ip::IpSet;

use super::{Context, Definitions, tls};
use crate::config::shape::List;
use crate::config::value::{Flag, Leaf, ListenerWord, MissingWord, RedirectWord};
use crate::config::{ConfigPath, raw};
use crate::plan;

/// The listeners. The names that their certificates carry are added to `known`.
pub(super) fn listeners(
    raw: Option<List<raw::Listener>>,
    definitions: &Definitions,
    known: &mut Vec<Box<str>>,
    cx: &mut Context<'_>,
) -> Vec<plan::Listener> {
    let path = ConfigPath::root().key("listeners");
    let Some(raw) = raw else {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080));
        return vec![plan::Listener::plain(address)];
    };
    if raw.is_empty() {
        cx.error(&path, "`listeners` is empty: nobody could connect", "write `[{address: 0.0.0.0:8080}]`");
    }
    let mut listeners: Vec<plan::Listener> = Vec::new();
    for (index, listener) in raw {
        let raw::Listener { address, tls, redirect_https, serve, missing, proxy_protocol, http2 } = listener;
        let path = path.index(index);
        let tls_broken = cx.is_broken(&path.key("tls"));
        let secure = tls.is_some() || tls_broken;
        let tls = tls.and_then(|tls| tls::listener(tls, &path.key("tls"), definitions, known, cx));
        let proxy = proxy_protocol.and_then(|proxy| proxy_header(proxy, &path.key("proxy_protocol"), cx));
        let redirect_https = redirect_https.and_then(|Leaf(RedirectWord(port))| port);
        if secure && redirect_https.is_some() {
            cx.error(
                &path.key("redirect_https"),
                "this listener speaks TLS: a redirect to HTTPS would lead to itself",
                "remove it here; it belongs to the listener on port 80",
            );
        }
        let probes_only = matches!(serve, Some(Leaf(ListenerWord::Probes)));
        if probes_only && redirect_https.is_some() {
            cx.error(
                &path.key("redirect_https"),
                "this listener serves probes, which are never redirected",
                "remove it here",
            );
        }
        let missing = missing.map(|Leaf(MissingWord(missing))| missing);
        let http2 = http2.map_or(secure, |Leaf(Flag(http2))| http2);
        let Some(Leaf(address)) = cx.required(address, &path, "address", "address: 0.0.0.0:8080") else {
            continue;
        };
        if listeners.iter().any(|other| other.address == address) {
            // A listener is known by its address, over reloads and hand-overs.
            let hint = if address.port() == 0 { "name the ports" } else { "remove one of the two" };
            cx.error(&path.key("address"), format!("`{address}` is listened on twice"), hint);
        }
        listeners.push(plan::Listener { address, tls, redirect_https, probes_only, missing, proxy, http2 });
    }
    listeners
}

/// Redirects that lead to a listener of the same file that speaks no TLS: clients would fail there, or go in circles. `terminated`: a proxy
/// in front may speak it.
pub(super) fn redirects(listeners: &[plan::Listener], terminated: bool, cx: &mut Context<'_>) {
    if terminated {
        return;
    }
    for (index, listener) in listeners.iter().enumerate() {
        let Some(port) = listener.redirect_https else { continue };
        let meets = |other: &&plan::Listener| {
            let (ours, theirs) = (listener.address.ip(), other.address.ip());
            other.address.port() == port && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified())
        };
        let mut there = listeners.iter().filter(meets).peekable();
        // What sends a PROXY protocol header may have ended TLS.
        if there.peek().is_none() || there.any(|other| other.tls.is_some() || other.proxy.is_some()) {
            continue;
        }
        cx.error(
            &ConfigPath::root().key("listeners").index(index).key("redirect_https"),
            format!("clients are sent to HTTPS on port {port}, but the listener there speaks no TLS"),
            "give that listener `tls`, or name the port of one that has it",
        );
    }
}

fn proxy_header(raw: raw::ProxyProtocol, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::ProxyHeader> {
    let raw::ProxyProtocol { from, timeout } = raw;
    let from = cx.required(from, path, "from", "from: [10.0.0.5]");
    if from.as_ref().is_some_and(List::is_empty) {
        cx.error(
            &path.key("from"),
            "`from` is empty: every connection would be refused",
            "write the addresses of your load balancers",
        );
    }
    let timeout = cx.deadline(timeout, path, "timeout", Duration::from_secs(3));
    Some(plan::ProxyHeader { from: IpSet::new(from?.into_iter().map(|(_, Leaf(net))| net)), timeout })
}

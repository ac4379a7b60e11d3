//! Lints about TLS, certificates and the promise of HTTPS.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use probegate_policies::host::HostPattern;

use crate::config::ConfigPath;
use crate::config::compile::{Context, WrittenHost, asks_for_certificate};
use crate::plan::{self, Certificate, Challenge};
use crate::tls::pem;

/// A ramp that begins later than this was probably meant for another year.
const FAR: u64 = 31;

/// A ramp that begins on a day far away.
pub(in crate::config) fn ramp(since: u64, path: &ConfigPath, cx: &mut Context<'_>) {
    let days = since.saturating_sub(cx.environment().unix()) / (24 * 3600);
    if days > FAR {
        let message =
            format!("the ramp begins in {days} days: until then, browsers are told to remember for five minutes");
        cx.lint(path, message, "write the day on which HTTPS is switched on");
    }
}

/// A name that an authority is not going to sign. `private`: the authority is one of their own, which may know names of its own.
pub(in crate::config) fn acme_name(name: &str, private: bool, path: &ConfigPath, cx: &mut Context<'_>) {
    if name.parse::<Ipv4Addr>().is_ok() {
        let message = format!("`{name}` is an address, and would be ordered as a name: no authority signs that");
        cx.lint(path, message, "order a name that leads to this address");
    } else if name == "localhost" || name.ends_with(".localhost") {
        let message = format!("`{name}` is every machine's name for itself: no authority signs it");
        cx.lint(path, message, "on your own machine, use `probegate dev`");
    } else if !private && !name.contains('.') {
        let message = format!("`{name}` has no dot: authorities sign names of the public DNS");
        cx.lint(path, message, format!("write the whole name, such as `{name}.example.com`"));
    }
}

/// A name of a client certificate that is written in a way in which no certificate carries it. Names are compared as they stand.
pub(in crate::config) fn client_name(name: &str, path: &ConfigPath, cx: &mut Context<'_>) {
    let lower = name.to_ascii_lowercase();
    let labels = ["dns:", "email:", "uri:"];
    if name.contains('*') {
        let message = format!("`{name}` stands for no other name: names are compared as they stand");
        cx.lint(path, message, "list the names, or leave `names` out to accept every certificate of the authorities");
    } else if let Some(at) = lower.find("cn=") {
        // A whole subject may be there: `O=Partner, CN=billing`, or `/O=Partner/CN=billing`.
        let rest = name.get(at + 3..).unwrap_or_default();
        let common = rest.split([',', '/', '+']).next().unwrap_or_default().trim();
        let message = format!("`{name}` is compared as it stands, and no certificate carries that");
        cx.lint(path, message, format!("write the common name alone: `{common}`"));
    } else if let Some(label) = labels.iter().find(|label| lower.starts_with(**label)) {
        let rest = name.get(label.len()..).unwrap_or_default().trim();
        let message = format!("`{name}` is compared as it stands, and no certificate carries that");
        cx.lint(path, message, format!("write the name alone: `{rest}`"));
    }
}

/// Hosts where clients have to show a certificate, and where the gateway has none of its own to show them. `known`: the names that the
/// listeners' certificates carry.
pub(in crate::config) fn hosts_without_certificate(
    hosts: &[WrittenHost],
    services: &[plan::Service],
    known: &[Box<str>],
    cx: &mut Context<'_>,
) {
    if known.is_empty() {
        // Nobody speaks TLS: that nobody is asked for a certificate is said once, not for each host.
        return;
    }
    for host in hosts {
        let Some(service) = services.get(host.service) else { continue };
        let rules = service.routes.iter().map(|route| &route.allow);
        let mut rules = rules.chain(service.probes.iter().map(|probe| &probe.allow)).chain(&service.maintenance.allow);
        if service.clients.is_none() && !rules.any(asks_for_certificate) {
            continue;
        }
        let is_known = match &host.pattern {
            HostPattern::Exact(name) => known.iter().any(|known| pem::covers(known, name)),
            HostPattern::Wildcard(parent) => {
                known.iter().any(|known| known.strip_suffix(&**parent).is_some_and(|first| first.ends_with('.')))
            }
            HostPattern::Any => true,
        };
        if !is_known {
            let message = format!(
                "no certificate of a listener carries `{}`: its clients have no connection on which to show theirs",
                host.pattern
            );
            cx.lint(&host.path, message, "add a certificate for this host under `tls` of a listener");
        }
    }
}

/// Orders that ask for a validation which nothing here answers. Which port it is does not matter: another one may lead to it.
pub(in crate::config) fn plain_challenges(listeners: &[plan::Listener], cx: &mut Context<'_>) {
    if listeners.iter().any(|listener| listener.tls.is_none()) {
        return;
    }
    for (path, acme) in orders(listeners) {
        let path = path.key("challenges");
        // Where the kinds are not written, `tls-alpn-01` is tried first, and there is a listener for it.
        let Some(index) = acme.challenges.iter().position(|challenge| *challenge == Challenge::Http01) else {
            continue;
        };
        if cx.origin(&path).line > 0 {
            cx.lint(
                &path.index(index),
                "authorities ask for `http-01` over plain HTTP, and every listener speaks TLS",
                "add `{address: \"0.0.0.0:80\", redirect_https: true}` to `listeners`, or write `tls-alpn-01` alone",
            );
        }
    }
}

/// A folder in which no body could wait.
pub(in crate::config) fn buffers(folder: &Path, cx: &mut Context<'_>) {
    if let Err(error) = cx.environment().is_writable(folder) {
        let path = ConfigPath::root().key("buffers");
        let message = format!("no temporary file can be made in `{}`: {error}", folder.display());
        let hint = "bodies that do not fit into memory are refused; name another folder with `directory`";
        cx.lint(&path.key("directory"), message, hint);
    }
}

/// A folder in which what is ordered could not be kept.
pub(in crate::config) fn storage(storage: &Path, listeners: &[plan::Listener], cx: &mut Context<'_>) {
    let Some((order, _)) = orders(listeners).next() else { return };
    if let Err(error) = cx.environment().is_writable(&storage.join("acme")) {
        let path = ConfigPath::root().key("storage");
        let path = if cx.origin(&path).line > 0 { path } else { order };
        cx.lint(
            &path,
            format!("nothing can be kept in the folder `{}`, and so nothing is ordered: {error}", storage.display()),
            "make it writable for the user that runs the gateway, or name another folder with `storage`",
        );
    }
}

/// Listeners for probes whose readiness fails in the moment in which they close: nobody ever sees it.
pub(in crate::config) fn sudden_end(listeners: &[plan::Listener], delay: Duration, cx: &mut Context<'_>) {
    let written = cx.origin(&ConfigPath::root().key("shutdown").key("delay")).line > 0;
    if written || !delay.is_zero() {
        return;
    }
    if let Some(index) = listeners.iter().position(|listener| listener.probes_only) {
        cx.lint(
            &ConfigPath::root().key("listeners").index(index).key("serve"),
            "who asks for probes here does not learn that the gateway goes down before connections are refused",
            "write `shutdown: {delay: 10s}`: longer than it takes to notice; or `delay: 0s`, if somebody else sees to that",
        );
    }
}

/// Certificates that are ordered, and where `acme` of each is written.
fn orders(listeners: &[plan::Listener]) -> impl Iterator<Item = (ConfigPath, &plan::Acme)> {
    listeners.iter().enumerate().flat_map(|(index, listener)| {
        let path = ConfigPath::root().key("listeners").index(index).key("tls").key("certificates");
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates).enumerate();
        certificates.filter_map(move |(index, certificate)| match certificate {
            Certificate::Acme(acme) => Some((path.index(index).key("acme"), acme)),
            Certificate::Files { .. } => None,
        })
    })
}

//! Whether this gateway should get traffic, and everything that speaks against it; beside that, what is wrong without being a reason to look elsewhere.
//!
//! Invariant: nobody is asked, and nothing here waits: what is known is told.

use std::sync::atomic::Ordering;

use probegate_policies::breaker::Breaking;
use probegate_policies::version::Agreement;

use crate::plan::Certificate;
use crate::servers::{Servers, Site};
use crate::state::{Active, State};
use crate::switches::Doubt;
use crate::tls::store::Id;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// In one word.
    pub reason: &'static str,
    /// What it is about, such as a service.
    pub about: Option<Box<str>>,
    /// For people.
    pub text: &'static str,
}

impl Wrong {
    fn new(reason: &'static str, text: &'static str) -> Self {
        Self { reason, about: None, text }
    }

    fn about(reason: &'static str, about: &str, text: &'static str) -> Self {
        Self { reason, about: Some(about.into()), text }
    }
}

/// How ready it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why it is not; empty: it is.
    pub reasons: Vec<Wrong>,
    /// What is wrong besides.
    pub warnings: Vec<Wrong>,
}

/// How ready the gateway is.
pub fn of(state: &State) -> Readiness {
    let active = state.active();
    Readiness { reasons: reasons(state, &active), warnings: warnings(state, &active) }
}

/// Why it should get no traffic.
pub fn reasons(state: &State, active: &Active) -> Vec<Wrong> {
    let mut reasons = Vec::new();
    if !state.is_open() {
        reasons.push(Wrong::new("starting", "not all listeners are bound yet"));
    }
    if state.is_ending() {
        reasons.push(Wrong::new("draining", "the gateway goes down"));
    }
    for servers in active.plan.readiness.services.iter().filter_map(|&index| active.servers.get(index)) {
        if let Some((reason, text)) = gone(servers) {
            reasons.push(Wrong::about(reason, servers.service(), text));
        }
    }
    reasons
}

fn warnings(state: &State, active: &Active) -> Vec<Wrong> {
    let mut warnings = Vec::new();
    if state.metrics.reload_failing.load(Ordering::Relaxed) {
        let text = "the last reload was refused, the configuration before stays in force: `probegate reload` says why";
        warnings.push(Wrong::new("reload_refused", text));
    }
    if active.plan.audit.is_some() && state.metrics.audit_failing.load(Ordering::Relaxed) {
        let text = "changes over the admin listener can not be written to the file of `admin.audit`: the log tells why";
        warnings.push(Wrong::new("audit_unwritten", text));
    }
    if active.store.as_ref().is_some_and(|store| store.breaker() != Breaking::Closed) {
        warnings
            .push(Wrong::new("store_out", "the store of shared limits does not answer: limits are counted otherwise"));
    }
    if let Some(doubt) = state.switches.doubt() {
        warnings.push(Wrong::new(
            "switches_unread",
            match doubt {
                Doubt::Closed => {
                    "what was switched can not be read, and is not replaced: what is turned now is not kept"
                }
                Doubt::Bad | Doubt::Aside => {
                    "what was switched was not understood: it lies in `switches.json.bad` until somebody removes it"
                }
            },
        ));
    }
    for (index, servers) in active.servers.iter().enumerate() {
        if !active.plan.readiness.services.contains(&index)
            && !servers.sites().is_empty()
            && let Some((reason, text)) = gone(servers)
        {
            warnings.push(Wrong::about(reason, servers.service(), text));
        }
    }
    let secured = active.plan.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    for certificate in secured.flat_map(|tls| &tls.certificates) {
        if let Certificate::Acme(ordered) = certificate
            && state.tls.store.find(&Id::of(certificate)).is_none()
        {
            let name = ordered.domains.first().map_or("", |name| name);
            warnings.push(Wrong::about("certificate_missing", name, "its certificate was not issued yet"));
        }
    }
    warnings
}

/// Why no server of a service gets requests; `None`: one does.
fn gone(servers: &Servers) -> Option<(&'static str, &'static str)> {
    let mut sites = servers.sites().iter().filter(|site| is_in_turn(servers, site)).peekable();
    if sites.peek().is_none() {
        return Some(("servers_down", "no server of the service gets requests"));
    }
    if sites.clone().all(|site| site.state.is_drained()) {
        return Some(("servers_drained", "every server of the service is drained"));
    }
    if !sites.any(|site| site.state.may_be_asked()) {
        return Some(("servers_down", "no server of the service may be asked: they are down or drained"));
    }
    None
}

/// Whether a server is in a slot that gets requests at this moment; all are where there are no slots.
pub fn is_in_turn(servers: &Servers, site: &Site) -> bool {
    servers.split().zip(site.slot).is_none_or(|(split, slot)| {
        let share = split.get();
        (slot == share.to && share.percent > 0) || (slot == share.from && share.main() == share.from)
    })
}

/// The label of what is wrong where servers do not run one version; `None`: they do.
pub fn differing(agreement: Agreement) -> Option<&'static str> {
    match agreement {
        Agreement::One => None,
        Agreement::Several => Some("versions_differ"),
        Agreement::Unknown => Some("version_unknown"),
    }
}

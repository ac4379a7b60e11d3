//! Raw types to a [`Plan`]: defaults, names, ranges, secrets.
//!
//! Everything that can be said about a file is said at once: a function that meets a problem reports it and goes on with what
//! is left, and only the last step asks whether a plan came out of it.

mod action;
mod admin;
mod aggregate;
mod balance;
mod ban;
mod context;
mod edits;
mod files;
mod handling;
mod health;
mod hsts;
mod limit;
mod listener;
mod names;
mod network;
mod pages;
mod probe;
mod process;
mod route;
mod rule;
mod secret;
mod service;
mod shaping;
mod slots;
mod store;
mod tls;
mod tls_upstream;
mod token;

use super::shape::Named;
use super::value::{Flag, Leaf};
use super::{ConfigPath, raw};
use probegate_policies::client::ForwardingField;

use crate::plan::Plan;

pub(super) use context::Context;
pub(super) use names::Names;
pub(super) use network::Network;
pub(super) use process::Client;
pub(super) use rule::{asks_for_certificate, is_open, names_network};
pub(super) use service::WrittenHost;

use super::lint;

/// Compiles a configuration. `None` when problems in `cx` kept a plan from coming out.
pub(super) fn plan(config: raw::Config, cx: &mut Context<'_>) -> Option<Plan> {
    let raw::Config {
        listeners,
        workers,
        client_ip,
        networks,
        tokens,
        client_certificates,
        limits,
        limit_store,
        bans,
        probes,
        services,
        aggregates,
        readiness,
        error_pages,
        error_header,
        admin,
        storage,
        log,
        timeouts,
        bounds,
        buffers,
        shutdown,
    } = config;
    let client = process::client_ip(client_ip, cx);
    let networks = network::networks(networks, cx);
    let tokens = token::tokens(tokens, cx);
    let (certificate_names, client_certificates) = tls::sets(client_certificates, cx);
    let (limit_names, limits) = limit::limits(limits, cx);
    let limit_store = store::limit_store(limit_store, &limits, bans.is_some(), cx);
    let definitions = Definitions { networks, tokens, certificates: certificate_names, limits: limit_names };
    let service_names = services.as_ref().map(Named::names).unwrap_or_default();
    let errors = pages::errors(error_pages, None, &ConfigPath::root(), None, cx);
    let error_header = error_header.is_some_and(|Leaf(Flag(on))| on);
    let defaults = probes.unwrap_or_default();
    probe::defaults(&defaults, &definitions, cx);
    let services = service::services(services, &defaults, errors.as_ref(), &definitions, cx);
    let internal = network::inside(&definitions.networks);
    let bans = ban::bans(bans, &definitions, &limits, &service_names, cx);

    let mut known = Vec::new();
    let listeners = listener::listeners(listeners, &definitions, &mut known, cx);
    let aggregates = aggregate::aggregates(aggregates, services.as_ref(), &listeners, &definitions, cx);
    let readiness = aggregate::readiness(readiness, services.as_ref(), cx);
    let workers = process::workers(workers, cx);
    let guarding = token::used(&definitions);
    let admin = admin::admin(admin, &listeners, &definitions, cx);
    let storage = process::storage(storage, cx);
    let (log_level, access_log) = process::log(log, cx);
    let timeouts = process::timeouts(timeouts, cx);
    let bounds = process::bounds(bounds, cx);
    let buffers = process::buffers(buffers, cx);
    let shutdown = process::shutdown(shutdown, cx);

    lint::unused(&definitions, cx);
    let [mut private_fields, forwarded_fields] = token::fields(&definitions, &guarding, cx);
    if let ForwardingField::Single(field) = client.proxies.field() {
        // Whatever it says to this gateway, an app must not believe it from anybody.
        private_fields.push(field.clone());
    }
    let (services, hosts, written) = services?;
    lint::trusted_proxies(&client, &definitions.networks, &listeners, &services, cx);
    if error_header {
        pages::reserved(&services, cx);
    }
    lint::certificates_not_asked_for(&definitions, &listeners, &services, cx);
    if !listeners.iter().any(|listener| listener.tls.is_some()) {
        for service in services.iter().filter(|service| service.clients.is_some()) {
            let path = ConfigPath::root().key("services").key(&service.name).key("client_certificates");
            let hint = "give a listener `tls`, or remove this";
            cx.error(&path, "no listener speaks TLS: nobody could be asked for a certificate", hint);
        }
    }
    // With something else broken, a listener's `tls` may only be missing because it is.
    if cx.is_clean() {
        listener::redirects(&listeners, !client.trusted.is_empty(), cx);
    }
    if cx.is_clean() {
        lint::https(&listeners, !client.trusted.is_empty(), &services, cx);
        lint::hosts_without_certificate(&written, &services, &known, cx);
        lint::plain_challenges(&listeners, cx);
        lint::storage(&storage, &listeners, cx);
        lint::sudden_end(&listeners, shutdown.delay, cx);
    }
    cx.is_clean().then_some(Plan {
        listeners,
        workers,
        client: client.proxies,
        services,
        hosts,
        aggregates,
        readiness,
        limits,
        limit_store,
        internal,
        bans,
        admin: admin.address,
        admin_socket: admin.socket,
        admin_tokens: admin.tokens,
        audit: admin.audit,
        access_log,
        log_level,
        timeouts,
        bounds,
        buffers,
        shutdown,
        client_certificates,
        errors,
        error_header,
        storage,
        private_fields,
        forwarded_fields,
    })
}

/// Everything that is defined by name, and what was learnt on the way.
pub(super) struct Definitions {
    pub(super) networks: Names<Network>,
    pub(super) tokens: Names<token::Tokens>,
    /// Indices into the plan's list, and bits of rules.
    pub(super) certificates: Names<usize>,
    pub(super) limits: Names<usize>,
}

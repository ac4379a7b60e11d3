//! What works, but probably not as meant.
//!
//! Invariant: a lint never keeps a plan from being made, and never repeats a secret.

mod admin;
mod aggregate;
mod ban;
mod front;
mod limit;
mod proxies;
mod store;

use std::time::Duration;

use probegate_policies::fields::FieldName;
use probegate_policies::probe::ProbeKind;

use super::ConfigPath;
use super::compile::{Context, Definitions, Names, is_open};
use crate::plan;
use crate::tls::pem::moment;

pub(super) use admin::{audit, socket};
pub(super) use aggregate::aggregate_timeout;
pub(super) use ban::{honest, offences};
pub(super) use front::{
    acme_name, buffers, client_name, hosts_without_certificate, plain_challenges, ramp, storage, sudden_end,
};
pub(super) use limit::chosen;
pub(super) use proxies::{forwarding_without_proxies, trusted_network, trusted_proxies};
pub(super) use store::{store_in_use, store_replicas};

/// Bits of strength below which a token can be guessed by somebody with time.
const STRONG: u32 = 128;

/// How long kubelets wait, unless they are told otherwise.
const KUBELET: Duration = Duration::from_secs(1);

/// A probe that tells strangers about the inside.
pub(super) fn probe(probe: &plan::Probe, path: &ConfigPath, cx: &mut Context<'_>) {
    let name = probe.kind.name();
    if probe.kind == ProbeKind::Healthz {
        return;
    }
    if is_open(&probe.allow) {
        cx.lint(
            &path.key("allow"),
            format!("anyone may ask probe `{name}`"),
            "write `allow: {network: internal}` unless that is meant",
        );
    }
    if matches!(probe.serve, plan::Serve::Answer(_)) && probe.kind != ProbeKind::Version {
        let message = format!("probe `{name}` answers without asking the app, and so says nothing about it");
        cx.lint(&path.key("serve"), message, "write `serve: forward`");
    }
}

/// A probe that whoever asks has given up before it ends.
pub(super) fn probe_timeout(timeout: Duration, path: &ConfigPath, cx: &mut Context<'_>) {
    if timeout >= KUBELET {
        let millis = timeout.as_millis();
        let message = format!("a probe may take {millis} ms: kubelets give up after a second, and balancers soon");
        cx.lint(path, message, "write a duration below a second, such as `800ms`, and have the app answer faster");
    }
}

/// A probe whose path the app answers like any other.
pub(super) fn switched_off(kind: ProbeKind, prefix: Option<&str>, path: &ConfigPath, cx: &mut Context<'_>) {
    if kind == ProbeKind::Healthz {
        return;
    }
    let (name, at) = (kind.name(), format!("{}{}", prefix.unwrap_or_default(), kind.default_path()));
    let message = format!("probe `{name}` is off: `{at}` goes to the app like any other path, and anyone may ask");
    cx.lint(path, message, "leave the probe on, or guard its path with a route");
}

/// A token that could be guessed. Its strength is an estimate: its length times what its alphabet gives for each character.
pub(super) fn token_strength(what: &str, secret: &[u8], path: &ConfigPath, cx: &mut Context<'_>) {
    let bits = strength(secret);
    if bits < STRONG {
        let message = format!("this {what} has about {bits} bits of strength, expected at least {STRONG}");
        cx.lint(path, message, "make one with `openssl rand -hex 32`");
    }
}

fn strength(secret: &[u8]) -> u32 {
    let has = |class: fn(&u8) -> bool| secret.iter().any(class);
    let alphabet: u32 = if secret.iter().all(u8::is_ascii_hexdigit) {
        if secret.iter().all(u8::is_ascii_digit) { 10 } else { 16 }
    } else {
        let classes =
            [(has(u8::is_ascii_digit), 10), (has(u8::is_ascii_lowercase), 26), (has(u8::is_ascii_uppercase), 26)];
        let others = if has(|byte| !byte.is_ascii_alphanumeric()) { 2 } else { 0 };
        classes.into_iter().filter_map(|(there, size)| there.then_some(size)).sum::<u32>() + others
    };
    // A letter that repeats adds less than a new one: `aaaa…` is not strong at any length.
    let mut seen = secret.to_vec();
    seen.sort_unstable();
    seen.dedup();
    let distinct = u32::try_from(seen.len()).unwrap_or(u32::MAX);
    let length = u32::try_from(secret.len()).unwrap_or(u32::MAX);
    let alphabet = alphabet.min(distinct.saturating_mul(2)).max(1);
    // Hundredths of a bit keep this in whole numbers.
    let centibits = (f64::from(alphabet).log2() * 100.0).floor();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 3200")]
    let centibits = centibits as u32;
    length.saturating_mul(centibits) / 100
}

/// A token that nobody can use any more.
pub(super) fn expiry(expires: Option<u64>, path: &ConfigPath, cx: &mut Context<'_>) {
    if expires.is_some_and(|expires| expires <= cx.environment().unix()) {
        cx.lint(path, "this token has expired", "remove the slot");
    }
}

/// A certificate that is not valid yet, has expired, or is about to. Its validity is given in seconds since 1970.
pub(super) fn certificate_validity(not_before: u64, not_after: u64, path: &ConfigPath, cx: &mut Context<'_>) {
    const SOON: u64 = 14;
    let now = cx.environment().unix();
    let hint = "renew it; the gateway notices the new files by itself";
    if not_before > now {
        let message =
            format!("this certificate is not valid before {}: clients refuse it until then", moment(not_before));
        cx.lint(path, message, "look at the clock, or use the certificate before until then");
    }
    if not_after <= now {
        cx.lint(path, "this certificate has expired: clients refuse it", hint);
    } else if not_after - now < SOON * 24 * 3600 {
        let days = (not_after - now) / (24 * 3600);
        cx.lint(path, format!("this certificate expires in {days} days"), hint);
    }
}

/// Sets of client certificates that nobody is ever asked for.
pub(super) fn certificates_not_asked_for(
    definitions: &Definitions,
    listeners: &[plan::Listener],
    services: &[plan::Service],
    cx: &mut Context<'_>,
) {
    let of_listeners = listeners.iter().filter_map(|listener| listener.tls.as_ref()?.clients.as_ref());
    let of_services = services.iter().filter_map(|service| service.clients.as_ref());
    let asked: Vec<usize> =
        of_listeners.chain(of_services).flat_map(|clients| clients.accept.iter().copied()).collect();
    for entry in definitions.certificates.iter() {
        if let (Some(path), Some(index)) = (&entry.path, &entry.value)
            && !asked.contains(index)
        {
            let message = format!("no listener and no service asks for client certificate `{}`", entry.name);
            cx.lint(path, message, "accept it under `client_certificates` of a listener or a service, or remove it");
        }
    }
}

/// A header that apps often need for themselves, and that they no longer get because it carries a token of the gateway.
pub(super) fn withheld(field: &FieldName, path: &ConfigPath, cx: &mut Context<'_>) {
    if ["authorization", "x-api-key", "api-key", "x-auth-token"].contains(&field.as_str()) {
        let message = format!("apps no longer see `{field}`, because it carries tokens of the gateway");
        cx.lint(path, message, "choose a header of its own, or write `forward: true`");
    }
}

/// An app that anybody could pretend to be.
pub(super) fn unverified(path: &ConfigPath, cx: &mut Context<'_>) {
    cx.lint(
        path,
        "the app's certificate is not verified: whoever is on the way can pretend to be the app, and read and change everything",
        "name the authority that signs it with `ca`, and remove `verify`",
    );
}

/// Words about HTTPS where nobody speaks it. `terminated`: proxies in front may.
pub(super) fn https(listeners: &[plan::Listener], terminated: bool, services: &[plan::Service], cx: &mut Context<'_>) {
    if terminated || listeners.iter().any(|listener| listener.tls.is_some()) {
        return;
    }
    let root = ConfigPath::root();
    for (index, _) in listeners.iter().enumerate().filter(|(_, listener)| listener.redirect_https.is_some()) {
        cx.lint(
            &root.key("listeners").index(index).key("redirect_https"),
            "clients are sent to HTTPS, but no listener speaks TLS",
            "add a listener with `tls`, or list the proxies that speak it under `client_ip.trusted_proxies`",
        );
    }
    for service in services.iter().filter(|service| service.hsts.is_some()) {
        cx.lint(
            &root.key("services").key(&service.name).key("hsts"),
            "`hsts` is never sent: no listener speaks TLS, and no trusted proxy could say that the client did",
            "add a listener with `tls`, or list the proxies that speak it under `client_ip.trusted_proxies`",
        );
    }
}

/// Definitions that nothing uses: rules that were meant to guard something and do not.
pub(super) fn unused(definitions: &Definitions, cx: &mut Context<'_>) {
    unused_names(&definitions.networks, "`allow`", cx);
    unused_names(&definitions.tokens, "`allow`", cx);
    unused_names(&definitions.limits, "`limits` of a service or a route", cx);
}

fn unused_names<T>(names: &Names<T>, place: &str, cx: &mut Context<'_>) {
    for entry in names.iter().filter(|entry| !entry.is_used()) {
        let Some(path) = &entry.path else { continue };
        let message = format!("{} `{}` is defined, but never used", names.kind(), entry.name);
        cx.lint(path, message, format!("name it under {place}, or remove it"));
    }
}

/// A route, where it is written, and whether it says who may enter.
pub(super) struct WrittenRoute {
    pub(super) route: plan::Route,
    pub(super) path: ConfigPath,
    pub(super) has_rule: bool,
}

/// Routes that do less than they seem to.
pub(super) fn routes(routes: &[WrittenRoute], probes: &[plan::Probe], cx: &mut Context<'_>) {
    for written in routes {
        let route = &written.route;
        let below: Vec<_> = probes
            .iter()
            .filter(|probe| route.path.covers(probe.path.as_bytes()))
            .filter(|probe| written.has_rule && is_open(&probe.allow) && !is_open(&route.allow))
            .map(|probe| format!("`{}`", probe.path))
            .collect();
        if !below.is_empty() {
            let message = format!(
                "this route's rule does not guard {}: anyone may ask, because probes have rules of their own",
                below.join(", ")
            );
            cx.lint(&written.path, message, "guard it with the probe's own `allow`");
        }
        if let Some(probe) = probes.iter().find(|probe| route.path.to_string() == *probe.path) {
            let message = format!(
                "`{}` is the path of probe `{}`: the route only gets what lies below it",
                probe.path,
                probe.kind.name()
            );
            cx.lint(&written.path, message, "say it in the probe, or remove the route");
        }
        open_below_guarded(written, routes, cx);
    }
}

/// A route without a rule inside one that has a rule. The longest path wins, so it is open: for a login form below a guarded
/// admin, usually by mistake.
fn open_below_guarded(written: &WrittenRoute, routes: &[WrittenRoute], cx: &mut Context<'_>) {
    let inside = written.route.path.to_string();
    let around = routes
        .iter()
        .filter(|other| other.route.path != written.route.path && other.route.path.covers(inside.as_bytes()))
        .max_by_key(|other| other.route.path.to_string().len());
    let Some(around) = around.filter(|around| !written.has_rule && !is_open(&around.route.allow)) else {
        return;
    };
    let message =
        format!("anyone may enter `{inside}`: the rule of `{}` ends where a longer route begins", around.route.path);
    cx.lint(&written.path, message, "repeat `allow` here, or write `allow: anyone` if that is meant");
}

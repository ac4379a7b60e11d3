//! The probes of a service.
//!
//! What holds for a probe is said in four places, of which the first that says it counts: the probe of the service, beside the probes of the
//! service, the probe of all services, beside the probes of all services.

use std::time::Duration;

use probegate_policies::access::{Origin, Rule};
use probegate_policies::probe::{ProbeKind, VersionInfo};
use probegate_policies::shield::Terms;

use super::secret::{self, Places};
use super::{Context, Definitions, rule, token};
use crate::config::shape::Toggle;
use crate::config::value::{DenyWord, ExactPath, Flag, Host, Leaf, QueryWord, Seconds, ServeWord, Text};
use crate::config::{ConfigPath, lint, raw};
use crate::plan;

/// For the whole exchange with the app. Kubelet gives up after one second.
const TIMEOUT: Duration = Duration::from_millis(800);

/// How long an answer serves.
const SERVES: Duration = Duration::from_secs(1);

/// Longer than this, no answer serves.
const LONGEST: Duration = Duration::from_secs(300);

/// The probes of the service `(name, host)`. The host is its first one that is a name.
pub(super) fn probes(
    raw: Option<raw::Probes>,
    defaults: &raw::Probes,
    (service, host): (&str, Option<&str>),
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Vec<plan::Probe> {
    let raw = raw.unwrap_or_default();
    let mut probes: Vec<plan::Probe> = Vec::new();
    for kind in ProbeKind::ALL {
        let layers = Layers::of(kind, [(&raw, path.key("probes")), (defaults, ConfigPath::root().key("probes"))]);
        let Some(layers) = layers else {
            let prefix =
                raw.prefix.as_ref().or(defaults.prefix.as_ref()).map(|prefix| prefix.0.0.trim_end_matches('/'));
            lint::switched_off(kind, prefix, &path.key("probes").key(kind.name()), cx);
            continue;
        };
        let path = path.key("probes").key(kind.name());
        let probe = compile(kind, &layers, (service, host), &path, definitions, cx);
        if let Some(other) = probes.iter().find(|other| other.path == probe.path) {
            let message =
                format!("probe `{}` has the path of probe `{}`, `{}`", kind.name(), other.kind.name(), probe.path);
            cx.error(&path.key("path"), message, "give each probe a path of its own");
        }
        lint::probe(&probe, &path, cx);
        probes.push(probe);
    }
    probes
}

/// Proves what is said for all services, which may say something else each.
pub(super) fn defaults(raw: &raw::Probes, definitions: &Definitions, cx: &mut Context<'_>) {
    for kind in ProbeKind::ALL {
        let path = ConfigPath::root().key("probes");
        if let Some(layers) = Layers::of(kind, [(raw, path.clone())]) {
            compile(kind, &layers, ("", None), &path.key(kind.name()), definitions, cx);
        }
    }
}

/// Where something may be said about a probe, and where that is written. The first place counts most.
struct Layers<'a> {
    probes: Vec<(&'a raw::Probe, ConfigPath)>,
    all: Vec<(&'a raw::Probes, ConfigPath)>,
    /// For each place, in the order in which they count: is it one for this probe?
    own: Vec<bool>,
}

/// What is said, where, and how much the place counts: 0 counts most.
struct Said<T> {
    value: T,
    path: ConfigPath,
    rank: usize,
}

impl<'a> Layers<'a> {
    /// The places for a probe; `None`: it is off.
    fn of(kind: ProbeKind, levels: impl IntoIterator<Item = (&'a raw::Probes, ConfigPath)>) -> Option<Self> {
        let mut layers = Self { probes: Vec::new(), all: Vec::new(), own: Vec::new() };
        for (probes, path) in levels {
            let toggle = match kind {
                ProbeKind::Healthz => &probes.healthz,
                ProbeKind::Readyz => &probes.readyz,
                ProbeKind::Startupz => &probes.startupz,
                ProbeKind::Version => &probes.version,
            };
            match toggle {
                // Whoever is nearer and says something wants it.
                Some(Toggle::Off) if layers.probes.is_empty() => return None,
                Some(Toggle::On(probe)) => {
                    layers.probes.push((probe, path.key(kind.name())));
                    layers.own.push(true);
                }
                Some(Toggle::Off) | None => {}
            }
            layers.all.push((probes, path));
            layers.own.push(false);
        }
        Some(layers)
    }

    /// What is said under a key.
    fn find<T>(
        &self,
        key: &str,
        of_probe: impl Fn(&'a raw::Probe) -> Option<T>,
        of_all: impl Fn(&'a raw::Probes) -> Option<T>,
    ) -> Option<Said<T>> {
        let (mut probes, mut all) = (self.probes.iter(), self.all.iter());
        for (rank, own) in self.own.iter().enumerate() {
            let found = if *own {
                probes.next().and_then(|(probe, path)| Some((of_probe(probe)?, path)))
            } else {
                all.next().and_then(|(probes, path)| Some((of_all(probes)?, path)))
            };
            if let Some((value, path)) = found {
                return Some(Said { value, path: path.key(key), rank });
            }
        }
        None
    }
}

fn compile(
    kind: ProbeKind,
    layers: &Layers<'_>,
    (service, host): (&str, Option<&str>),
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> plan::Probe {
    macro_rules! said {
        ($key:ident) => {
            layers.find(stringify!($key), |probe| probe.$key.clone(), |probes| probes.$key.clone())
        };
        ($key:ident of the probe) => {
            layers.find(stringify!($key), |probe| probe.$key.clone(), |_| None)
        };
    }
    let at = match said!(path of the probe) {
        Some(Said { value: Leaf(ExactPath(path)), .. }) => path,
        None => {
            let prefix = layers.find("prefix", |_| None, |probes| probes.prefix.clone());
            let prefix = prefix.map(|said| said.value.0.0).unwrap_or_default();
            format!("{}{}", prefix.trim_end_matches('/'), kind.default_path()).into()
        }
    };
    let allow = match said!(allow) {
        Some(said) => rule::rule(said.value, &said.path, definitions, cx),
        // What is only proved uses no network.
        None if kind == ProbeKind::Healthz || service.is_empty() => Rule::anyone(),
        None => rule::internal(definitions, path, cx),
    };
    let written = cx.origin(path);
    let serve = said!(serve);
    // What is said in a place that counts at least as much as the one that says who answers, is said about that.
    let rank = serve.as_ref().map_or(usize::MAX, |serve| serve.rank);
    let (upstream_path, app_host, secret) = (said!(upstream_path of the probe), said!(host), said!(token));
    let (timeout, cache, query) = (said!(timeout), said!(cache), said!(query));
    let (latch, version) = (said!(latch of the probe), said!(version of the probe));
    let serve = match serve.map_or(ServeWord::Forward, |said| said.value.0) {
        ServeWord::Answer => {
            let forwarded = [
                ("upstream_path", upstream_path.map(|said| (said.path, said.rank))),
                ("host", app_host.map(|said| (said.path, said.rank))),
                ("token", secret.map(|said| (said.path, said.rank))),
                ("timeout", timeout.map(|said| (said.path, said.rank))),
                ("cache", cache.map(|said| (said.path, said.rank))),
                ("query", query.map(|said| (said.path, said.rank))),
                ("latch", latch.map(|said| (said.path, said.rank))),
            ];
            for (key, said) in forwarded {
                if let Some((path, _)) = said.filter(|(_, said)| *said <= rank) {
                    let message = format!("`{key}` has no meaning with `serve: answer`: the app is not asked");
                    cx.key_error(&path, message, "remove it, or write `serve: forward`");
                }
            }
            if let Some(said) = version.as_ref().filter(|_| kind != ProbeKind::Version) {
                let message = format!("`version` has no meaning for probe `{}`", kind.name());
                cx.key_error(&said.path, message, "move it to probe `version`");
            }
            plan::Serve::Answer(version_info(version.map(|said| said.value).unwrap_or_default(), service))
        }
        ServeWord::Forward => {
            if let Some(said) = version.filter(|said| said.rank <= rank) {
                let message = "`version` has no meaning with `serve: forward`: the app answers";
                cx.key_error(&said.path, message, "remove it, or write `serve: answer`");
            }
            let timeout = match timeout.and_then(|said| Some((said.path.parent()?, said.value))) {
                Some((path, timeout)) => {
                    let timeout = cx.deadline(Some(timeout), &path, "timeout", TIMEOUT);
                    lint::probe_timeout(timeout, &path.key("timeout"), cx);
                    timeout
                }
                None => TIMEOUT,
            };
            let off = cache.as_ref().is_some_and(|said| matches!(said.value, Toggle::Off));
            let latch = latch.filter(|said| said.value.0 == Flag(true));
            if let Some(said) = &latch {
                if kind != ProbeKind::Startupz {
                    let message =
                        format!("`latch` has no meaning for probe `{}`: what it asks may change", kind.name());
                    cx.key_error(&said.path, message, "move it to probe `startupz`");
                } else if off {
                    let message = "`latch` has no meaning with `cache: off`: the app is asked each time";
                    cx.key_error(&said.path, message, "remove one of the two");
                }
            }
            let cache = match cache {
                Some(Said { value: Toggle::Off, .. }) => None,
                Some(Said { value: Toggle::On(raw), path, .. }) => {
                    Some(terms(raw, timeout, latch.is_some(), &path, cx))
                }
                None => Some(terms(raw::ProbeCache::default(), timeout, latch.is_some(), path, cx)),
            };
            plan::Serve::Forward(Box::new(plan::ProbeForward {
                path: upstream_path.map_or_else(|| at.clone(), |Said { value: Leaf(ExactPath(path)), .. }| path),
                host: app_host.map(|Said { value: Leaf(Host(host)), .. }| host),
                own: host.map(Into::into),
                token: secret.and_then(|said| app_token(said.value, &said.path, cx)),
                timeout,
                cache,
                query: query.is_none_or(|said| said.value.0 == QueryWord::Pass),
            }))
        }
    };
    let deny = said!(deny).map_or(plan::Deny::Forbidden, |Said { value: Leaf(DenyWord(deny)), .. }| deny);
    plan::Probe { kind, path: at, serve, allow, deny, origin: Origin { line: written.line } }
}

/// How long answers serve.
fn terms(raw: raw::ProbeCache, patience: Duration, latch: bool, path: &ConfigPath, cx: &mut Context<'_>) -> Terms {
    let raw::ProbeCache { ok, fail, stale } = raw;
    let mut bounded = |value: Option<Leaf<Seconds>>, key: &str, default: Duration| {
        let value = value.map_or(default, |Leaf(Seconds(value))| value);
        if value > LONGEST {
            let message = format!("`{key}` of {value:?} would hide for too long what becomes of the app");
            cx.error(&path.key(key), message, format!("write at most `{}s`", LONGEST.as_secs()));
        }
        value
    };
    let [ok, fail] = [(ok, "ok"), (fail, "fail")].map(|(value, key)| bounded(value, key, SERVES));
    Terms { ok, fail, stale: bounded(stale, "stale", Duration::ZERO), latch, patience }
}

/// A token that the gateway shows to the app.
pub(super) fn app_token(raw: raw::AppToken, path: &ConfigPath, cx: &mut Context<'_>) -> Option<plan::AppToken> {
    let raw::AppToken { header, env, file, value } = raw;
    let field = token::field(header)?;
    token::refuse_taken(&field.name, path, cx);
    if !secret::exactly_one(
        "token",
        &[("env", env.is_some()), ("file", file.is_some()), ("value", value.is_some())],
        path,
        cx,
    ) {
        return None;
    }
    let secret = secret::read(Places { what: "token", env, file, value }, path, cx)?;
    Some(plan::AppToken { field: field.text, secret })
}

fn version_info(raw: raw::Version, service: &str) -> VersionInfo {
    let raw::Version { service: name, environment, version, commit, branch, build_time, slot } = raw;
    let text = |leaf: Option<Leaf<Text>>| leaf.map(|Leaf(Text(text))| text);
    VersionInfo {
        service: text(name).unwrap_or_else(|| service.into()),
        environment: text(environment).unwrap_or_else(|| "local".into()),
        version: text(version).unwrap_or_else(|| "unknown".into()),
        commit: text(commit),
        branch: text(branch),
        build_time: text(build_time),
        slot: text(slot),
    }
}

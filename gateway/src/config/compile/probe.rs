//! The probes of a service.

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

pub(super) fn probes(
    raw: Option<raw::Probes>,
    service: &str,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Vec<plan::Probe> {
    let raw::Probes { healthz, readyz, startupz, version } = raw.unwrap_or_default();
    let path = path.key("probes");
    let mut probes: Vec<plan::Probe> = Vec::new();
    for (kind, toggle) in [
        (ProbeKind::Healthz, healthz),
        (ProbeKind::Readyz, readyz),
        (ProbeKind::Startupz, startupz),
        (ProbeKind::Version, version),
    ] {
        let path = path.key(kind.name());
        let probe = match toggle {
            Some(Toggle::Off) => {
                lint::switched_off(kind, &path, cx);
                continue;
            }
            Some(Toggle::On(probe)) => compile(kind, probe, service, &path, definitions, cx),
            None => compile(kind, raw::Probe::default(), service, &path, definitions, cx),
        };
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

fn compile(
    kind: ProbeKind,
    raw: raw::Probe,
    service: &str,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> plan::Probe {
    let raw::Probe { path: at, serve, allow, deny, upstream_path, host, token, timeout, cache, query, latch, version } =
        raw;
    let at = at.map_or_else(|| kind.default_path().into(), |Leaf(ExactPath(path))| path);
    let allow = match allow {
        Some(allow) => rule::rule(allow, &path.key("allow"), definitions, cx),
        None if kind == ProbeKind::Healthz => Rule::anyone(),
        None => rule::internal(definitions, path, cx),
    };
    let written = cx.origin(path);
    let serve = match serve.map_or(ServeWord::Forward, |Leaf(serve)| serve) {
        ServeWord::Answer => {
            let forwarded = [
                ("upstream_path", upstream_path.is_some()),
                ("host", host.is_some()),
                ("token", token.is_some()),
                ("timeout", timeout.is_some()),
                ("cache", cache.is_some()),
                ("query", query.is_some()),
                ("latch", latch.is_some()),
            ];
            for (key, _) in forwarded.into_iter().filter(|&(_, there)| there) {
                let message = format!("`{key}` has no meaning with `serve: answer`: the app is not asked");
                cx.key_error(&path.key(key), message, "remove it, or write `serve: forward`");
            }
            if version.is_some() && kind != ProbeKind::Version {
                let message = format!("`version` has no meaning for probe `{}`", kind.name());
                cx.key_error(&path.key("version"), message, "move it to probe `version`");
            }
            plan::Serve::Answer(version_info(version.unwrap_or_default(), service))
        }
        ServeWord::Forward => {
            if version.is_some() {
                let message = "`version` has no meaning with `serve: forward`: the app answers";
                cx.key_error(&path.key("version"), message, "remove it, or write `serve: answer`");
            }
            let timeout = cx.deadline(timeout, path, "timeout", TIMEOUT);
            let latch = latch.is_some_and(|Leaf(Flag(latch))| latch);
            if latch && kind != ProbeKind::Startupz {
                let message = format!("`latch` has no meaning for probe `{}`: what it asks may change", kind.name());
                cx.key_error(&path.key("latch"), message, "move it to probe `startupz`");
            }
            let off = matches!(cache, Some(Toggle::Off));
            if latch && off {
                let message = "`latch` has no meaning with `cache: off`: the app is asked each time";
                cx.key_error(&path.key("latch"), message, "remove one of the two");
            }
            plan::Serve::Forward(Box::new(plan::ProbeForward {
                path: upstream_path.map_or_else(|| at.clone(), |Leaf(ExactPath(path))| path),
                host: host.map(|Leaf(Host(host))| host),
                token: token.and_then(|token| app_token(token, &path.key("token"), cx)),
                timeout,
                cache: match cache {
                    Some(Toggle::Off) => None,
                    Some(Toggle::On(raw)) => Some(terms(raw, timeout, latch, &path.key("cache"), cx)),
                    None => Some(terms(raw::ProbeCache::default(), timeout, latch, &path.key("cache"), cx)),
                },
                query: query.is_none_or(|Leaf(query)| query == QueryWord::Pass),
            }))
        }
    };
    let deny = deny.map_or(plan::Deny::Forbidden, |Leaf(DenyWord(deny))| deny);
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

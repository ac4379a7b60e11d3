//! `allow` to rules.

use std::sync::Arc;

use probegate_policies::access::{Condition, Origin, Rule};

use super::network::INTERNAL;
use super::{Context, Definitions};
use crate::config::shape::List;
use crate::config::value::{Leaf, Name};
use crate::config::{ConfigPath, raw};

/// The rule that `allow` at `path` means.
pub(super) fn rule(allow: raw::Allow, path: &ConfigPath, definitions: &Definitions, cx: &mut Context<'_>) -> Rule {
    let condition = match allow {
        raw::Allow::Anyone => Condition::Anyone,
        raw::Allow::Conditions(conditions) => condition(*conditions, path, definitions, cx).unwrap_or_else(nobody),
    };
    Rule { origin: cx.origin(path), condition }
}

/// The rule of a probe that says nothing: the network `internal`.
pub(super) fn internal(definitions: &Definitions, path: &ConfigPath, cx: &mut Context<'_>) -> Rule {
    let condition = network(INTERNAL, path, definitions, cx).unwrap_or_else(nobody);
    Rule { origin: Origin { line: 0 }, condition }
}

/// Whether a rule lets everybody in, however it is written.
pub(in crate::config) fn is_open(rule: &Rule) -> bool {
    match &rule.condition {
        Condition::Anyone => true,
        Condition::Network { .. } | Condition::Token(_) | Condition::Certificate { .. } => false,
        Condition::Any(rules) => rules.iter().any(is_open),
        Condition::All(rules) => !rules.is_empty() && rules.iter().all(is_open),
    }
}

/// Whether a rule asks for a client certificate, alone or among others.
pub(in crate::config) fn asks_for_certificate(rule: &Rule) -> bool {
    match &rule.condition {
        Condition::Certificate { .. } => true,
        Condition::Anyone | Condition::Network { .. } | Condition::Token(_) => false,
        Condition::Any(rules) | Condition::All(rules) => rules.iter().any(asks_for_certificate),
    }
}

/// Stands where a rule could not be compiled. There will be no plan, but if there were one, this would be the safe side.
fn nobody() -> Condition {
    Condition::Any(Box::default())
}

fn condition(
    raw: raw::Conditions,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<Condition> {
    let raw::Conditions { network: in_network, token: with_token, client_certificate, any, all } = raw;
    let given = [
        ("network", in_network.is_some()),
        ("token", with_token.is_some()),
        ("client_certificate", client_certificate.is_some()),
        ("any", any.is_some()),
        ("all", all.is_some()),
    ];
    let given: Vec<_> =
        given.iter().filter(|(key, there)| *there || cx.is_broken(&path.key(key))).map(|&(key, _)| key).collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            cx.error(
                path,
                "this condition is empty",
                "write `anyone`, `{network: NAME}`, `{token: NAME}`, `{client_certificate: NAME}`, `{any: […]}` or `{all: […]}`",
            );
            return None;
        }
        [first, second, ..] => {
            let hint = format!(
                "write `{{all: [{{{first}: …}}, {{{second}: …}}]}}` if both are needed, `any` in place of `all` if one is enough"
            );
            cx.key_error(
                &path.key(second),
                format!("`{first}` and `{second}` stand side by side, which does not say whether one is enough"),
                hint,
            );
            return None;
        }
    }
    if let Some(Leaf(Name(name))) = in_network {
        network(&name, &path.key("network"), definitions, cx)
    } else if let Some(Leaf(Name(name))) = with_token {
        let tokens = definitions.tokens.find(&name, &path.key("token"), cx)?;
        Some(Condition::Token(Arc::clone(&tokens.set)))
    } else if let Some(Leaf(Name(name))) = client_certificate {
        let bit = *definitions.certificates.find(&name, &path.key("client_certificate"), cx)?;
        Some(Condition::Certificate { name, bit: u8::try_from(bit).ok()? })
    } else if let Some(rules) = any {
        Some(Condition::Any(list(rules, &path.key("any"), definitions, cx)))
    } else {
        Some(Condition::All(list(all?, &path.key("all"), definitions, cx)))
    }
}

/// Whether a rule asks for this network.
pub(in crate::config) fn names_network(rule: &Rule, wanted: &str) -> bool {
    match &rule.condition {
        Condition::Network { name, .. } => **name == *wanted,
        Condition::Anyone | Condition::Token(_) | Condition::Certificate { .. } => false,
        Condition::Any(rules) | Condition::All(rules) => rules.iter().any(|rule| names_network(rule, wanted)),
    }
}

fn network(name: &str, path: &ConfigPath, definitions: &Definitions, cx: &mut Context<'_>) -> Option<Condition> {
    let network = definitions.networks.find(name, path, cx)?;
    Some(Condition::Network { name: name.into(), set: Arc::clone(&network.set) })
}

fn list(raw: List<raw::Allow>, path: &ConfigPath, definitions: &Definitions, cx: &mut Context<'_>) -> Box<[Rule]> {
    if raw.is_empty() {
        cx.error(
            path,
            "this list of conditions is empty",
            "write at least one condition, or `anyone` in place of the list",
        );
    }
    raw.into_iter().map(|(index, allow)| rule(allow, &path.index(index), definitions, cx)).collect()
}

//! Sets of tokens by name.

use std::collections::HashMap;
use std::sync::Arc;

use probegate_policies::access::{self, TokenDigest};
use probegate_policies::fields::FieldName;
use secrecy::ExposeSecret as _;

use super::names::Entry;
use super::secret::{self, Places};
use super::{Context, Definitions, Names};
use crate::config::shape::{List, Named};
use crate::config::value::{Date, FieldText, Flag, Leaf, Name, Sha256, Word as _};
use crate::config::{ConfigPath, lint, raw};

/// One set of tokens.
pub(in crate::config) struct Tokens {
    pub(in crate::config) set: Arc<access::TokenSet>,
    /// Whether apps see its field.
    pub(in crate::config) forward: bool,
}

/// The header that carries a probe token unless another one is named.
pub(super) const DEFAULT_FIELD: &str = "X-Probe-Token";

pub(super) fn tokens(raw: Option<Named<raw::TokenSet>>, cx: &mut Context<'_>) -> Names<Tokens> {
    let mut names = Names::new("token", "tokens", cx);
    for (name, set) in raw.unwrap_or_default() {
        let path = ConfigPath::root().key("tokens").key(&name);
        let tokens = set.and_then(|set| token_set(&name, set, &path, cx));
        names.define(name, tokens, cx);
    }
    names
}

fn token_set(name: &str, raw: raw::TokenSet, path: &ConfigPath, cx: &mut Context<'_>) -> Option<Tokens> {
    let raw::TokenSet { header, forward, slots } = raw;
    let forward = forward.is_some_and(|Leaf(Flag(forward))| forward);
    let field = field(header)?.name;
    refuse_taken(&field, path, cx);
    let slots = cx.required(slots, path, "slots", "slots: [{name: ci, env: PROBE_TOKEN}]")?;
    let path = path.key("slots");
    if slots.is_empty() {
        // An empty set that let everybody in is the mistake this is copied from; one that lets nobody in helps nobody either.
        cx.error(&path, format!("token `{name}` has no slots"), "write at least one: `{name: ci, env: PROBE_TOKEN}`");
    }
    let slots = compile_slots(slots, &path, cx);
    Some(Tokens { set: Arc::new(access::TokenSet::new(name.into(), field, slots)), forward })
}

fn compile_slots(raw: List<raw::Slot>, path: &ConfigPath, cx: &mut Context<'_>) -> Vec<access::Slot> {
    let mut seen: HashMap<Box<str>, usize> = HashMap::new();
    let mut slots = Vec::new();
    for (index, slot) in raw {
        let path = path.index(index);
        let Some(slot) = compile_slot(slot, &path, cx) else {
            continue;
        };
        if seen.insert(slot.name.clone(), index).is_some() {
            cx.error(
                &path.key("name"),
                format!("slot `{}` is defined twice", slot.name),
                "give each slot a name of its own",
            );
        }
        slots.push(slot);
    }
    slots
}

fn compile_slot(raw: raw::Slot, path: &ConfigPath, cx: &mut Context<'_>) -> Option<access::Slot> {
    let raw::Slot { name, env, file, sha256, value, not_before, expires } = raw;
    let given =
        [("env", env.is_some()), ("file", file.is_some()), ("sha256", sha256.is_some()), ("value", value.is_some())];
    let name = cx.required(name, path, "name", "name: ci");
    let not_before = not_before.map(|Leaf(Date(seconds))| seconds);
    let expires = expires.map(|Leaf(Date(seconds))| seconds);
    if let (Some(start), Some(end)) = (not_before, expires)
        && start >= end
    {
        cx.error(
            &path.key("expires"),
            "`expires` is not after `not_before`: the token would never be valid",
            "exchange the two dates",
        );
    }
    lint::expiry(expires, &path.key("expires"), cx);
    if !secret::exactly_one("token", &given, path, cx) {
        return None;
    }
    let digest = match sha256 {
        Some(Leaf(Sha256(digest))) => digest,
        None => TokenDigest::of(secret::read(Places { what: "token", env, file, value }, path, cx)?.expose_secret()),
    };
    let Leaf(Name(name)) = name?;
    Some(access::Slot { name, digest, not_before, expires })
}

/// The field that carries a token. `None` cannot happen: the default is a field name.
pub(super) fn field(raw: Option<Leaf<FieldText>>) -> Option<FieldText> {
    raw.map_or_else(|| FieldText::from_text(DEFAULT_FIELD).ok(), |Leaf(field)| Some(field))
}

/// Reports a field that the gateway or HTTP itself acts on.
pub(super) fn refuse_taken(field: &FieldName, path: &ConfigPath, cx: &mut Context<'_>) {
    const TAKEN: [&str; 8] =
        ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "cookie", "expect"];
    if TAKEN.contains(&field.as_str()) {
        let message = format!("`{field}` means something else already and cannot carry a token");
        cx.error(&path.key("header"), message, format!("write a header of your own, such as `{DEFAULT_FIELD}`"));
    }
}

/// The names of the sets that something asks for so far.
pub(super) fn used(definitions: &Definitions) -> Vec<Box<str>> {
    definitions.tokens.iter().filter(|entry| entry.is_used()).map(|entry| entry.name.clone()).collect()
}

/// Every field with tokens that apps do not see, and every other one; reports sets that disagree about one. `guarding`: the sets that clients of apps are
/// asked for. The others that are in use are for the admin listener alone: clients of apps are not asked for those, but somebody may send one to the wrong
/// port. So what the former say about a field holds where the latter say nothing, and of the latter's only `Authorization` is left to apps, which have a
/// use for it.
pub(super) fn fields(definitions: &Definitions, guarding: &[Box<str>], cx: &mut Context<'_>) -> [Vec<FieldName>; 2] {
    let mut forwarded: HashMap<FieldName, (bool, Box<str>)> = HashMap::new();
    let is_of_admin = |entry: &&Entry<Tokens>| entry.is_used() && !guarding.contains(&entry.name);
    for entry in definitions.tokens.iter().filter(|entry| !is_of_admin(entry)) {
        let (Some(tokens), Some(path)) = (&entry.value, &entry.path) else {
            continue;
        };
        let field = &tokens.set.field;
        match forwarded.get(field) {
            Some((forward, other)) if *forward != tokens.forward => disagree([other, &entry.name], field, path, cx),
            Some(_) => {}
            None => {
                if !tokens.forward {
                    lint::withheld(field, path, cx);
                }
                forwarded.insert(field.clone(), (tokens.forward, entry.name.clone()));
            }
        }
    }
    for entry in definitions.tokens.iter().filter(is_of_admin) {
        let (Some(tokens), Some(path)) = (&entry.value, &entry.path) else {
            continue;
        };
        let field = &tokens.set.field;
        match forwarded.get(field) {
            Some((false, other)) if tokens.forward => disagree([other, &entry.name], field, path, cx),
            None if !tokens.forward && field.as_str() != "authorization" => {
                lint::withheld(field, path, cx);
                forwarded.insert(field.clone(), (false, entry.name.clone()));
            }
            _ => {}
        }
    }
    [false, true].map(|wanted| {
        let fields = forwarded.iter().filter(|(_, (forward, _))| *forward == wanted);
        let mut fields: Vec<_> = fields.map(|(field, _)| field.clone()).collect();
        fields.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        fields
    })
}

/// Reports two sets of which one forwards their field.
fn disagree([one, other]: [&str; 2], field: &FieldName, path: &ConfigPath, cx: &mut Context<'_>) {
    let message =
        format!("tokens `{one}` and `{other}` share the header `{field}`, but one forwards it and one does not");
    cx.error(path, message, "give both the same `forward`, or each a header of its own");
}

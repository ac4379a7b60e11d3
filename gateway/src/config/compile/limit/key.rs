//! What requests have in common that are counted together.

use crate::config::compile::Context;
use crate::config::value::{CookieName, FieldText, Leaf, LimitPartWord, Text};
use crate::config::{ConfigPath, raw};
use crate::plan::LimitPart;

/// The parts of a key, at least one.
pub(super) fn parts(raw: Option<raw::LimitKey>, path: &ConfigPath, cx: &mut Context<'_>) -> Vec<LimitPart> {
    let list = match raw {
        None => return vec![LimitPart::ClientIp],
        Some(raw::LimitKey::One(part)) => return part_of(part, path, cx).into_iter().collect(),
        Some(raw::LimitKey::Several(list)) => list,
    };
    if list.is_empty() {
        let hint = "write `[service]` to count everybody together, or remove the key to count each client";
        cx.error(path, "`key` is empty: nobody could be told apart", hint);
    }
    let mut parts = Vec::new();
    for (position, part) in list {
        let path = path.index(position);
        let Some(part) = part_of(part, &path, cx) else { continue };
        if parts.contains(&part) {
            cx.error(&path, format!("`{part}` is named twice"), "remove one of the two");
        } else {
            parts.push(part);
        }
    }
    parts
}

fn part_of(raw: raw::LimitPart, path: &ConfigPath, cx: &mut Context<'_>) -> Option<LimitPart> {
    let name = match raw {
        raw::LimitPart::Word(word) => {
            return Some(match word {
                LimitPartWord::ClientIp => LimitPart::ClientIp,
                LimitPartWord::Path => LimitPart::Path,
                LimitPartWord::Method => LimitPart::Method,
                LimitPartWord::Host => LimitPart::Host,
                LimitPartWord::Service => LimitPart::Service,
                LimitPartWord::Route => LimitPart::Route,
                LimitPartWord::Token => LimitPart::Token,
                LimitPartWord::ClientCertificate => LimitPart::ClientCertificate,
            });
        }
        raw::LimitPart::Named(name) => name,
    };
    let raw::LimitName { header, cookie, query } = name;
    match (header, cookie, query) {
        (Some(Leaf(FieldText { name, .. })), None, None) => Some(LimitPart::Header(name)),
        (None, Some(Leaf(CookieName(name))), None) => Some(LimitPart::Cookie(name)),
        (None, None, Some(Leaf(Text(name)))) => Some(LimitPart::Query(name)),
        (None, None, None) if ["header", "cookie", "query"].iter().any(|key| cx.is_broken(&path.key(key))) => None,
        _ => {
            cx.error(path, "exactly one of `header`, `cookie` and `query` belongs here", "write a list for several");
            None
        }
    }
}

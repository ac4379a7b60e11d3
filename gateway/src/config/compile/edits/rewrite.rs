//! `strip_prefix` and `add_prefix`.

use std::fmt::Write as _;
use std::sync::Arc;

use probegate_policies::route::PathPrefix;

use crate::config::ConfigPath;
use crate::config::compile::Context;
use crate::config::value::Leaf;
use crate::plan::Rewrite;

/// What becomes of the path of a route's requests. `route` is its own path.
pub(in crate::config::compile) fn rewrite(
    strip: Option<Leaf<PathPrefix>>,
    add: Option<Leaf<PathPrefix>>,
    route: Option<&Leaf<PathPrefix>>,
    path: &ConfigPath,
    cx: &mut Context<'_>,
) -> Option<Rewrite> {
    if strip.is_none() && add.is_none() {
        return None;
    }
    let (strip, add) = (strip.map(|Leaf(prefix)| prefix), add.map(|Leaf(prefix)| prefix));
    for (key, prefix) in [("strip_prefix", &strip), ("add_prefix", &add)] {
        if prefix.as_ref().is_some_and(|prefix| prefix.as_str() == "/") {
            cx.error(&path.key(key), format!("`{key}: /` changes nothing"), "remove it");
        }
    }
    if let (Some(strip), Some(Leaf(route))) = (&strip, route)
        && !strip.covers(route.as_str().as_bytes())
    {
        let message = format!("`{strip}` is not in front of `{route}`: it could not be cut off");
        cx.error(&path.key("strip_prefix"), message, format!("write `strip_prefix: {route}`, or a part of it"));
    }
    let sent = |prefix: Option<&PathPrefix>| -> Arc<str> { prefix.map_or_else(String::new, encoded).into() };
    Some(Rewrite { outside: sent(strip.as_ref()), inside: sent(add.as_ref()), strip })
}

/// A prefix as it stands in a target, without a slash at its end.
fn encoded(prefix: &PathPrefix) -> String {
    let mut out = String::new();
    for byte in prefix.as_str().trim_end_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let written = write!(out, "%{byte:02X}");
            debug_assert!(written.is_ok());
        }
    }
    out
}

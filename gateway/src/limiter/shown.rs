//! What a key is called, for people who may see whom a limit counts (`show_keys`).
//!
//! Invariant: it names what [`super::key::feed`] counts. Cookies, and what a header or parameter holds whose name sounds like a secret, are never told.

use std::fmt::Write as _;

use probegate_policies::client::Identity;
use probegate_policies::fields::Fields;
use probegate_policies::ip::group;
use probegate_policies::limit::{cookies, is_plain, query_values};
use probegate_policies::printable::printable;
use probegate_policies::secrecy::is_secret;

use super::Asking;
use super::watch::Label;
use crate::plan::{Limit, LimitKey, LimitPart};

/// Characters of a value that are shown.
const SHOWN: usize = 64;

/// What stands for a value that nobody is to see.
const REDACTED: &str = "[redacted]";

/// What this limit calls whom it charges; `None`: it does not tell.
pub(super) fn label<F: Fields + ?Sized>(limit: &Limit, asking: &Asking<'_, F>) -> Label {
    limit.show_keys.then(|| called(limit, asking).into())
}

/// What people call whom a limit charges.
pub fn called<F: Fields + ?Sized>(limit: &Limit, asking: &Asking<'_, F>) -> String {
    let parts: Vec<String> = limit.key.parts.iter().map(|part| of(part, &limit.key, asking)).collect();
    parts.join(", ")
}

fn of<F: Fields + ?Sized>(part: &LimitPart, key: &LimitKey, asking: &Asking<'_, F>) -> String {
    let value = match part {
        LimitPart::ClientIp => return client(key, asking.identity),
        LimitPart::Header(name) => {
            let value = only(asking.fields.values(name).filter(|value| !value.is_empty()).map(<[u8]>::to_vec));
            value.map(|value| hidden(name.as_str().as_bytes(), &value))
        }
        LimitPart::Cookie(name) => {
            let lines = asking.fields.lines().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"));
            let values = cookies(lines.map(|(_, value)| value), name.as_bytes());
            only(values.filter(|value| !value.is_empty()).map(<[u8]>::to_vec))
                .filter(|value| is_plain(value))
                .map(|_| REDACTED.to_owned())
        }
        LimitPart::Query(name) => {
            let values = query_values(asking.query, name.as_bytes()).map(Iterator::collect::<Vec<u8>>);
            only(values.filter(|value| !value.is_empty())).map(|value| hidden(name.as_bytes(), &value))
        }
        LimitPart::Path => Some(clean(asking.path)),
        LimitPart::Method => Some(asking.known_method().map_or_else(|| "unknown".to_owned(), clean)),
        LimitPart::Host => Some(clean(asking.bare_host()).to_ascii_lowercase()).filter(|host| !host.is_empty()),
        LimitPart::Service => Some(asking.service.to_owned()),
        LimitPart::Route => Some(format!("{} {}", asking.service, asking.route)),
        LimitPart::Token => asking.token.map(|(set, slot)| format!("{set}.{slot}")),
        LimitPart::ClientCertificate => asking.certificate.map(|name| clean(name.as_bytes())),
    };
    match value {
        Some(value) => format!("{part} {value}"),
        // Counted under its client.
        None => format!("no {part}: {}", client(key, asking.identity)),
    }
}

/// A client, or the network around it that counts as one.
fn client(key: &LimitKey, identity: &Identity) -> String {
    match identity {
        Identity::Known(known) => {
            let network = group(known.ip, key.v4_prefix, key.v6_prefix);
            let (bits, all) = if network.is_ipv4() { (key.v4_prefix, 32) } else { (key.v6_prefix, 128) };
            let mut text = network.to_string();
            if bits < all {
                write!(text, "/{bits}").ok();
            }
            text
        }
        Identity::Unknown(unknown) => format!("unknown behind {}", unknown.peer),
    }
}

/// What is sent once: see the invariants of keys.
fn only(mut values: impl Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
    values.next().filter(|_| values.next().is_none())
}

fn hidden(name: &[u8], value: &[u8]) -> String {
    if is_secret(name) { REDACTED.to_owned() } else { clean(value) }
}

/// For a terminal: what people can see, and not too long.
fn clean(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.chars().map(printable).take(SHOWN).collect()
}

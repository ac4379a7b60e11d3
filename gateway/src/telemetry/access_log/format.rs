//! The two forms of a line.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use probegate_policies::client::{Identity, Source};
use probegate_policies::ip::push_ip;

use super::{Entry, Page};
use crate::telemetry::json::push_string;
use crate::telemetry::redact::push_target;
use crate::wire::head::Name;
use crate::wire::text::push_number;

/// One JSON object. Keys are always in the same order; a key without a value is left out.
pub(super) fn json(page: &mut Page, entry: &Entry<'_>, now: SystemTime) {
    let Page { text: out, shown, second } = page;
    let (second, rest) = second.tell(now, "%Y-%m-%dT%H:%M:%S.");
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(second);
    thousandths(out, rest.subsec_millis());
    out.extend_from_slice(b"Z\"");
    text(out, "request_id", entry.id);
    match entry.identity {
        Some(Identity::Known(known)) => {
            ip(out, "client", known.ip);
            put(out, format_args!(",\"client_source\":\"{}\"", known.source));
        }
        Some(Identity::Unknown(unknown)) => {
            put(out, format_args!(",\"client\":null,\"client_source\":\"unknown: {}\"", unknown.reason));
        }
        None => {}
    }
    ip(out, "peer", entry.facts.peer);
    text(out, "method", entry.method);
    out.extend_from_slice(b",\"target\":");
    push_string(out, hiding(shown, entry.target));
    text(out, "protocol", entry.protocol.as_bytes());
    text(out, "host", entry.host);
    number(out, "status", u64::from(entry.status));
    text(out, "origin", entry.origin.map_or("", super::Origin::label).as_bytes());
    text(out, "decision", entry.decision.label().as_bytes());
    text(out, "reason", entry.reason.map_or("", probegate_policies::reason::Reason::label).as_bytes());
    text(out, "service", entry.service.unwrap_or_default().as_bytes());
    if let Some((kind, name, line)) = entry.policy {
        out.extend_from_slice(b",\"policy\":");
        shown.clear();
        put(shown, format_args!("{kind}:{name}"));
        push_string(out, shown);
        if line > 0 {
            number(out, "policy_line", u64::from(line));
        }
    }
    if let Some(ban) = entry.would_ban {
        text(out, "would_ban", ban.as_bytes());
    }
    if let Some(delayed) = entry.delayed {
        millis(out, "delayed_ms", delayed);
    }
    if let Some((plan, shadows)) = entry.shadows {
        let names = shadows.iter().filter_map(|&limit| plan.limits.get(limit)).map(|limit| &*limit.name);
        text(out, "shadow", names.collect::<Vec<_>>().join(",").as_bytes());
    }
    if let Some((set, slot)) = entry.slot {
        out.extend_from_slice(b",\"token\":");
        shown.clear();
        put(shown, format_args!("{set}/{slot}"));
        push_string(out, shown);
    }
    if let Some(secured) = &entry.facts.secured {
        text(out, "tls_version", secured.version.as_bytes());
        text(out, "tls_cipher", secured.cipher.as_bytes());
        text(out, "server_name", secured.server_name.as_deref().unwrap_or_default().as_bytes());
        let subject = secured.certificate.as_ref().map(|certificate| &*certificate.subject);
        text(out, "client_certificate", subject.unwrap_or_default().as_bytes());
    }
    text(out, "probe_cache", entry.probe_cache.unwrap_or_default().as_bytes());
    text(out, "upstream", entry.upstream.unwrap_or_default().as_bytes());
    text(out, "upstream_slot", entry.upstream_slot.unwrap_or_default().as_bytes());
    if entry.upstream.is_some() && entry.tries != 1 {
        number(out, "upstream_tries", u64::from(entry.tries));
    }
    if let Some(status) = entry.upstream_status {
        number(out, "upstream_status", u64::from(status));
    }
    if let Some(first_byte) = entry.first_byte {
        millis(out, "upstream_ms", first_byte);
    }
    millis(out, "duration_ms", entry.duration);
    number(out, "received", entry.received);
    number(out, "sent", entry.sent);
    text(out, "user_agent", entry.fields.first(Name::UserAgent).unwrap_or_default());
    if let Some(referer) = entry.fields.first(Name::Referer) {
        text(out, "referer", hiding(shown, referer));
    }
    out.extend_from_slice(b"}\n");
}

/// nginx's `combined`: `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
pub(super) fn combined(page: &mut Page, entry: &Entry<'_>, now: SystemTime) {
    let Page { text: out, shown, second } = page;
    push_ip(out, address(entry));
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(second.tell(now, "%d/%b/%Y:%H:%M:%S +0000").0);
    out.extend_from_slice(b"] \"");
    escaped(out, entry.method);
    out.push(b' ');
    escaped(out, hiding(shown, entry.target));
    out.push(b' ');
    out.extend_from_slice(entry.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    push_number(out, entry.status.into());
    out.push(b' ');
    push_number(out, entry.sent);
    out.extend_from_slice(b" \"");
    escaped(out, entry.fields.first(Name::Referer).map_or(b"-", |referer| hiding(shown, referer)));
    out.extend_from_slice(b"\" \"");
    escaped(out, entry.fields.first(Name::UserAgent).unwrap_or(b"-"));
    out.extend_from_slice(b"\"\n");
}

/// The client, or the peer where nobody knows the client: the address that a ban tool may act on is never a guess of the sender.
fn address(entry: &Entry<'_>) -> IpAddr {
    match entry.identity {
        Some(Identity::Known(known)) => {
            debug_assert!(known.source != Source::Peer || known.ip == entry.facts.peer);
            known.ip
        }
        _ => entry.facts.peer,
    }
}

/// A target, or what a referer names, without its secrets. `room`: memory for it.
fn hiding<'a>(room: &'a mut Vec<u8>, target: &[u8]) -> &'a [u8] {
    room.clear();
    push_target(room, target);
    room
}

/// Escapes as nginx does: `"`, `\` and everything that is not printable ASCII as `\xHH`.
pub(super) fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    let odd = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f | 0x7f..);
    for part in text.split_inclusive(odd) {
        match part.split_last() {
            Some((byte, before)) if odd(byte) => {
                out.extend_from_slice(before);
                put(out, format_args!("\\x{byte:02X}"));
            }
            _ => out.extend_from_slice(part),
        }
    }
}

fn ip(out: &mut Vec<u8>, key: &str, ip: IpAddr) {
    name(out, key);
    out.push(b'"');
    push_ip(out, ip);
    out.push(b'"');
}

fn text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    if !value.is_empty() {
        name(out, key);
        push_string(out, value);
    }
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    push_number(out, value);
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, key: &str, duration: Duration) {
    name(out, key);
    push_number(out, u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    out.push(b'.');
    thousandths(out, duration.subsec_micros() % 1000);
}

/// Three digits.
fn thousandths(out: &mut Vec<u8>, number: u32) {
    let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or(0);
    out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]);
}

fn name(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    out.write_fmt(arguments).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_end_a_field_or_a_line_is_escaped_as_nginx_does() {
        for (text, expected) in [
            (&b""[..], ""),
            (b"GET", "GET"),
            (b"\"", r"\x22"),
            (b"a\"\\b\n", r"a\x22\x5Cb\x0A"),
            (b"\x7f\xff~ ", r"\x7F\xFF~ "),
        ] {
            let mut out = Vec::new();
            escaped(&mut out, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn durations_are_milliseconds_with_three_decimals() {
        for (micros, expected) in [(0, "0.000"), (7, "0.007"), (1_050, "1.050"), (61_000_999, "61000.999")] {
            let mut out = Vec::new();
            millis(&mut out, "ms", Duration::from_micros(micros));
            assert_eq!(String::from_utf8(out).unwrap(), format!(",\"ms\":{expected}"));
        }
    }
}

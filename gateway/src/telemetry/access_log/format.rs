//! The two forms of a line.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use probegate_policies::client::{Identity, Source};

use super::Entry;
use crate::telemetry::json::push_string;
use crate::telemetry::redact::push_target;
use crate::wire::head::Name;
use crate::wire::text::push_number;

/// One JSON object. Keys are always in the same order; a key without a value is left out.
pub(super) fn json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let time: DateTime<Utc> = SystemTime::now().into();
    put(out, format_args!("{{\"time\":\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.3fZ")));
    text(out, "request_id", entry.id);
    match entry.identity {
        Some(Identity::Known(known)) => {
            put(out, format_args!(",\"client\":\"{}\",\"client_source\":\"{}\"", known.ip, known.source));
        }
        Some(Identity::Unknown(unknown)) => {
            put(out, format_args!(",\"client\":null,\"client_source\":\"unknown: {}\"", unknown.reason));
        }
        None => {}
    }
    put(out, format_args!(",\"peer\":\"{}\"", entry.facts.peer));
    text(out, "method", entry.method);
    out.extend_from_slice(b",\"target\":");
    // Rarely more than a few hundred bytes; the log is not on the measured path when it is off.
    let mut target = Vec::with_capacity(entry.target.len());
    push_target(&mut target, entry.target);
    push_string(out, &target);
    text(out, "protocol", entry.protocol.as_bytes());
    text(out, "host", entry.host);
    number(out, "status", u64::from(entry.status));
    text(out, "origin", entry.origin.map_or("", super::Origin::label).as_bytes());
    text(out, "decision", entry.decision.label().as_bytes());
    text(out, "reason", entry.reason.map_or("", probegate_policies::reason::Reason::label).as_bytes());
    text(out, "service", entry.service.unwrap_or_default().as_bytes());
    if let Some((kind, name, line)) = entry.policy {
        out.extend_from_slice(b",\"policy\":");
        push_string(out, format!("{kind}:{name}").as_bytes());
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
        push_string(out, format!("{set}/{slot}").as_bytes());
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
        target.clear();
        push_target(&mut target, referer);
        text(out, "referer", &target);
    }
    out.extend_from_slice(b"}\n");
}

/// nginx's `combined`: `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
pub(super) fn combined(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let time: DateTime<Utc> = SystemTime::now().into();
    put(out, format_args!("{} - - [{}] \"", address(entry), time.format("%d/%b/%Y:%H:%M:%S +0000")));
    escaped(out, entry.method);
    out.push(b' ');
    let mut target = Vec::with_capacity(entry.target.len());
    push_target(&mut target, entry.target);
    escaped(out, &target);
    put(out, format_args!(" {}\" {} {} \"", entry.protocol, entry.status, entry.sent));
    target.clear();
    push_target(&mut target, entry.fields.first(Name::Referer).unwrap_or(b"-"));
    escaped(out, &target);
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

/// Escapes as nginx does: `"`, `\` and everything that is not printable ASCII as `\xHH`.
pub(super) fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => put(out, format_args!("\\x{byte:02X}")),
            _ => out.push(byte),
        }
    }
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
    let micros = duration.as_micros();
    put(out, format_args!("{}.{:03}", micros / 1000, micros % 1000));
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

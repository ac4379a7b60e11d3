//! Refusals in the words of nginx's error log, for tools that read it: fail2ban's stock filters, and whatever else a team has.

use std::io::Write;
use std::time::SystemTime;

use probegate_policies::client::Identity;
use probegate_policies::reason::Reason;

use super::format::escaped;
use super::{Decision, Entry, Page};
use crate::telemetry::redact::push_target;

/// The line about a request; nothing where nginx would write none, and where nobody knows the client: no tool is to act on somebody else.
///
/// `excess`: how far it was beyond its limit, in thousandths of a request.
pub(super) fn line(page: &mut Page, entry: &Entry<'_>, now: SystemTime, worker: usize, excess: u64) -> bool {
    let Some(Identity::Known(client)) = entry.identity else { return false };
    let Page { text: out, shown, second } = page;
    // nginx numbers connections; the request id leads to the access log.
    let number = entry.id.first_chunk::<8>().and_then(|digits| std::str::from_utf8(digits).ok());
    let number = number.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    let mut begin = |out: &mut Vec<u8>| {
        let pid = std::process::id();
        out.extend_from_slice(second.tell(now, "%Y/%m/%d %H:%M:%S").0);
        put(out, format_args!(" [error] {pid}#{worker}: *{number} "));
    };
    match (entry.decision, entry.policy) {
        // All clients together have used it up: this one is not to be banned for it.
        (Decision::Limit, _) if entry.reason == Some(Reason::CapacityExceeded) => return false,
        // As nginx's `limit_conn` has it, which counts the same.
        (Decision::Limit, Some((_, zone, _))) if entry.reason == Some(Reason::InFlightExceeded) => {
            begin(out);
            put(out, format_args!("limiting connections by zone \"{zone}\""));
        }
        (Decision::Limit, Some((_, zone, _))) => {
            begin(out);
            put(
                out,
                format_args!("limiting requests, excess: {}.{:03} by zone \"{zone}\"", excess / 1000, excess % 1000),
            );
        }
        (Decision::Deny, Some(("ban", policy, _))) => {
            begin(out);
            put(out, format_args!("banned by \"{policy}\""));
        }
        (Decision::Deny, _) => {
            begin(out);
            out.extend_from_slice(b"access forbidden by rule");
        }
        _ => return false,
    }
    put(out, format_args!(", client: {}, server: {}, request: \"", client.ip, entry.service.unwrap_or("_")));
    escaped(out, entry.method);
    out.push(b' ');
    shown.clear();
    push_target(shown, entry.target);
    escaped(out, shown);
    put(out, format_args!(" {}\", host: \"", entry.protocol));
    escaped(out, entry.host);
    out.extend_from_slice(b"\"\n");
    true
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(arguments);
    debug_assert!(written.is_ok(), "memory takes everything");
}

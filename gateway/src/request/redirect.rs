//! Redirects: `308 Permanent Redirect` to HTTPS (RFC 9110 §15.4.9: the method and the body stay what they are), and those of the configuration.
//!
//! Invariant: the place is on the host that the request was for, which a service has, or on one that the configuration names; nothing in the target
//! can make it another one.

use std::io::Write as _;

use super::target::Target;
use super::values::Values;
use crate::plan::Redirect;
use crate::wire::{Answer, RequestBody, Responder};

/// The redirect's status.
pub const STATUS: u16 = 308;

/// Sends the client to HTTPS on `port`. `text` is memory for the place.
pub async fn answer<B: RequestBody, R: Responder>(
    port: u16,
    asked: &Target<'_>,
    text: &mut Vec<u8>,
    body: &mut B,
    reply: &mut R,
) {
    if !body.discard() {
        reply.close();
    }
    place(port, asked, text);
    // Not for ever in the memory of browsers, from where nobody could take it back: that is what HSTS is for.
    let fields: [(&str, &[u8]); 2] = [("Location", text), ("Cache-Control", b"no-store")];
    // A client that is gone has no use for the answer; the log line is written either way.
    reply.answer(&Answer { status: STATUS, fields: &fields, body: b"" }).await.ok();
}

/// Where the same request goes over HTTPS.
pub fn place(port: u16, asked: &Target<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"https://");
    out.extend_from_slice(asked.host);
    if port != 443 {
        out.push(b':');
        crate::wire::text::push_number(out, u64::from(port));
    }
    // `OPTIONS *` is about a place without a path (RFC 9112 §3.2.4).
    if asked.path != b"*" {
        out.extend_from_slice(asked.path);
    }
    out.extend_from_slice(asked.query);
}

/// Where a configured redirect leads. `out` is emptied before.
pub fn elsewhere(redirect: &Redirect, values: &Values<'_>, out: &mut Vec<u8>) {
    out.clear();
    values.write(&redirect.to, out);
    let query = values.asked.query.strip_prefix(b"?").unwrap_or_default();
    if redirect.keep_query && !query.is_empty() {
        out.push(if out.contains(&b'?') { b'&' } else { b'?' });
        out.extend_from_slice(query);
    }
    if redirect.relative {
        // `//evil.example`, and what browsers take for it, would be another host.
        let slashes = out.iter().take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        out.drain(1..slashes.max(1));
    }
    // What no URL holds, some browsers read as something else.
    if out.iter().any(|&byte| is_strange(byte)) {
        let mut encoded = Vec::with_capacity(out.len() + 16);
        for &byte in out.iter() {
            if is_strange(byte) {
                let written = write!(encoded, "%{byte:02X}");
                debug_assert!(written.is_ok());
            } else {
                encoded.push(byte);
            }
        }
        *out = encoded;
    }
}

fn is_strange(byte: u8) -> bool {
    !matches!(byte, b'!'..=b'~') || matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_same_one_over_https() {
        let of = |port, host: &str, path: &str, query: &str| {
            let mut out = Vec::new();
            let [host, path, query] = [host, path, query].map(str::as_bytes);
            place(port, &Target { path, query, authority: host, host, port: Some(8080) }, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(443, "a.example", "/b%20c", "?d=%0d%0a"), "https://a.example/b%20c?d=%0d%0a");
        assert_eq!(of(8443, "[::1]", "/", ""), "https://[::1]:8443/");
        assert_eq!(of(443, "a.example", "//evil.example/", ""), "https://a.example//evil.example/");
        assert_eq!(of(443, "a.example", "*", ""), "https://a.example");
    }
}

//! What a service has its answers carry: `Strict-Transport-Security` and `Server`, on the app's answers as on the gateway's own.

use crate::plan::{ServerHeader, Service};
use crate::wire::{Responder, Stamp};

/// Stamps the answer to a request for `service` at the time `unix`. `secure` tells whether the client made it over HTTPS, and is asked only
/// where that matters. `text` is memory for lines.
pub fn put<R: Responder>(
    service: &Service,
    secure: impl FnOnce() -> bool,
    unix: u64,
    text: &mut Vec<u8>,
    reply: &mut R,
) {
    text.clear();
    if let Some(hsts) = &service.hsts
        && secure()
    {
        // RFC 6797 §7.2: never over plain HTTP, where anybody could have put it.
        text.extend_from_slice(b"Strict-Transport-Security: ");
        hsts.write(unix, text);
        text.extend_from_slice(b"\r\n");
    }
    if let ServerHeader::Text(server) = &service.server_header {
        for part in [&b"Server: "[..], server.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    reply.stamp(&Stamp {
        server: service.server_header == ServerHeader::Pass,
        // Where the gateway makes no promise, the app's own is the app's business.
        transport_security: service.hsts.is_none(),
        lines: text,
    });
}

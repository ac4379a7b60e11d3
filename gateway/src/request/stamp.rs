//! What a service has its answers carry, the app's as the gateway's own: `Strict-Transport-Security`, `Server`, and what its configuration
//! changes.

use std::sync::Arc;

use probegate_policies::forwarded::Scheme;

use super::values::Values;
use super::{cors, hidden, quota};
use crate::plan::ServerHeader;
use crate::wire::edits::{Edits, Prefixes};
use crate::wire::{Responder, Stamp};

/// Stamps the answer to a request at the time `unix`, with `own` lines besides. `text` is memory for lines.
pub fn put<R: Responder>(values: &Values<'_>, unix: u64, own: &[u8], text: &mut Vec<u8>, reply: &mut R) {
    let service = values.service;
    text.clear();
    text.extend_from_slice(own);
    if let Some(hsts) = &service.hsts
        && values.scheme() == Scheme::Https
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
    if hidden::may_tell_limit(values) {
        quota::lines(values.plan, values.judgement, text);
    }
    let edits = service.handling(values.judgement.seen.route()).edits.as_deref();
    let edits = edits.map(|edits| {
        values.lines(&edits.answer.fields, text);
        if let Some(cors) = &edits.cors {
            cors::lines(cors, values, text);
        }
        let prefixes = edits
            .rewrite
            .as_ref()
            .map(|rewrite| Prefixes { outside: Arc::clone(&rewrite.outside), inside: Arc::clone(&rewrite.inside) });
        Edits { drops: Arc::clone(&edits.answer.drops), defaults: Arc::clone(&edits.answer.defaults), prefixes }
    });
    let stamp = Stamp {
        server: service.server_header == ServerHeader::Pass,
        // Where the gateway makes no promise, the app's own is the app's business.
        transport_security: service.hsts.is_none(),
        // Where it is the gateway's word, it is nobody else's.
        gateway_error: !values.plan.error_header,
        lines: text,
    };
    reply.stamp(&stamp, edits);
}

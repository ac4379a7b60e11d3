//! Who may read an answer from another origin (the Fetch standard's CORS protocol), said by the gateway in the app's place.

use super::values::Values;
use crate::plan::Cors;
use crate::wire::text::push_number;

/// Writes the fields that an answer to this request carries, besides those for a preflight.
pub fn lines(cors: &Cors, values: &Values<'_>, out: &mut Vec<u8>) {
    if !cors.is_open() {
        // Also where no origin is named, or another one: caches must not give the answer to the next one.
        out.extend_from_slice(b"Vary: Origin\r\n");
    }
    let Some(origin) = origin(values).filter(|origin| cors.origins.hold(origin)) else { return };
    let told = if cors.is_open() { b"*" } else { origin };
    for part in [&b"Access-Control-Allow-Origin: "[..], told, b"\r\n"] {
        out.extend_from_slice(part);
    }
    if cors.credentials {
        out.extend_from_slice(b"Access-Control-Allow-Credentials: true\r\n");
    }
    if !cors.expose.is_empty() && !is_preflight(values) {
        for part in ["Access-Control-Expose-Headers: ", &cors.expose, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if is_preflight(values) {
        for part in ["Access-Control-Allow-Methods: ", &cors.methods, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if !cors.headers.is_empty() {
            for part in ["Access-Control-Allow-Headers: ", &cors.headers, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"Access-Control-Max-Age: ");
        push_number(out, cors.max_age);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a browser asks what it may ask.
pub fn is_preflight(values: &Values<'_>) -> bool {
    values.received.head.method.of(values.received.bytes) == b"OPTIONS"
        && origin(values).is_some()
        && one(values, "access-control-request-method").is_some()
}

/// The value of `Origin`, sent once.
fn origin<'a>(values: &Values<'a>) -> Option<&'a [u8]> {
    one(values, "origin")
}

fn one<'a>(values: &Values<'a>, name: &str) -> Option<&'a [u8]> {
    let fields = values.received.fields();
    let mut named =
        fields.fields.iter().filter(|field| field.name.of(fields.bytes).eq_ignore_ascii_case(name.as_bytes()));
    match (named.next(), named.next()) {
        (Some(field), None) => Some(field.value.of(fields.bytes)),
        _ => None,
    }
}

//! The request head as the app gets to see it. Lines that may pass are copied as they lie; what describes this hop or claims to know
//! the client is left out and written anew.

use probegate_policies::fields::FieldName;
use probegate_policies::forwarded::{self, Towards};

use super::values::Values;
use crate::plan::{AppToken, Edits};
use crate::wire::Framing;
use crate::wire::h1::fields::copy_fields;
use crate::wire::head::{Name, RequestHead};
use crate::wire::text::push_number;

/// A request head towards an upstream.
#[derive(Debug)]
pub struct UpstreamHead<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The path, percent-encoded.
    pub path: &'a [u8],
    /// The query with its `?`, or nothing.
    pub query: &'a [u8],
    /// `Host`; where empty (HTTP/1.0 without one), none is sent.
    pub host: &'a [u8],
    /// How the body ends.
    pub framing: Framing,
    /// The protocol the client asks to switch to, if it may.
    pub upgrade: Option<&'a [u8]>,
    /// The client waits for `100 Continue`.
    pub expects: bool,
    /// The client takes trailers, and the app may be told.
    pub trailers: bool,
    /// What the app is told about the client.
    pub towards: Towards<'a>,
    /// A token the app wants to see.
    pub token: Option<&'a AppToken>,
    /// Fields with the gateway's own tokens: the app has no business with them.
    pub private: &'a [FieldName],
    /// What the configuration changes, and the request that its variables ask about.
    pub edits: Option<(&'a Edits, Values<'a>)>,
    /// The path is not the one that was asked for.
    pub rewritten: bool,
}

impl UpstreamHead<'_> {
    /// Writes the head. `head` and `bytes` are the client's.
    pub fn write(&self, out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8]) {
        out.clear();
        for part in [self.method, b" ", self.path, self.query, b" HTTP/1.1\r\n"] {
            out.extend_from_slice(part);
        }
        if self.host.is_empty() {
            // HTTP/1.1 demands the field, if only an empty one (RFC 9112 §3.2).
            out.extend_from_slice(b"Host:\r\n");
        } else {
            push(out, b"Host", self.host);
        }
        copy_fields(out, &head.fields, bytes, |field| match field.known {
            Name::Accel
            | Name::Host
            | Name::ContentLength
            | Name::Forwarding
            | Name::Underscore
            | Name::Upgrade
            | Name::Expect => false,
            _ => !self.is_private(field.name.of(bytes)),
        });
        match self.framing {
            Framing::None if matches!(self.method, b"POST" | b"PUT" | b"PATCH") => {
                out.extend_from_slice(b"Content-Length: 0\r\n");
            }
            Framing::None => {}
            Framing::Length(length) => {
                out.extend_from_slice(b"Content-Length: ");
                push_number(out, length);
                out.extend_from_slice(b"\r\n");
            }
            Framing::Chunked | Framing::UntilClose => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
        if self.expects {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        if self.trailers {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        if let Some(protocol) = self.upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            push(out, b"Upgrade", protocol);
        }
        forwarded::write(out, &self.towards);
        if let Some((edits, values)) = &self.edits {
            if let Some(rewrite) =
                edits.rewrite.as_ref().filter(|rewrite| self.rewritten && !rewrite.outside.is_empty())
            {
                push(out, b"X-Forwarded-Prefix", rewrite.outside.as_bytes());
            }
            values.lines(&edits.request.fields, out);
        }
        if let Some(token) = self.token {
            push(out, token.field.as_bytes(), secrecy::ExposeSecret::expose_secret(&token.secret));
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Tokens of the gateway, whatever a client sends under the name that the app's token has, and what the configuration drops or replaces.
    fn is_private(&self, name: &[u8]) -> bool {
        self.private.iter().any(|private| private.matches(name))
            || self.token.is_some_and(|token| token.field.as_bytes().eq_ignore_ascii_case(name))
            || self.edits.is_some_and(|(edits, _)| edits.request.drops.iter().any(|dropped| dropped.matches(name)))
    }
}

fn push(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

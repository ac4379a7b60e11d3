//! What the variables of a template stand for in one request.
//!
//! Invariant: no value can end a field line. Hosts, methods, paths and queries have been read strictly; what a certificate says is escaped.

use std::io::Write as _;
use std::net::IpAddr;

use probegate_policies::forwarded::{Scheme, UNKNOWN_CLIENT};

use super::Received;
use super::judge::{Judgement, Part};
use super::target::Target;
use crate::connection::Facts;
use crate::plan::{FieldEdit, Plan, Segment, Service, Template, Variable};
use crate::wire::text::push_number;

/// A request, for whoever asks about it.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The plan it began with.
    pub plan: &'a Plan,
    /// The request.
    pub received: &'a Received<'a>,
    /// What it asks for.
    pub asked: &'a Target<'a>,
    /// What was found out about it.
    pub judgement: &'a Judgement<'a>,
    /// Its id.
    pub id: &'a [u8; 32],
    /// The service it is for.
    pub service: &'a Service,
}

impl<'a> Values<'a> {
    /// The scheme that the client used.
    pub fn scheme(&self) -> Scheme {
        super::client_scheme(self.plan, self.received.facts, &self.received.fields())
    }

    /// The port the client used.
    fn port(&self) -> u16 {
        let facts = self.received.facts;
        port(self.asked, facts, || self.plan.client.trusts(facts.peer).then(|| self.scheme()))
    }

    /// The path as it was received, without dot segments. `OPTIONS *` has none, which is read as the root.
    pub fn path(&self) -> &'a [u8] {
        let path = self.judgement.path.as_ref().and_then(|path| path.rewritten).unwrap_or(self.asked.path);
        if path.first() == Some(&b'/') { path } else { b"/" }
    }

    /// Writes a template.
    pub fn write(&self, template: &Template, out: &mut Vec<u8>) {
        for segment in template.segments() {
            match segment {
                Segment::Text(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Variable(variable) => self.variable(*variable, out),
            }
        }
    }

    /// Writes the field lines that changes bring. One without a value is no line.
    pub fn lines(&self, edits: &[FieldEdit], out: &mut Vec<u8>) {
        for edit in edits {
            let Some(value) = edit.value() else { continue };
            let start = out.len();
            out.extend_from_slice(edit.text.as_bytes());
            out.extend_from_slice(b": ");
            let begins = out.len();
            self.write(value, out);
            if out.len() == begins {
                out.truncate(start);
            } else {
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn variable(&self, variable: Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::ClientIp => {
                let ip = self.judgement.identity.known().unwrap_or(IpAddr::V4(UNKNOWN_CLIENT));
                let written = write!(out, "{ip}");
                debug_assert!(written.is_ok());
            }
            Variable::ClientCertificate => {
                let secured = self.received.facts.secured.as_ref();
                let subject = secured.and_then(|secured| secured.certificate.as_ref());
                escape(subject.map_or(b"", |certificate| certificate.subject.as_bytes()), out);
            }
            Variable::Host => out.extend_from_slice(self.asked.host),
            Variable::Method => out.extend_from_slice(self.received.head.method.of(self.received.bytes)),
            Variable::Path => out.extend_from_slice(self.path()),
            Variable::Port => push_number(out, self.port().into()),
            Variable::Query => out.extend_from_slice(self.asked.query.strip_prefix(b"?").unwrap_or_default()),
            Variable::RequestId => out.extend_from_slice(self.id),
            Variable::Rest => rest(self.route().unwrap_or_default(), self.path(), out),
            Variable::Route => escape(self.route().unwrap_or_default(), out),
            Variable::Scheme => out.extend_from_slice(self.scheme().as_str().as_bytes()),
            Variable::Service => out.extend_from_slice(self.service.name.as_bytes()),
        }
    }

    /// The path of the route that the request meets, as far as the client sees that.
    fn route(&self) -> Option<&'a [u8]> {
        let Part::Route(index) = self.judgement.seen else { return None };
        self.service.routes.get(index).map(|route| route.path.as_str().as_bytes())
    }
}

/// The port the client used: as `Host` says, or by the scheme that a trusted proxy tells, where one stands in between, or the one of this listener.
pub(super) fn port(asked: &Target<'_>, facts: &Facts, told: impl FnOnce() -> Option<Scheme>) -> u16 {
    asked.port.unwrap_or_else(|| match told() {
        Some(Scheme::Https) => 443,
        Some(Scheme::Http) => 80,
        None => facts.local_port,
    })
}

/// The part of a path that lies behind `prefix`, which is decoded and covers it; with `/` in front. The path is percent-encoded.
pub fn rest(prefix: &[u8], path: &[u8], out: &mut Vec<u8>) {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let mut behind = path;
    for _ in prefix {
        // One byte of the decoded prefix is one byte of the path, or one escape of three.
        let step = if behind.first() == Some(&b'%') { 3 } else { 1 };
        behind = behind.get(step..).unwrap_or_default();
    }
    out.push(b'/');
    let slash = behind.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"%2f"));
    out.extend_from_slice(behind.get(if slash { 3 } else { 1 }..).unwrap_or_default());
}

/// Writes what is not printable ASCII, and `%`, as `%HH`: two names stay two.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(byte);
        } else {
            let written = write!(out, "%{byte:02X}");
            debug_assert!(written.is_ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_prefix() {
        for (prefix, path, expected) in [
            ("/api", "/api/x", "/x"),
            ("/api", "/api", "/"),
            ("/api", "/api/", "/"),
            ("/api", "/%61pi/x%2Fy", "/x%2Fy"),
            ("/api", "/api%2fx", "/x"),
            ("/a b", "/a%20b/c", "/c"),
            ("/api", "/api//evil.example", "//evil.example"),
            ("", "/x", "/x"),
            ("/", "/x", "/x"),
        ] {
            let mut out = Vec::new();
            rest(prefix.as_bytes(), path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn names_in_certificates_end_no_line() {
        let mut out = Vec::new();
        escape("CN=ü, O=a\r\nX-Admin: 1%00\0".as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "CN=%C3%BC, O=a%0D%0AX-Admin: 1%2500%00");
    }
}

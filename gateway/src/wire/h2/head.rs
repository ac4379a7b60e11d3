//! The head of an HTTP/2 request, written down as one of HTTP/1 and indexed like one, so that everything behind the seam reads both alike.
//!
//! What HTTP/2 can carry and HTTP/1 can not must end here, or a request would become two on its way to an app (RFC 9113 §10.3): values with
//! line breaks, NUL or blanks around them, targets with white space, more than one host. `h2` has already refused (by resetting the stream)
//! what RFC 9113 §8 calls malformed: fields that belong to a connection, upper-case names, pseudo fields missing, repeated or out of place.

use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method};
use probegate_policies::reason::Reason;

use crate::wire::Framing;
use crate::wire::h1::framing::length;
use crate::wire::h1::lines;
use crate::wire::h1::request::{HeadBounds, is_method_byte};
use crate::wire::head::{Field, Name, RequestHead, Version};

/// What an extended CONNECT (RFC 8441 §4) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The key that the app gets to see (RFC 6455 §4.1). HTTP/2 needs none; HTTP/1 does.
    pub key: [u8; 24],
}

/// Writes the head of a request into `out` and indexes it in `head`. `key`: what becomes the key of a WebSocket.
///
/// `te: trailers` stays among the fields, where those who speak HTTP/2 to an app find it; towards HTTP/1 it is left out like every field of
/// that kind ([`Name::HopByHop`]).
///
/// # Errors
/// The reason to refuse the request. What could be written of it is in `out` and `head`, for the log.
pub fn write(
    parts: &Parts,
    key: impl FnOnce() -> [u8; 24],
    bounds: &HeadBounds,
    out: &mut Vec<u8>,
    head: &mut RequestHead,
) -> Result<Option<Tunnel>, Reason> {
    out.clear();
    head.fields.clear();
    head.version = Version::Http2;
    let protocol = parts.extensions.get::<Protocol>();
    let method = match protocol {
        // RFC 8441 §5: what would be a GET with `Upgrade` in HTTP/1.
        Some(_) => "GET",
        None => parts.method.as_str(),
    };
    let mut writer = Writer { bounds, out, head };
    let written = writer.line(method, parts);
    let written = written.and_then(|()| writer.fields(parts, protocol, key));
    writer.out.extend_from_slice(b"\r\n");
    head.len = out.len();
    written
}

/// How the body of a request ends. `ended`: the head was the end of the stream.
///
/// # Errors
/// More than one length, or one that is not a plain number or that the end of the stream contradicts.
pub fn framing(headers: &HeaderMap, ended: bool) -> Result<Framing, Reason> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next(), ended) {
        (None, _, true) => Ok(Framing::None),
        (None, _, false) => Ok(Framing::Chunked),
        (Some(value), None, ended) => match length(value.as_bytes()) {
            Some(0) if ended => Ok(Framing::None),
            // A length of 0 with more to come is read to its end, too: `h2` refuses data behind it.
            Some(length) if !ended => Ok(Framing::Length(length)),
            _ => Err(Reason::FramingInvalid),
        },
        (Some(_), Some(_), _) => Err(Reason::FramingInvalid),
    }
}

struct Writer<'a> {
    bounds: &'a HeadBounds,
    out: &'a mut Vec<u8>,
    head: &'a mut RequestHead,
}

impl Writer<'_> {
    /// The request line.
    fn line(&mut self, method: &str, parts: &Parts) -> Result<(), Reason> {
        let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
        // CONNECT (without a protocol) has an authority and no path. It is refused later, like in HTTP/1.
        let target = match (&parts.method, target) {
            (&Method::CONNECT, "") => parts.uri.authority().map_or("", http::uri::Authority::as_str),
            (_, target) => target,
        };
        self.head.method = lines::span(0, method.len().min(32))?;
        self.head.target = lines::span(0, 0)?;
        if method.len() > 32 || !method.bytes().all(is_method_byte) {
            return Err(Reason::RequestLineInvalid);
        }
        if target.len() > self.bounds.target {
            self.out.extend_from_slice(method.as_bytes());
            return Err(Reason::TargetTooLong);
        }
        for part in [method, " ", target, " HTTP/2.0\r\n"] {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.head.target = lines::span(method.len() + 1, method.len() + 1 + target.len())?;
        let visible = target.bytes().all(|byte| matches!(byte, 0x21..=0x22 | 0x24..=0x7e));
        let formed =
            target.starts_with('/') || (target == "*" && method == "OPTIONS") || parts.method == Method::CONNECT;
        let scheme = parts.uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
        if visible && formed && scheme { Ok(()) } else { Err(Reason::RequestLineInvalid) }
    }

    fn fields(
        &mut self,
        parts: &Parts,
        protocol: Option<&Protocol>,
        key: impl FnOnce() -> [u8; 24],
    ) -> Result<Option<Tunnel>, Reason> {
        let headers = &parts.headers;
        if let Some(authority) = parts.uri.authority() {
            // RFC 9113 §8.3.1: a Host that says something else makes the request malformed; one that says the same is dropped.
            if headers
                .get_all(HOST)
                .iter()
                .any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
            {
                return Err(Reason::HostInvalid);
            }
            self.field("host", Name::Host, &[authority.as_str().as_bytes()])?;
        }
        let mut cookies = false;
        for (name, value) in headers {
            let known = match name {
                &COOKIE if std::mem::replace(&mut cookies, true) => continue,
                &COOKIE => {
                    self.cookies(headers)?;
                    continue;
                }
                name => Name::of(name.as_str().as_bytes()),
            };
            match known {
                Name::Host if parts.uri.authority().is_some() => continue,
                // Of these, `h2` lets none pass. If it ever did, none may reach HTTP/1.
                Name::Connection | Name::TransferEncoding | Name::Upgrade => return Err(Reason::FieldInvalid),
                Name::Other if protocol.is_some() && name.as_str() == "sec-websocket-key" => continue,
                _ => {}
            }
            self.field(name.as_str(), known, &[value.as_bytes()])?;
        }
        let Some(protocol) = protocol else { return Ok(None) };
        let tunnel = Tunnel { key: key() };
        self.field("upgrade", Name::Upgrade, &[protocol.as_str().as_bytes()])?;
        self.field("sec-websocket-key", Name::Other, &[&tunnel.key])?;
        Ok(Some(tunnel))
    }

    /// All cookies as one field: HTTP/2 may take them apart, HTTP/1 may not (RFC 9113 §8.2.3).
    fn cookies(&mut self, headers: &HeaderMap) -> Result<(), Reason> {
        let mut all = headers.get_all(COOKIE).iter();
        match (all.next(), all.next()) {
            (Some(only), None) => self.field("cookie", Name::Other, &[only.as_bytes()]),
            _ => {
                // Rare: clients take a cookie apart when parts of it change.
                let mut values = Vec::new();
                for value in headers.get_all(COOKIE) {
                    if !values.is_empty() {
                        values.push(&b"; "[..]);
                    }
                    if !is_value(value.as_bytes()) {
                        return Err(Reason::FieldInvalid);
                    }
                    values.push(value.as_bytes());
                }
                self.field("cookie", Name::Other, &values)
            }
        }
    }

    /// One field line. `name` is a token in lower case.
    fn field(&mut self, name: &str, known: Name, values: &[&[u8]]) -> Result<(), Reason> {
        if self.head.fields.len() == self.bounds.fields {
            return Err(Reason::TooManyFields);
        }
        let start = self.out.len();
        let size: usize = values.iter().map(|value| value.len()).sum();
        // The empty line at the end belongs to the head.
        if start + name.len() + size + 6 > self.bounds.head {
            return Err(Reason::HeadTooLarge);
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        let from = self.out.len();
        for value in values {
            self.out.extend_from_slice(value);
        }
        let end = self.out.len();
        if !is_value(self.out.get(from..end).unwrap_or_default()) {
            self.out.truncate(start);
            return Err(Reason::FieldInvalid);
        }
        self.out.extend_from_slice(b"\r\n");
        self.head.fields.push(Field {
            name: lines::span(start, start + name.len())?,
            value: lines::span(from, end)?,
            line_end: lines::span(end, end + 2)?.end,
            known,
        });
        Ok(())
    }
}

/// RFC 9113 §8.2.1: no control bytes, and no blanks at either end.
fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    lines::is_field_value(value) && !blank(value.first()) && !blank(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::request::RequestParser;
    use crate::wire::head::FieldView;
    use http::{HeaderName, HeaderValue, Request};

    const BOUNDS: HeadBounds = HeadBounds { head: 512, fields: 8, target: 64 };

    fn request(method: &str, uri: &str, fields: &[(&str, &[u8])]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        request.into_parts().0
    }

    fn written(parts: &Parts) -> Result<String, Reason> {
        let (mut out, mut head) = (Vec::new(), RequestHead::default());
        write(parts, || *b"AAAAAAAAAAAAAAAAAAAAAA==", &BOUNDS, &mut out, &mut head)?;
        // What was indexed is what HTTP/1's own parser finds, but for the version.
        let text = String::from_utf8(out.clone()).unwrap().replacen(" HTTP/2.0", " HTTP/1.1", 1);
        let mut parsed = RequestHead::default();
        assert_eq!(RequestParser::default().advance(text.as_bytes(), &BOUNDS, &mut parsed), Ok(true));
        assert_eq!((head.len, head.method, head.target), (parsed.len, parsed.method, parsed.target));
        assert_eq!(format!("{:?}", head.fields), format!("{:?}", parsed.fields));
        let view = FieldView { bytes: &out, fields: &head.fields };
        assert!(view.of(Name::Host).count() <= 1);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_request_is_written_down_as_http_1() {
        let parts = request("POST", "https://a.example/x?y", &[("accept", b"*/*"), ("x-two", b"1"), ("x-two", b"2")]);
        let text = "POST /x?y HTTP/2.0\r\nhost: a.example\r\naccept: */*\r\nx-two: 1\r\nx-two: 2\r\n\r\n";
        assert_eq!(written(&parts).unwrap(), text);
        let parts = request("GET", "/", &[("host", b"b.example")]);
        assert_eq!(written(&parts).unwrap(), "GET / HTTP/2.0\r\nhost: b.example\r\n\r\n");
    }

    #[test]
    fn rfc_9113_8_2_3_cookies_are_joined_where_the_first_one_stood() {
        let fields: [(&str, &[u8]); 4] = [("cookie", b"a=b"), ("accept", b"x"), ("cookie", b"c=d"), ("cookie", b"e=f")];
        let text = written(&request("GET", "https://h/", &fields)).unwrap();
        assert_eq!(text, "GET / HTTP/2.0\r\nhost: h\r\ncookie: a=b; c=d; e=f\r\naccept: x\r\n\r\n");
        assert_eq!(
            written(&request("GET", "https://h/", &[("cookie", b"a"), ("cookie", b" b")])),
            Err(Reason::FieldInvalid)
        );
    }

    #[test]
    fn rfc_9113_8_3_1_host_and_authority_may_not_differ() {
        assert_eq!(written(&request("GET", "https://a/", &[("host", b"b")])), Err(Reason::HostInvalid));
        assert_eq!(written(&request("GET", "https://a/", &[("host", b"a"), ("host", b"b")])), Err(Reason::HostInvalid));
        let text = written(&request("GET", "https://a/", &[("host", b"A")])).unwrap();
        assert_eq!(text, "GET / HTTP/2.0\r\nhost: a\r\n\r\n");
    }

    #[test]
    fn rfc_9113_10_3_what_http_1_would_read_otherwise_is_refused() {
        for value in [&b" lead"[..], b"trail ", b"\ttab", b"tab\t"] {
            assert_eq!(written(&request("GET", "https://h/", &[("a", value)])), Err(Reason::FieldInvalid), "{value:?}");
        }
        for value in [&b"a\rb"[..], b"a\nb", b"a\0b", b"a\r\nb: c", b"\x7f", b"\x01"] {
            assert!(HeaderValue::from_bytes(value).is_err() && !is_value(value), "{value:?}");
        }
        for name in ["connection", "transfer-encoding", "upgrade"] {
            assert_eq!(written(&request("GET", "https://h/", &[(name, b"x")])), Err(Reason::FieldInvalid), "{name}");
        }
        assert_eq!(written(&request("get", "https://h/", &[])), Err(Reason::RequestLineInvalid));
        for uri in ["ftp://h/", "*"] {
            assert_eq!(written(&request("GET", uri, &[])), Err(Reason::RequestLineInvalid), "{uri}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        let long = "a".repeat(65);
        assert_eq!(written(&request("GET", &format!("https://h/{long}"), &[])), Err(Reason::TargetTooLong));
        assert_eq!(written(&request("GET", "https://h/", &[("a", &[b'a'; 500])])), Err(Reason::HeadTooLarge));
        let many: Vec<(String, &[u8])> = (0..8).map(|number| (format!("a{number}"), &b"b"[..])).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(written(&request("GET", "https://h/", &many)), Err(Reason::TooManyFields));
        assert_eq!(written(&request(&"A".repeat(33), "https://h/", &[])), Err(Reason::RequestLineInvalid));
    }

    #[test]
    fn rfc_8441_5_an_extended_connect_is_a_get_that_asks_for_an_upgrade() {
        let mut parts =
            request("CONNECT", "https://h/chat", &[("sec-websocket-version", b"13"), ("sec-websocket-key", b"x")]);
        parts.extensions.insert(Protocol::from_static("websocket"));
        let text = "GET /chat HTTP/2.0\r\nhost: h\r\nsec-websocket-version: 13\r\nupgrade: websocket\r\n\
                    sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        assert_eq!(written(&parts).unwrap(), text);
    }

    #[test]
    fn rfc_9113_8_1_1_lengths() {
        let of = |fields: &[(&str, &[u8])], ended| framing(&request("POST", "https://h/", fields).headers, ended);
        assert_eq!(of(&[], true), Ok(Framing::None));
        assert_eq!(of(&[], false), Ok(Framing::Chunked));
        assert_eq!(of(&[("content-length", b"5")], false), Ok(Framing::Length(5)));
        assert_eq!(of(&[("content-length", b"0")], true), Ok(Framing::None));
        assert_eq!(of(&[("content-length", b"0")], false), Ok(Framing::Length(0)));
        assert_eq!(of(&[("content-length", b"5")], true), Err(Reason::FramingInvalid));
        assert_eq!(of(&[("content-length", b"+5")], false), Err(Reason::FramingInvalid));
        assert_eq!(of(&[("content-length", b"5"), ("content-length", b"5")], false), Err(Reason::FramingInvalid));
    }
}

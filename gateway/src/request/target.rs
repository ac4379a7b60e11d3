//! The request target (RFC 9112 §3.2) and the host it is for (§3.2.2, RFC 9110 §7.2).

use probegate_policies::host::parse_authority;
use probegate_policies::reason::Reason;

use crate::wire::head::{FieldView, Name, RequestHead, Version};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path as received, percent-encoded; `*` in asterisk-form.
    pub path: &'a [u8],
    /// The query with its `?`, or nothing.
    pub query: &'a [u8],
    /// The authority as received: what `Host` says. Empty where HTTP/1.0 sent none.
    pub authority: &'a [u8],
    /// Its host, without the port.
    pub host: &'a [u8],
    /// Its port, if it names one.
    pub port: Option<u16>,
}

impl<'a> Target<'a> {
    /// Reads target and `Host` of a request.
    ///
    /// # Errors
    /// `Host` missing in HTTP/1.1, repeated, invalid, or different from the authority of an absolute target. `CONNECT`, `TRACE`
    /// and its old double `TRACK` are not methods for what a gateway fronts.
    pub fn of(head: &'a RequestHead, bytes: &'a [u8]) -> Result<Self, Reason> {
        let method = head.method.of(bytes);
        if matches!(method, b"CONNECT" | b"TRACE" | b"TRACK") {
            return Err(Reason::MethodNotAllowed);
        }
        let view = FieldView { bytes, fields: &head.fields };
        let mut hosts = view.of(Name::Host);
        let field = match (hosts.next(), hosts.next(), head.version) {
            (Some(host), None, _) => Some(host),
            (None, _, Version::Http10) => None,
            (None, _, Version::Http11 | Version::Http2) => return Err(Reason::HostMissing),
            (Some(_), Some(_), _) => return Err(Reason::HostDuplicated),
        };
        let target = head.target.of(bytes);
        let (absolute, rest) = split(target)?;
        // RFC 9112 §3.2.2 lets the authority of an absolute target win; two that differ are refused instead.
        let authority = match (absolute, field) {
            (Some(absolute), Some(field)) if !absolute.eq_ignore_ascii_case(field) => return Err(Reason::HostInvalid),
            (Some(absolute), _) => absolute,
            (None, field) => field.unwrap_or_default(),
        };
        let (host, port) = if authority.is_empty() && absolute.is_none() && head.version == Version::Http10 {
            (&b""[..], None)
        } else {
            let parsed = parse_authority(authority).map_err(|_| Reason::HostInvalid)?;
            (parsed.host, parsed.port)
        };
        let at = rest.iter().position(|&byte| byte == b'?').unwrap_or(rest.len());
        let (path, query) = rest.split_at(at);
        let path: &[u8] = match path {
            // RFC 9112 §3.2.4: an absolute target without path and query, for OPTIONS, asks about the server as a whole.
            b"" if method == b"OPTIONS" && query.is_empty() => b"*",
            // RFC 9112 §3.2.1: an absolute target may leave the path out, before a query as well.
            b"" => b"/",
            path => path,
        };
        Ok(Self { path, query, authority, host, port })
    }
}

/// Authority of an absolute target, and the rest.
fn split(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), Reason> {
    if target.starts_with(b"/") || target == b"*" {
        return Ok((None, target));
    }
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Reason::RequestLineInvalid)?;
    let (scheme, rest) = target.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Reason::RequestLineInvalid);
    }
    let rest = rest.get(3..).unwrap_or_default();
    let at = rest.iter().position(|&byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Ok((Some(authority), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::request::{HeadBounds, RequestParser};

    fn of(text: &str) -> Result<(String, String, String), Reason> {
        let mut head = RequestHead::default();
        let bounds = HeadBounds { head: 4096, fields: 100, target: 1000 };
        assert_eq!(RequestParser::default().advance(text.as_bytes(), &bounds, &mut head), Ok(true), "{text:?}");
        let target = Target::of(&head, text.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(target.path), text(target.query), text(target.host)))
    }

    #[test]
    fn rfc_9112_3_2_forms_of_the_target() {
        let ok = |path: &str, query: &str, host: &str| Ok((path.to_owned(), query.to_owned(), host.to_owned()));
        assert_eq!(of("GET /a?b?c HTTP/1.1\r\nHost: x.y:80\r\n\r\n"), ok("/a", "?b?c", "x.y"));
        assert_eq!(of("GET http://x.y/a HTTP/1.1\r\nHost: x.y\r\n\r\n"), ok("/a", "", "x.y"));
        assert_eq!(of("GET http://x.y HTTP/1.1\r\nHost: X.Y\r\n\r\n"), ok("/", "", "x.y"));
        assert_eq!(of("GET http://x.y?a HTTP/1.1\r\nHost: x.y\r\n\r\n"), ok("/", "?a", "x.y"));
        assert_eq!(of("OPTIONS http://x.y HTTP/1.1\r\nHost: x.y\r\n\r\n"), ok("*", "", "x.y"));
        assert_eq!(of("OPTIONS http://x.y/ HTTP/1.1\r\nHost: x.y\r\n\r\n"), ok("/", "", "x.y"));
        assert_eq!(of("OPTIONS * HTTP/1.1\r\nHost: x.y\r\n\r\n"), ok("*", "", "x.y"));
        assert_eq!(of("GET / HTTP/1.0\r\n\r\n"), ok("/", "", ""));
        assert_eq!(of("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), ok("/", "", "[::1]"));
    }

    #[test]
    fn rfc_9112_3_2_what_is_refused() {
        for (text, reason) in [
            ("GET / HTTP/1.1\r\n\r\n", Reason::HostMissing),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Reason::HostDuplicated),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Reason::HostInvalid),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", Reason::HostInvalid),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Reason::HostInvalid),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Reason::HostInvalid),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Reason::HostInvalid),
            ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Reason::HostInvalid),
            ("GET http://user@a/ HTTP/1.1\r\nHost: user@a\r\n\r\n", Reason::HostInvalid),
            ("GET http:///a HTTP/1.0\r\n\r\n", Reason::HostInvalid),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLineInvalid),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Reason::RequestLineInvalid),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Reason::MethodNotAllowed),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Reason::MethodNotAllowed),
        ] {
            assert_eq!(of(text), Err(reason), "{text:?}");
        }
    }
}

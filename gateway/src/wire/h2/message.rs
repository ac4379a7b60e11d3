//! Heads between HTTP/1.1, which all of the gateway writes and reads, and HTTP/2.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode};
use probegate_policies::reason::Reason;

use crate::wire::buffer::Buffer;
use crate::wire::h1::lines::{self, Lines};
use crate::wire::h1::request::{HeadBounds, RequestParser};
use crate::wire::h1::response::{MAX_HEAD, ResponseParser};
use crate::wire::head::{Name, RequestHead, ResponseHead};

/// The head of a request, as it was written for an app in HTTP/1.1, in the terms of HTTP/2 (RFC 9113 §8.3.1). `None`: it has none.
///
/// It is read by the parser that reads clients: whatever that refuses can not be smuggled through here either.
pub(super) fn request(head: &[u8], secured: bool) -> Option<Request<()>> {
    let bounds = HeadBounds { head: head.len(), fields: usize::MAX, target: usize::MAX };
    let mut index = RequestHead::default();
    if !RequestParser::default().advance(head, &bounds, &mut index).ok()? || index.len != head.len() {
        return None;
    }
    let mut fields = HeaderMap::with_capacity(index.fields.len());
    let mut authority = None;
    for field in &index.fields {
        let (name, value) = (field.name.of(head), field.value.of(head));
        match field.known {
            // The pseudo field takes its place; what is no authority, as in HTTP/1.0 without a host, is not invented.
            Name::Host if authority.is_none() => authority = Authority::try_from(value).ok(),
            Name::Host | Name::Connection | Name::TransferEncoding | Name::Upgrade => {}
            // RFC 9113 §8.2.2: nothing of this hop passes, but that trailers are welcome.
            Name::HopByHop if !(name.eq_ignore_ascii_case(b"te") && value.eq_ignore_ascii_case(b"trailers")) => {}
            _ => {
                let mut value = HeaderValue::from_bytes(value).ok()?;
                // RFC 7541 §7.1.3: what is worth guessing stays out of the table that all requests of the connection share.
                value.set_sensitive(field.known == Name::Authorization || name.eq_ignore_ascii_case(b"cookie"));
                fields.append(HeaderName::from_bytes(name).ok()?, value);
            }
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path_and_query(index.target.of(head))?);
    if authority.is_some() {
        parts.scheme = Some(if secured { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = authority;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(index.method.of(head)).ok()?;
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.headers_mut() = fields;
    Some(request)
}

/// The target. Bytes that RFC 3986 §2 lets nobody write as they are, and that HTTP/1 clients write all the same, are encoded.
fn path_and_query(target: &[u8]) -> Option<PathAndQuery> {
    if let Ok(target) = PathAndQuery::try_from(target) {
        return Some(target);
    }
    let mut encoded = String::with_capacity(target.len() + 16);
    for &byte in target {
        if matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#') {
            encoded.push_str(&format!("%{byte:02X}"));
        } else {
            encoded.push(char::from(byte));
        }
    }
    PathAndQuery::try_from(encoded).ok()
}

/// Trailer lines in the terms of HTTP/2; `None`: there are none.
pub(super) fn trailers(section: &[u8]) -> Option<HeaderMap> {
    let (mut lines, mut map) = (Lines::default(), HeaderMap::new());
    while let Ok(Some((start, end))) = lines.next(section) {
        let Ok(field) = lines::field(section, start, end) else { continue };
        let (name, value) =
            (HeaderName::from_bytes(field.name.of(section)), HeaderValue::from_bytes(field.value.of(section)));
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    (!map.is_empty()).then_some(map)
}

/// Writes the head of an answer as HTTP/1.1 into `buffer`, and has it read as strictly as any other.
///
/// # Errors
/// [`Reason::UpstreamInvalid`]
pub(super) fn response(
    status: StatusCode,
    fields: &HeaderMap,
    buffer: &mut Buffer,
    head: &mut ResponseHead,
) -> Result<(), Reason> {
    let phrase = status.canonical_reason().unwrap_or_default();
    let size = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    let size = size + phrase.len() + b"HTTP/1.1 200 \r\n\r\n".len();
    if size > MAX_HEAD {
        return Err(Reason::UpstreamInvalid);
    }
    buffer.clear();
    buffer.grow(size);
    for part in ["HTTP/1.1 ", status.as_str(), " ", phrase, "\r\n"] {
        buffer.extend(part.as_bytes());
    }
    write(fields, |part| {
        buffer.extend(part);
    });
    buffer.extend(b"\r\n");
    let read = ResponseParser::default().advance(buffer.filled(), head);
    let of_this_hop = |name| matches!(name, Name::Connection | Name::TransferEncoding | Name::Upgrade | Name::HopByHop);
    // RFC 9113 §8.6: there is no switching of protocols.
    if read != Ok(true)
        || head.len != buffer.len()
        || head.status == 101
        || head.fields.iter().any(|field| of_this_hop(field.known))
    {
        return Err(Reason::UpstreamInvalid);
    }
    Ok(())
}

/// Field lines with CRLF.
pub(super) fn write(fields: &HeaderMap, mut out: impl FnMut(&[u8])) {
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(head: &str) -> Option<Request<()>> {
        request(head.as_bytes(), false)
    }

    #[test]
    fn rfc_9113_8_3_1_a_head_becomes_pseudo_fields_and_lower_case_names() {
        let request = converted(
            "POST /a?b=c HTTP/1.1\r\nHost: app.example:81\r\nX-Name: Value\r\nTE: trailers\r\nKeep-Alive: 5\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\nCookie: a=b\r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "http://app.example:81/a?b=c");
        let fields: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-name", &b"Value"[..]), ("te", b"trailers"), ("cookie", b"a=b")]);
        assert!(request.headers()["cookie"].is_sensitive());
    }

    #[test]
    fn a_target_that_is_no_uri_is_encoded_and_an_empty_host_is_not_invented() {
        let request = converted("GET /a?q=\"<x>`|^{} HTTP/1.1\r\nHost:\r\n\r\n").unwrap();
        let target = request.uri().to_string();
        assert!(target.starts_with("/a?q=") && !target.contains(['<', '>', '"', '`']), "{target}");
        assert_eq!(request.uri().authority(), None);
        assert_eq!(converted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().uri().path(), "*");
        // A fragment is not part of a target, and was refused before.
        for byte in (0x21..=0x7e_u8).filter(|&byte| byte != b'#') {
            let target = format!("GET /{0}?{0} HTTP/1.1\r\nHost: a\r\n\r\n", char::from(byte));
            assert!(converted(&target).is_some(), "{:?}", char::from(byte));
        }
    }

    #[test]
    fn rfc_9113_8_2_2_an_answer_with_fields_of_a_hop_is_invalid() {
        let mut buffer = Buffer::new(16);
        let mut head = ResponseHead::default();
        let mut fields = HeaderMap::new();
        fields.insert("content-type", HeaderValue::from_static("text/plain"));
        assert_eq!(response(StatusCode::OK, &fields, &mut buffer, &mut head), Ok(()));
        assert_eq!(buffer.filled(), b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n");
        for (name, value) in [("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "h2c")] {
            let mut fields = HeaderMap::new();
            fields.insert(name, HeaderValue::from_static(value));
            let read = response(StatusCode::OK, &fields, &mut buffer, &mut head);
            assert_eq!(read, Err(Reason::UpstreamInvalid), "{name}");
        }
        let mut fields = HeaderMap::new();
        fields.insert("large", HeaderValue::from_bytes(&vec![b'a'; MAX_HEAD]).unwrap());
        assert_eq!(response(StatusCode::OK, &fields, &mut buffer, &mut head), Err(Reason::UpstreamInvalid));
        let switching = response(StatusCode::SWITCHING_PROTOCOLS, &HeaderMap::new(), &mut buffer, &mut head);
        assert_eq!(switching, Err(Reason::UpstreamInvalid));
    }
}

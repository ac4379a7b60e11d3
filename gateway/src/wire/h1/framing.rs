//! Where a message ends (RFC 9112 §6.3), and what its `Connection` field asks for. Anything that two parties could read differently
//! is refused.

use probegate_policies::reason::Reason;

use crate::wire::Framing;
use crate::wire::head::{FieldView, Name, RequestHead, ResponseHead, Version, elements};

/// How the body of a request ends.
///
/// # Errors
/// Both `Content-Length` and `Transfer-Encoding`, more than one of either, a length that is not a plain number, a coding other than
/// `chunked`, or any coding in HTTP/1.0.
pub fn request(head: &RequestHead, bytes: &[u8]) -> Result<Framing, Reason> {
    let view = FieldView { bytes, fields: &head.fields };
    let (lengths, codings) = (view.of(Name::ContentLength).count(), view.of(Name::TransferEncoding).count());
    match (lengths, codings) {
        (0, 0) => Ok(Framing::None),
        (1, 0) => match view.first(Name::ContentLength).and_then(length) {
            Some(0) => Ok(Framing::None),
            Some(length) => Ok(Framing::Length(length)),
            None => Err(Reason::FramingInvalid),
        },
        (0, 1) if head.version == Version::Http11 => match view.first(Name::TransferEncoding) {
            Some(value) if value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            Some(value) => Err(not_chunked(value)),
            None => Err(Reason::FramingInvalid),
        },
        _ => Err(Reason::FramingInvalid),
    }
}

/// Why a `Transfer-Encoding` is not taken. RFC 9112 §6.1: a coding that is not understood is 501. A list without any, with commas too
/// many, with `chunked` twice or not at its end has no meaning that everybody shares.
#[cold]
fn not_chunked(value: &[u8]) -> Reason {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let (codings, chunked) = (elements(value).count(), elements(value).filter(|coding| is_chunked(coding)).count());
    match (codings, chunked) {
        (1.., 0) => Reason::TransferCodingUnknown,
        (2.., 1) if elements(value).last().is_some_and(is_chunked) => Reason::TransferCodingUnknown,
        _ => Reason::FramingInvalid,
    }
}

/// How the body of a response ends; `None`: the upstream contradicts itself.
pub fn response(head: &ResponseHead, bytes: &[u8], to_head: bool) -> Option<Framing> {
    let view = FieldView { bytes, fields: &head.fields };
    let (mut lengths, codings) = (view.of(Name::ContentLength), view.of(Name::TransferEncoding).count());
    let length = match lengths.next() {
        None => None,
        Some(value) => Some(length(value)?),
    };
    if lengths.next().is_some() || codings > 1 || (codings == 1 && length.is_some()) {
        return None;
    }
    if to_head || matches!(head.status, 100..=199 | 204 | 304) {
        return Some(Framing::None);
    }
    match (view.first(Name::TransferEncoding), length) {
        (Some(coding), _) => {
            (coding.eq_ignore_ascii_case(b"chunked") && head.version == Version::Http11).then_some(Framing::Chunked)
        }
        (None, Some(0)) => Some(Framing::None),
        (None, Some(length)) => Some(Framing::Length(length)),
        (None, None) => Some(Framing::UntilClose),
    }
}

/// Digits only: no sign, no list, no white space inside.
pub fn length(value: &[u8]) -> Option<u64> {
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |length, &digit| length * 10 + u64::from(digit - b'0')))
}

/// Options of `Connection` that are looked at.
const MOST_OPTIONS: usize = 16;

/// What the `Connection` field of a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
    /// It names fields that are for this connection only.
    pub nominates: bool,
    /// It has more options than any real sender needs. Each of them is compared with every field.
    pub excessive: bool,
}

impl Connection {
    /// Reads all `Connection` lines.
    pub fn of(view: FieldView<'_>) -> Self {
        let mut connection = Self::default();
        let mut lines = view.of(Name::Connection);
        let (Some(first), second) = (lines.next(), lines.next()) else { return connection };
        if second.is_none() && matches!(first, b"keep-alive" | b"Keep-Alive") {
            // What most apps say.
            connection.keep_alive = true;
            return connection;
        }
        for (index, option) in view.of(Name::Connection).flat_map(elements).enumerate() {
            if index == MOST_OPTIONS {
                connection.excessive = true;
                break;
            }
            if option.eq_ignore_ascii_case(b"close") {
                connection.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                connection.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                connection.upgrade = true;
            } else {
                connection.nominates = true;
            }
        }
        connection
    }

    /// Whether the sender wants to go on after this message (RFC 9112 §9.3).
    pub fn persists(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Whether a `Connection` line nominates `name` as meant for this connection only.
pub fn nominated(view: FieldView<'_>, name: &[u8]) -> bool {
    view.of(Name::Connection).flat_map(elements).any(|option| option.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::request::{HeadBounds, RequestParser};
    use crate::wire::h1::response::ResponseParser;

    fn of_request(version: &str, fields: &str) -> Result<Framing, Reason> {
        let text = format!("POST / HTTP/{version}\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        let bounds = HeadBounds { head: 4096, fields: 100, target: 100 };
        assert_eq!(RequestParser::default().advance(text.as_bytes(), &bounds, &mut head), Ok(true));
        request(&head, text.as_bytes())
    }

    fn of_response(status: u16, fields: &str, to_head: bool) -> Option<Framing> {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        let mut head = ResponseHead::default();
        assert_eq!(ResponseParser::default().advance(text.as_bytes(), &mut head), Ok(true));
        response(&head, text.as_bytes(), to_head)
    }

    #[test]
    fn rfc_9112_6_3_request_framing() {
        for (version, fields, expected) in [
            ("1.1", "", Ok(Framing::None)),
            ("1.1", "Content-Length: 0\r\n", Ok(Framing::None)),
            ("1.1", "Content-Length: 5\r\n", Ok(Framing::Length(5))),
            ("1.0", "Content-Length: 5\r\n", Ok(Framing::Length(5))),
            ("1.1", "Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("1.1", "Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
            ("1.0", "Transfer-Encoding: chunked\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: 5\r\nContent-Length: 5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: 5, 5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: +5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: -5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: 0x5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: 5 5\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length:\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Content-Length: 99999999999999999999\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: chunked, chunked\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: chunked, gzip\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n", Err(Reason::TransferCodingUnknown)),
            ("1.1", "Transfer-Encoding: gzip\r\n", Err(Reason::TransferCodingUnknown)),
            ("1.1", "Transfer-Encoding: xchunked\r\n", Err(Reason::TransferCodingUnknown)),
            ("1.1", "Transfer-Encoding:\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: chunked,\r\n", Err(Reason::FramingInvalid)),
            ("1.1", "Transfer-Encoding: ,chunked\r\n", Err(Reason::FramingInvalid)),
        ] {
            assert_eq!(of_request(version, fields), expected, "{version} {fields:?}");
        }
    }

    #[test]
    fn rfc_9112_6_3_response_framing() {
        for (status, fields, to_head, expected) in [
            (200, "Content-Length: 5\r\n", false, Some(Framing::Length(5))),
            (200, "Content-Length: 5\r\n", true, Some(Framing::None)),
            (304, "Content-Length: 5\r\n", false, Some(Framing::None)),
            (204, "", false, Some(Framing::None)),
            (200, "", false, Some(Framing::UntilClose)),
            (200, "Transfer-Encoding: chunked\r\n", false, Some(Framing::Chunked)),
            (200, "Transfer-Encoding: gzip, chunked\r\n", false, None),
            (200, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", false, None),
            (200, "Content-Length: 5\r\nContent-Length: 5\r\n", false, None),
            (200, "Content-Length: 5\r\nContent-Length: 6\r\n", false, None),
            (200, "Content-Length: nine\r\n", false, None),
        ] {
            assert_eq!(of_response(status, fields, to_head), expected, "{status} {fields:?}");
        }
    }
}

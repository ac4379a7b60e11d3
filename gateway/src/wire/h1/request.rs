//! Request heads: request line (RFC 9112 §3) and field lines.

use probegate_policies::reason::Reason;

use super::lines::{self, Lines};
use crate::wire::head::{RequestHead, Version};

/// What a request head may not exceed.
#[derive(Clone, Copy, Debug)]
pub struct HeadBounds {
    /// Bytes of the whole head.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// Reads a head as its bytes arrive.
#[derive(Debug, Default)]
pub struct RequestParser {
    lines: Lines,
    started: bool,
    empty_lines: u8,
}

impl RequestParser {
    /// Looks at the bytes received so far, which must begin with the same bytes as in earlier calls. `true`: `head` is complete.
    ///
    /// # Errors
    /// The reason to refuse the request; the connection cannot be used any further.
    pub fn advance(&mut self, bytes: &[u8], bounds: &HeadBounds, head: &mut RequestHead) -> Result<bool, Reason> {
        loop {
            if self.started {
                // Nearly every head is well formed and comes whole.
                while head.fields.len() < bounds.fields
                    && let Some(field) = self.lines.field(bytes, bounds.head)
                {
                    head.fields.push(field);
                }
                if self.lines.empty(bytes, bounds.head) {
                    head.len = self.lines.position();
                    return Ok(true);
                }
            }
            let invalid = if self.started { Reason::FieldInvalid } else { Reason::RequestLineInvalid };
            let Some((start, end)) = self.lines.next(bytes).map_err(|_| invalid)? else {
                return self.partial(bytes, bounds);
            };
            if self.lines.position() > bounds.head {
                return Err(if self.started { Reason::HeadTooLarge } else { Reason::TargetTooLong });
            }
            if !self.started {
                if start == end && self.empty_lines == 0 {
                    // RFC 9112 §2.2: an empty line before the request line is ignored (old clients end bodies with one).
                    self.empty_lines += 1;
                    continue;
                }
                request_line(bytes, start, end, bounds, head)?;
                head.fields.clear();
                self.started = true;
            } else if start == end {
                head.len = self.lines.position();
                return Ok(true);
            } else if head.fields.len() == bounds.fields {
                return Err(Reason::TooManyFields);
            } else {
                head.fields.push(lines::field(bytes, start, end)?);
            }
        }
    }

    /// More bytes are needed, unless what is there can never become a head.
    fn partial(&self, bytes: &[u8], bounds: &HeadBounds) -> Result<bool, Reason> {
        if bytes.len() < bounds.head {
            let line = bytes.get(self.lines.position()..).unwrap_or_default();
            // TLS, HTTP/2 prefaces and other protocols: say so at once instead of at the deadline.
            let alien = !self.started && line.first().is_some_and(|&byte| !lines::is_token(byte) && byte != b'\r');
            if alien { Err(Reason::RequestLineInvalid) } else { Ok(false) }
        } else if self.started {
            Err(Reason::HeadTooLarge)
        } else {
            Err(Reason::TargetTooLong)
        }
    }
}

/// `method SP request-target SP HTTP-version`, single spaces, nothing else.
fn request_line(
    bytes: &[u8],
    start: usize,
    end: usize,
    bounds: &HeadBounds,
    head: &mut RequestHead,
) -> Result<(), Reason> {
    let line = bytes.get(start..end).unwrap_or_default();
    let method = line.iter().position(|&byte| byte == b' ').ok_or(Reason::RequestLineInvalid)?;
    // Eight bytes behind the last space, if it is any that is known.
    let version = match line.len().checked_sub(9) {
        Some(at) if line.get(at) == Some(&b' ') && line.last_chunk() == Some(b"HTTP/1.1") => at,
        _ => line.iter().rposition(|&byte| byte == b' ').ok_or(Reason::RequestLineInvalid)?,
    };
    let (name, rest) = line.split_at(method);
    if name.is_empty() || name.len() > 32 || !name.iter().all(|&byte| is_method_byte(byte)) || version <= method {
        return Err(Reason::RequestLineInvalid);
    }
    let target = rest.get(1..version - method).unwrap_or_default();
    // The target is checked as a path or authority later; here only that it is one word of visible ASCII. No fragment is part of it
    // (RFC 9112 §3.2.1): who cuts one off and who does not would see two queries.
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, 0x21..=0x22 | 0x24..=0x7e)) {
        return Err(Reason::RequestLineInvalid);
    }
    let version_text = line.get(version + 1..).unwrap_or_default();
    head.version = match version_text {
        b"HTTP/1.0" => Version::Http10,
        // RFC 9110 §2.5: a higher minor version is to be treated as the highest one that is known.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Reason::VersionUnsupported),
        _ => return Err(Reason::RequestLineInvalid),
    };
    if target.len() > bounds.target {
        return Err(Reason::TargetTooLong);
    }
    head.method = lines::span(start, start + method)?;
    head.target = lines::span(start + method + 1, start + version)?;
    Ok(())
}

/// Methods are capital letters by custom, and case counts (RFC 9110 §9.1). Servers that turn them into capitals would find HEAD, whose
/// answer has no body, or TRACE where this gateway saw neither.
pub fn is_method_byte(byte: u8) -> bool {
    lines::is_token(byte) && !byte.is_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: HeadBounds = HeadBounds { head: 512, fields: 4, target: 64 };

    fn parse(text: &str) -> Result<Option<(String, String, usize)>, Reason> {
        let (mut parser, mut head) = (RequestParser::default(), RequestHead::default());
        let bytes = text.as_bytes();
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(parser
            .advance(bytes, &BOUNDS, &mut head)?
            .then(|| (text_of(head.method.of(bytes)), text_of(head.target.of(bytes)), head.fields.len())))
    }

    #[test]
    fn a_head_is_found_whole_and_byte_by_byte() {
        let text = "GET /a?b HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\nrest";
        assert_eq!(parse(text), Ok(Some(("GET".into(), "/a?b".into(), 2))));
        let (mut parser, mut head) = (RequestParser::default(), RequestHead::default());
        for end in 0..text.len() - 4 {
            assert_eq!(parser.advance(&text.as_bytes()[..end], &BOUNDS, &mut head), Ok(false), "{end}");
        }
        assert_eq!(parser.advance(text.as_bytes(), &BOUNDS, &mut head), Ok(true));
        assert_eq!(head.len, text.len() - 4);
    }

    #[test]
    fn rfc_9112_3_request_lines_that_are_refused() {
        for (line, reason) in [
            ("GET  / HTTP/1.1", Reason::RequestLineInvalid),
            ("GET / HTTP/1.1 ", Reason::RequestLineInvalid),
            ("GET /a b HTTP/1.1", Reason::RequestLineInvalid),
            ("GET\t/ HTTP/1.1", Reason::RequestLineInvalid),
            ("G(T / HTTP/1.1", Reason::RequestLineInvalid),
            ("head / HTTP/1.1", Reason::RequestLineInvalid),
            ("GET /?a#b HTTP/1.1", Reason::RequestLineInvalid),
            (" GET / HTTP/1.1", Reason::RequestLineInvalid),
            ("GET /", Reason::RequestLineInvalid),
            ("GET / http/1.1", Reason::RequestLineInvalid),
            ("GET / HTTP/1.10", Reason::RequestLineInvalid),
            ("GET / HTTP/2.0", Reason::VersionUnsupported),
            ("PRI * HTTP/2.0", Reason::VersionUnsupported),
            ("GET / HTTP/0.9", Reason::VersionUnsupported),
            ("GET /\u{e9} HTTP/1.1", Reason::RequestLineInvalid),
            ("\u{16}\u{3}\u{1}", Reason::RequestLineInvalid),
        ] {
            assert_eq!(parse(&format!("{line}\r\nHost: x\r\n\r\n")), Err(reason), "{line:?}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        let long = "a".repeat(65);
        assert_eq!(parse(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Err(Reason::TargetTooLong));
        assert_eq!(parse(&format!("GET /{} HTTP/1.1", "a".repeat(600))), Err(Reason::TargetTooLong));
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(600))), Err(Reason::HeadTooLarge));
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(600))), Err(Reason::HeadTooLarge));
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5))), Err(Reason::TooManyFields));
    }

    #[test]
    fn rfc_9112_2_2_one_empty_line_before_the_request_line_is_ignored() {
        assert_eq!(parse("\r\nGET / HTTP/1.1\r\n\r\n").map(|found| found.is_some()), Ok(true));
        assert_eq!(parse("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(Reason::RequestLineInvalid));
    }
}

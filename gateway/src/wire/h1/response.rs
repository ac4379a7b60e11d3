//! Response heads: status line (RFC 9112 §4) and field lines, as strict as requests.

use super::lines::{self, Lines};
use crate::wire::head::{ResponseHead, Version};

/// What a response head of an upstream may not exceed, in bytes. Positions in heads are 16 bits wide.
pub const MAX_HEAD: usize = 60 * 1024;

const MAX_FIELDS: usize = 256;

/// The upstream sent something that is not an HTTP/1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidResponse;

/// Reads a head as its bytes arrive.
#[derive(Debug, Default)]
pub struct ResponseParser {
    lines: Lines,
    started: bool,
}

impl ResponseParser {
    /// Looks at the bytes received so far, which must begin with the same bytes as in earlier calls. `true`: `head` is complete.
    pub fn advance(&mut self, bytes: &[u8], head: &mut ResponseHead) -> Result<bool, InvalidResponse> {
        loop {
            if self.started {
                // Nearly every head is well formed and comes whole.
                while head.fields.len() < MAX_FIELDS
                    && let Some(field) = self.lines.field(bytes, MAX_HEAD)
                {
                    head.fields.push(field);
                }
                if self.lines.empty(bytes, MAX_HEAD) {
                    head.len = self.lines.position();
                    return Ok(true);
                }
            }
            let Some((start, end)) = self.lines.next(bytes).map_err(|_| InvalidResponse)? else {
                // TLS, HTTP/2 and other protocols: say so at once instead of at the deadline.
                let alien = !self.started && bytes.iter().zip(b"HTTP/1.").any(|(byte, expected)| byte != expected);
                return if bytes.len() < MAX_HEAD && !alien { Ok(false) } else { Err(InvalidResponse) };
            };
            if !self.started {
                status_line(bytes, start, end, head)?;
                head.fields.clear();
                self.started = true;
            } else if start == end {
                head.len = self.lines.position();
                return if head.len <= MAX_HEAD { Ok(true) } else { Err(InvalidResponse) };
            } else if head.fields.len() == MAX_FIELDS {
                return Err(InvalidResponse);
            } else {
                head.fields.push(lines::field(bytes, start, end).map_err(|_| InvalidResponse)?);
            }
        }
    }
}

/// `HTTP-version SP status-code SP [ reason-phrase ]`; the second space may be missing where the phrase is.
fn status_line(bytes: &[u8], start: usize, end: usize, head: &mut ResponseHead) -> Result<(), InvalidResponse> {
    let line = bytes.get(start..end).unwrap_or_default();
    let (version, rest) = line.split_at_checked(8).ok_or(InvalidResponse)?;
    head.version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(InvalidResponse),
    };
    let [b' ', hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', ones @ b'0'..=b'9', phrase @ ..] = rest else {
        return Err(InvalidResponse);
    };
    head.status = [hundreds, tens, ones].iter().fold(0, |status, &&digit| status * 10 + u16::from(digit - b'0'));
    if !(phrase.is_empty() || (phrase.starts_with(b" ") && lines::is_field_value(phrase))) {
        return Err(InvalidResponse);
    }
    let from = end - phrase.len().saturating_sub(1);
    head.reason = lines::span(from, end).map_err(|_| InvalidResponse)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(u16, String)>, InvalidResponse> {
        let mut head = ResponseHead::default();
        let done = ResponseParser::default().advance(text.as_bytes(), &mut head)?;
        let reason = String::from_utf8_lossy(head.reason.of(text.as_bytes())).into_owned();
        Ok(done.then_some((head.status, reason)))
    }

    #[test]
    fn rfc_9112_4_status_lines() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\nA: b\r\n\r\n"), Ok(Some((200, "OK".into()))));
        assert_eq!(parse("HTTP/1.0 404 Not Found\r\n\r\n"), Ok(Some((404, "Not Found".into()))));
        assert_eq!(parse("HTTP/1.1 204\r\n\r\n"), Ok(Some((204, String::new()))));
        assert_eq!(parse("HTTP/1.1 204 \r\n\r\n"), Ok(Some((204, String::new()))));
        assert_eq!(parse("HTTP/1.1 200 O"), Ok(None));
        assert_eq!(parse("HTT"), Ok(None));
        assert_eq!(parse("HTTX"), Err(InvalidResponse));
        assert_eq!(parse("\0\0\x12\x04"), Err(InvalidResponse));
        for bad in [
            "HTTP/2 200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 600 No",
            "HTTP/1.1 099 No",
            "ICY 200 OK",
            "HTTP/1.1 2000",
        ] {
            assert_eq!(parse(&format!("{bad}\r\n\r\n")), Err(InvalidResponse), "{bad:?}");
        }
        assert_eq!(parse("HTTP/1.1 200 OK\nA: b\n\n"), Err(InvalidResponse));
        assert_eq!(parse("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n"), Err(InvalidResponse));
    }
}

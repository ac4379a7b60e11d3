//! The head of an answer that is compressed, or might have been for another client.

use probegate_policies::encoding::Coding;

use crate::wire::head::{Field, FieldList, Name, ResponseHead, Span, elements};

/// A head with other fields than it came with, and the bytes it lies in.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) head: ResponseHead,
    pub(super) bytes: Vec<u8>,
}

/// The head of an answer that caches must not give to clients that take other codings; with a coding, that it has this one. `None`: it would become
/// too long.
pub(super) fn rewrite(head: &ResponseHead, bytes: &[u8], coding: Option<Coding>) -> Option<Rewritten> {
    let first = usize::from(head.fields.first()?.name.start);
    let mut out = Rewritten {
        head: ResponseHead {
            status: head.status,
            reason: head.reason,
            version: head.version,
            fields: FieldList::with_capacity(head.fields.len() + 2),
            len: 0,
        },
        bytes: bytes.get(..first)?.to_vec(),
    };
    let mut vary: Vec<u8> = Vec::new();
    for field in &head.fields {
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        if name.eq_ignore_ascii_case(b"vary") {
            if !value.is_empty() {
                vary.extend_from_slice(if vary.is_empty() { b"" } else { b", " });
                vary.extend_from_slice(value);
            }
            continue;
        }
        if coding.is_some() {
            if field.known == Name::ContentLength || name.eq_ignore_ascii_case(b"accept-ranges") {
                continue;
            }
            // The bytes are others than those it was made for (RFC 9110 §8.8.3.3).
            if name.eq_ignore_ascii_case(b"etag") && value.starts_with(b"\"") {
                out.line(name, &[b"W/", value], field.known)?;
                continue;
            }
        }
        out.line(name, &[value], field.known)?;
    }
    if !elements(&vary).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")) {
        vary.extend_from_slice(if vary.is_empty() { b"" } else { b", " });
        vary.extend_from_slice(b"Accept-Encoding");
    }
    if let Some(coding) = coding {
        out.line(b"Content-Encoding", &[coding.as_str().as_bytes()], Name::Other)?;
    }
    out.line(b"Vary", &[&vary], Name::Other)?;
    out.bytes.extend_from_slice(b"\r\n");
    out.head.len = out.bytes.len();
    Some(out)
}

impl Rewritten {
    fn line(&mut self, name: &[u8], value: &[&[u8]], known: Name) -> Option<()> {
        let at = |bytes: &[u8]| u16::try_from(bytes.len()).ok();
        let mut span = |parts: &[&[u8]]| {
            let start = at(&self.bytes)?;
            for part in parts {
                self.bytes.extend_from_slice(part);
            }
            Some(Span { start, end: at(&self.bytes)? })
        };
        let name = span(&[name])?;
        span(&[b": "])?;
        let value = span(value)?;
        let line_end = span(&[b"\r\n"])?.end;
        self.head.fields.push(Field { name, value, line_end, known });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::response::ResponseParser;

    fn rewritten(text: &str, coding: Option<Coding>) -> String {
        let mut head = ResponseHead::default();
        assert_eq!(ResponseParser::default().advance(text.as_bytes(), &mut head), Ok(true));
        let out = rewrite(&head, text.as_bytes(), coding).unwrap();
        // The index says what the bytes say.
        let mut again = ResponseHead::default();
        assert_eq!(ResponseParser::default().advance(&out.bytes, &mut again), Ok(true));
        assert_eq!(format!("{again:?}"), format!("{:?}", out.head));
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn the_fields_that_speak_of_the_bytes_change() {
        let text = "HTTP/1.1 200 Fine\r\nContent-Length: 9\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nX: y\r\n\r\nbody";
        assert_eq!(
            rewritten(text, Some(Coding::Brotli)),
            "HTTP/1.1 200 Fine\r\nETag: W/\"a\"\r\nX: y\r\nContent-Encoding: br\r\nVary: Accept-Encoding\r\n\r\n"
        );
        assert_eq!(
            rewritten(text, None),
            "HTTP/1.1 200 Fine\r\nContent-Length: 9\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nX: y\r\nVary: Accept-Encoding\r\n\r\n"
        );
    }

    #[test]
    fn vary_is_merged_and_not_repeated() {
        for (lines, vary) in [
            ("Vary: Accept\r\nX: y\r\nvary:\tCookie\r\n", "Accept, Cookie, Accept-Encoding"),
            ("Vary: accept-encoding\r\n", "accept-encoding"),
            ("Vary: *\r\n", "*"),
            ("Vary:\r\nETag: W/\"a\"\r\n", "Accept-Encoding"),
        ] {
            let text = rewritten(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"), Some(Coding::Gzip));
            assert!(text.ends_with(&format!("\r\nVary: {vary}\r\n\r\n")), "{text:?}");
            assert!(!text.contains("W/W/"), "{text}");
        }
    }

    #[test]
    fn a_head_that_would_be_too_long_is_left_alone() {
        let text = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(60_000));
        let mut head = ResponseHead::default();
        ResponseParser::default().advance(text.as_bytes(), &mut head).unwrap();
        assert!(rewrite(&head, text.as_bytes(), None).is_some());
        let last = head.fields[0];
        head.fields.push(last);
        assert!(rewrite(&head, text.as_bytes(), None).is_none());
    }
}

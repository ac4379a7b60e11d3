//! An answer of an app's that is kept to be given again.

use crate::wire::head::{Field, FieldList, ResponseHead, Span};

/// The largest body that is kept, in bytes.
pub const LARGEST: usize = 64 * 1024;

/// What an app answered. What was meant for one client alone, or is about this answer and not about the next, is not in it.
#[derive(Debug)]
pub struct Kept {
    head: ResponseHead,
    bytes: Box<[u8]>,
    body: Box<[u8]>,
}

impl Kept {
    /// The answer with this head, whose index is into `bytes`, and this body.
    pub fn new(head: &ResponseHead, bytes: &[u8], body: Vec<u8>) -> Self {
        // Written anew, because runs of lines are copied as they lie.
        let mut kept = Vec::with_capacity(head.len.min(bytes.len()));
        kept.extend_from_slice(head.reason.of(bytes));
        let reason = Span { start: 0, end: end(&kept) };
        let mut fields = FieldList::with_capacity(head.fields.len());
        for field in head.fields.iter().filter(|field| !is_personal(field.name.of(bytes))) {
            let start = end(&kept);
            let line = Span { start: field.name.start, end: field.line_end };
            kept.extend_from_slice(line.of(bytes));
            let moved = |at: u16| start.saturating_add(at.saturating_sub(line.start));
            let moved_span = |span: Span| Span { start: moved(span.start), end: moved(span.end) };
            let (name, value) = (moved_span(field.name), moved_span(field.value));
            fields.push(Field { name, value, line_end: end(&kept), known: field.known });
        }
        let head = ResponseHead { status: head.status, reason, version: head.version, fields, len: kept.len() };
        Self { head, bytes: kept.into(), body: body.into() }
    }

    /// The index of its head, and the bytes that it lies in.
    pub fn view(&self) -> (&ResponseHead, &[u8]) {
        (&self.head, &self.bytes)
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.head.status
    }
}

/// Heads are smaller than 64 KiB.
fn end(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// A session that is shared by everybody who asks would be worse than none; the age is told by the gateway.
fn is_personal(name: &[u8]) -> bool {
    [&b"set-cookie"[..], b"set-cookie2", b"age", b"x-probe-cache"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::{FieldView, Name};

    #[test]
    fn what_is_left_lies_where_the_index_says() {
        let bytes = b"HTTP/1.1 200 Fine\r\nAge: 1\r\nContent-Type: a/b\r\nSet-Cookie: a=1\r\nX-Y:  z \r\n\r\n";
        let at = |text: &str| {
            let start = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
            Span { start: u16::try_from(start).unwrap(), end: u16::try_from(start + text.len()).unwrap() }
        };
        let field = |name: &str, value: &str| {
            let (name, value) = (at(name), at(value));
            let rest = &bytes[usize::from(value.end)..];
            let line_end = usize::from(value.end) + rest.iter().position(|&byte| byte == b'\n').unwrap() + 1;
            Field { name, value, line_end: u16::try_from(line_end).unwrap(), known: Name::of(name.of(bytes)) }
        };
        let mut fields = FieldList::default();
        for (name, value) in [("Age", "1\r"), ("Content-Type", "a/b"), ("Set-Cookie", "a=1"), ("X-Y", "z")] {
            fields.push(field(name, value));
        }
        let head =
            ResponseHead { status: 200, reason: at("Fine"), fields, len: bytes.len(), ..ResponseHead::default() };
        let kept = Kept::new(&head, bytes, b"body".to_vec());
        let (head, bytes) = kept.view();
        assert_eq!(bytes, b"FineContent-Type: a/b\r\nX-Y:  z \r\n");
        let view = FieldView { bytes, fields: &head.fields };
        assert_eq!((head.reason.of(bytes), view.first(Name::ContentType)), (&b"Fine"[..], Some(&b"a/b"[..])));
        assert_eq!(view.spelled("x-y").collect::<Vec<_>>(), [b"z"]);
        assert_eq!((kept.status(), kept.body()), (200, &b"body"[..]));
    }
}

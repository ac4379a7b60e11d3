//! Requests that the gateway makes itself, in the form of those that it receives, so that they go the same way.

use super::h1::request::{HeadBounds, RequestParser};
use super::head::RequestHead;

/// A GET for this target: the index of its head, and the head. `None`: the target or a field is not a valid one.
pub fn request(target: &[u8], fields: &[(&str, &[u8])]) -> Option<(RequestHead, Vec<u8>)> {
    let mut text = Vec::with_capacity(256);
    for part in [b"GET ", target, b" HTTP/1.1\r\n"] {
        text.extend_from_slice(part);
    }
    for (name, value) in fields {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    let mut head = RequestHead::default();
    let bounds = HeadBounds { head: text.len(), fields: fields.len(), target: target.len() };
    let read = RequestParser::default().advance(&text, &bounds, &mut head);
    (read == Ok(true)).then_some((head, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::{FieldView, Name};

    #[test]
    fn it_is_read_as_any_other() {
        let fields: [(&str, &[u8]); 2] = [("Host", b""), ("Accept", b"*/*")];
        let (head, text) = request(b"/readyz?a", &fields).unwrap();
        assert_eq!((head.method.of(&text), head.target.of(&text)), (&b"GET"[..], &b"/readyz?a"[..]));
        assert_eq!(FieldView { bytes: &text, fields: &head.fields }.first(Name::Accept), Some(&b"*/*"[..]));
        assert!(request(b"/a b", &[]).is_none() && request(b"/", &[("A", b"\r\nB: c")]).is_none());
    }
}

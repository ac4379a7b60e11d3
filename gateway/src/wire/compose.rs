//! Response heads that are made here, in the form in which those of apps arrive: an index into bytes.

use super::head::{Field, Name, ResponseHead, Span, Version};
use super::text::{push_number, reason_phrase};

/// A head in the making. Heads stay below 64 KiB; a field that would make this one larger is left out.
#[derive(Debug)]
pub struct Composer<'a> {
    head: &'a mut ResponseHead,
    bytes: &'a mut Vec<u8>,
}

impl<'a> Composer<'a> {
    /// A head with this status and no fields.
    pub fn new(head: &'a mut ResponseHead, bytes: &'a mut Vec<u8>, status: u16) -> Self {
        bytes.clear();
        bytes.extend_from_slice(b"HTTP/1.1 ");
        push_number(bytes, u64::from(status));
        bytes.push(b' ');
        let start = position(bytes.len());
        bytes.extend_from_slice(reason_phrase(status).as_bytes());
        head.status = status;
        head.reason = Span { start, end: position(bytes.len()) };
        head.version = Version::Http11;
        head.fields.clear();
        bytes.extend_from_slice(b"\r\n");
        Self { head, bytes }
    }

    /// Adds a field. The value must be one ([`super::h1::lines::is_field_value`]).
    pub fn field(&mut self, name: &[u8], known: Name, value: &[u8]) {
        self.with(name, known, |out| out.extend_from_slice(value));
    }

    /// Adds a field whose value is a number.
    pub fn number(&mut self, name: &[u8], known: Name, value: u64) {
        self.with(name, known, |out| push_number(out, value));
    }

    /// Adds a field whose value `write` appends.
    pub fn with(&mut self, name: &[u8], known: Name, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let named = self.bytes.len();
        self.bytes.extend_from_slice(b": ");
        let valued = self.bytes.len();
        write(self.bytes);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(b"\r\n");
        if self.bytes.len() + 2 > usize::from(u16::MAX) {
            self.bytes.truncate(begin);
            return;
        }
        self.head.fields.push(Field {
            name: Span { start: position(begin), end: position(named) },
            value: Span { start: position(valued), end: position(end) },
            line_end: position(end + 2),
            known,
        });
    }

    /// The head is whole.
    pub fn finish(self) {
        self.bytes.extend_from_slice(b"\r\n");
        self.head.len = self.bytes.len();
    }
}

fn position(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::response::ResponseParser;

    #[test]
    fn what_is_composed_is_read_as_what_arrives() {
        let (mut head, mut bytes) = (ResponseHead::default(), Vec::new());
        let mut composer = Composer::new(&mut head, &mut bytes, 206);
        composer.field(b"Content-Type", Name::ContentType, b"text/css");
        composer.number(b"Content-Length", Name::ContentLength, 10);
        composer.field(b"X-Large", Name::Other, &vec![b'x'; 70_000]);
        composer.with(b"ETag", Name::Other, |out| out.extend_from_slice(b"\"a\""));
        composer.finish();
        let mut read = ResponseHead::default();
        assert_eq!(ResponseParser::default().advance(&bytes, &mut read), Ok(true));
        assert_eq!(format!("{read:?}"), format!("{head:?}"));
        assert_eq!(head.fields.len(), 3);
    }
}

//! HTTP/1 messages as the tests see them: bytes first, with a strict look at them.

use std::fmt;

/// Field lines in their order.
pub(crate) type Fields = Vec<(String, String)>;

/// A request that an app received.
#[derive(Clone, Default)]
pub(crate) struct Request {
    /// Number of the connection it came on, from 0.
    pub(crate) connection: usize,
    /// Everything up to and with the empty line, verbatim.
    pub(crate) head: Vec<u8>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// The trailer section of a chunked body, with its line breaks.
    pub(crate) trailers: String,
}

impl Request {
    /// The head as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// The request line.
    pub(crate) fn line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// The target.
    pub(crate) fn target(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Its field lines.
    pub(crate) fn fields(&self) -> Fields {
        parse_head(&self.head).1
    }

    /// The values of all lines with this name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        all(&self.fields(), name)
    }

    /// The value of the only line with this name.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        only(&self.fields(), name)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (connection {}, {} bytes of body)", self.text().trim_end(), self.connection, self.body.len())
    }
}

/// A response that a client received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// The reason phrase.
    pub(crate) reason: String,
    /// Its field lines.
    pub(crate) fields: Fields,
    /// The body without its framing, as far as it came.
    pub(crate) body: Vec<u8>,
    /// The trailer section of a chunked body, with its line breaks.
    pub(crate) trailers: String,
    /// Sizes of the chunks of a chunked body.
    pub(crate) chunks: Vec<usize>,
}

impl Response {
    /// A response of which the head came.
    pub(crate) fn of(head: &[u8]) -> Self {
        let (line, fields) = parse_head(head);
        let rest = line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("not HTTP/1.1: {line:?}"));
        let (status, reason) = rest.split_at(3);
        let reason = reason.strip_prefix(' ').unwrap_or_else(|| panic!("no space behind the status: {line:?}"));
        Self { status: status.parse().unwrap(), reason: reason.to_owned(), fields, ..Self::default() }
    }

    /// The value of the only line with this name.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        only(&self.fields, name)
    }

    /// Whether the connection ends after it.
    pub(crate) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    None,
}

/// First line and fields of a head, which must be as RFC 9112 wants it.
pub(super) fn parse_head(head: &[u8]) -> (String, Fields) {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let text = text.strip_suffix("\r\n\r\n").unwrap_or_else(|| panic!("the head does not end: {text:?}"));
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field line: {line:?}"));
        assert!(!name.is_empty() && !name.contains([' ', '\t', '\n', '\r']), "no field name: {line:?}");
        assert!(!value.contains(['\n', '\r', '\0']), "no field value: {line:?}");
        (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
    });
    (first, fields.collect())
}

/// The framing that the fields tell; ambiguous ones are an error.
pub(super) fn framing(fields: &Fields) -> Framing {
    let (lengths, codings) = (all(fields, "content-length"), all(fields, "transfer-encoding"));
    match (&*lengths, &*codings) {
        ([], []) => Framing::None,
        ([length], []) => Framing::Length(length.parse().unwrap()),
        ([], [coding]) if coding == "chunked" => Framing::Chunked,
        _ => panic!("ambiguous framing: {fields:?}"),
    }
}

/// Where the head ends in `bytes`.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// A chunked body at the start of `bytes`, as far as it has come: what it holds and, when it is complete, its length there.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    pub(super) body: Vec<u8>,
    pub(super) chunks: Vec<usize>,
    pub(super) trailers: String,
    pub(super) length: Option<usize>,
}

/// Decodes from the start. Strict: hexadecimal sizes without extensions, CRLF everywhere.
pub(super) fn dechunk(bytes: &[u8]) -> Chunked {
    let mut out = Chunked::default();
    let mut at = 0;
    while let Some(line) = line_at(bytes, at) {
        let size = usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        at += line.len() + 2;
        if size == 0 {
            while let Some(line) = line_at(bytes, at) {
                at += line.len() + 2;
                if line.is_empty() {
                    out.length = Some(at);
                    return out;
                }
                out.trailers.push_str(line);
                out.trailers.push_str("\r\n");
            }
            return out;
        }
        let part = &bytes[at..bytes.len().min(at + size)];
        out.body.extend_from_slice(part);
        out.chunks.push(size);
        if bytes.len() < at + size + 2 {
            return out;
        }
        assert_eq!(&bytes[at + size..at + size + 2], b"\r\n", "no line break behind a chunk");
        at += size + 2;
    }
    out
}

fn line_at(bytes: &[u8], at: usize) -> Option<&str> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(std::str::from_utf8(&rest[..end]).unwrap())
}

fn all(fields: &Fields, name: &str) -> Vec<String> {
    fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone()).collect()
}

fn only(fields: &Fields, name: &str) -> Option<String> {
    let mut values = all(fields, name);
    assert!(values.len() <= 1, "{name} more than once: {values:?}");
    values.pop()
}

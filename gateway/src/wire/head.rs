//! Message heads: an index of positions into the bytes as they were received.
//!
//! No header map is built. A field line that may pass on is copied as it lies there, runs of lines at once; the index says where
//! lines begin and which of the names that matter to a gateway they carry.

use std::ops::Deref;

use probegate_policies::fields::{Fields, has_underscore};
use probegate_policies::forwarded::is_forwarding_field;

/// A range of the head's bytes. Heads are smaller than 64 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u16,
    /// One behind the last byte.
    pub end: u16,
}

impl Span {
    /// The bytes this span stands for.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// Field names that mean something to the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `X-Accel-…`, `X-Sendfile…`: what an app asks of the gateway; never told to clients, nor taken from them.
    Accel,
    /// `Accept`: decides the form of the gateway's own errors.
    Accept,
    /// `Authorization`: never logged.
    Authorization,
    /// `Connection`: hop-by-hop, nominates others.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Content-Type`.
    ContentType,
    /// `Date`.
    Date,
    /// `Expect`.
    Expect,
    /// Tells where a request came from; rebuilt, never passed on.
    Forwarding,
    /// `X-Gateway-Error`: who may say it is the gateway's decision.
    GatewayError,
    /// `Host`.
    Host,
    /// Describes this connection only: `Keep-Alive`, `Proxy-Connection`, `Proxy-Authorization`, `TE`, `HTTP2-Settings`.
    HopByHop,
    /// `Referer`.
    Referer,
    /// `Server`: whether the app's passes is the gateway's decision.
    Server,
    /// `Strict-Transport-Security`: the gateway's own replaces the app's.
    StrictTransportSecurity,
    /// `Trailer`.
    Trailer,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// The name contains an underscore: dropped, because WSGI and CGI fold it into another name.
    Underscore,
    /// `Upgrade`.
    Upgrade,
    /// `User-Agent`.
    UserAgent,
    /// Everything else passes.
    Other,
}

impl Name {
    /// Which name this is. Runs for every field line.
    pub fn of(name: &[u8]) -> Self {
        let known = match name.len() {
            2 if is(name, b"te") => Self::HopByHop,
            4 if is(name, b"host") => Self::Host,
            4 if is(name, b"date") => Self::Date,
            6 if is(name, b"accept") => Self::Accept,
            6 if is(name, b"expect") => Self::Expect,
            6 if is(name, b"server") => Self::Server,
            7 if is(name, b"referer") => Self::Referer,
            7 if is(name, b"upgrade") => Self::Upgrade,
            7 if is(name, b"trailer") => Self::Trailer,
            10 if is(name, b"connection") => Self::Connection,
            10 if is(name, b"user-agent") => Self::UserAgent,
            10 if is(name, b"keep-alive") => Self::HopByHop,
            12 if is(name, b"content-type") => Self::ContentType,
            13 if is(name, b"authorization") => Self::Authorization,
            14 if is(name, b"content-length") => Self::ContentLength,
            14 if is(name, b"http2-settings") => Self::HopByHop,
            15 if is(name, b"x-gateway-error") => Self::GatewayError,
            16 if is(name, b"proxy-connection") => Self::HopByHop,
            17 if is(name, b"transfer-encoding") => Self::TransferEncoding,
            19 if is(name, b"proxy-authorization") => Self::HopByHop,
            25 if is(name, b"strict-transport-security") => Self::StrictTransportSecurity,
            _ => Self::Other,
        };
        if known != Self::Other {
            known
        } else if is_forwarding_field(name) {
            Self::Forwarding
        } else if matches!(name, [b'x' | b'X', b'-', ..]) && is_accel(name) {
            Self::Accel
        } else if has_underscore(name) {
            Self::Underscore
        } else {
            Self::Other
        }
    }
}

/// Compares without regard to case with a lower-case name of the same length, eight bytes at a time.
#[inline]
fn is<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH]) -> bool {
    let Some(name) = name.first_chunk::<LENGTH>() else { return false };
    if LENGTH >= 8 {
        return is_spelled(name, lower);
    }
    name.iter().zip(lower).fold(0, |other, (byte, lower)| other | (byte.to_ascii_lowercase() ^ lower)) == 0
}

/// Compares without regard to case with a lower-case name of the same length, eight bytes at a time.
fn is_spelled(name: &[u8], lower: &[u8]) -> bool {
    let ((words, _), (wanted, _)) = (name.as_chunks::<8>(), lower.as_chunks::<8>());
    // The end once more as a whole word, rather than byte by byte.
    let (Some(end), Some(end_wanted)) = (name.last_chunk::<8>(), lower.last_chunk::<8>()) else {
        return name.eq_ignore_ascii_case(lower);
    };
    words
        .iter()
        .zip(wanted)
        .chain([(end, end_wanted)])
        .all(|(word, wanted)| lower_case(*word) == u64::from_le_bytes(*wanted))
}

/// Eight bytes with the letters of ASCII among them in lower case.
const fn lower_case(word: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = 0x80 * EACH;
    let word = u64::from_le_bytes(word);
    let low = word & !TOP;
    // The top bit of each byte tells: at least `A`, and above `Z`.
    let (from_a, above_z) = (low + (0x80 - b'A' as u64) * EACH, low + (0x7f - b'Z' as u64) * EACH);
    let capital = (from_a ^ above_z) & !word & TOP;
    word | (capital >> 2)
}

/// Whether a field is between an app and its gateway: nginx's `X-Accel-…`, and `X-Sendfile` with what belongs to it.
fn is_accel(name: &[u8]) -> bool {
    let begins = |with: &str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    begins("x-accel-") || begins("x-sendfile")
}

/// Where a field line lies.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name as received; it begins the line.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
    /// One behind the line's CRLF.
    pub line_end: u16,
    /// Which name it is.
    pub known: Name,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2. Its head is written down as one of HTTP/1 and then read like one ([`super::h2`]).
    Http2,
}

impl Version {
    /// As it is logged.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// Exactly this many bytes, at least one.
    Length(u64),
    /// Chunked (RFC 9112 §7.1), with trailers at its end.
    Chunked,
    /// Everything until the connection closes; responses only.
    UntilClose,
}

/// Field lines in order, and which names are among them: most that are asked for are not, and need no look at the lines.
#[derive(Clone, Debug, Default)]
pub struct FieldList {
    lines: Vec<Field>,
    /// A bit for each [`Name`].
    names: u32,
}

// Each name has a bit; this is the last.
const _: () = assert!((Name::Other as u32) < u32::BITS);

impl FieldList {
    /// No lines.
    pub const NONE: &Self = &Self { lines: Vec::new(), names: 0 };

    /// No lines yet, with memory for so many.
    pub fn with_capacity(lines: usize) -> Self {
        Self { lines: Vec::with_capacity(lines), names: 0 }
    }

    /// Adds a line.
    #[inline]
    pub fn push(&mut self, field: Field) {
        self.names |= 1 << field.known as u32;
        self.lines.push(field);
    }

    /// Forgets all lines.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.names = 0;
    }

    /// Whether a line has this name.
    #[inline]
    pub fn has(&self, known: Name) -> bool {
        self.names & (1 << known as u32) != 0
    }

    /// The lines with this name.
    #[inline]
    pub fn of(&self, known: Name) -> impl DoubleEndedIterator<Item = &Field> + Clone {
        let lines = if self.has(known) { self.lines.as_slice() } else { &[] };
        lines.iter().filter(move |field| field.known == known)
    }
}

impl Deref for FieldList {
    type Target = [Field];

    fn deref(&self) -> &[Field] {
        &self.lines
    }
}

impl<'a> IntoIterator for &'a FieldList {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.lines.iter()
    }
}

/// The index of a request head.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Span,
    /// The request target as received.
    pub target: Span,
    /// The client's version.
    pub version: Version,
    /// The field lines.
    pub fields: FieldList,
    /// Bytes of the whole head, the empty line included.
    pub len: usize,
}

/// The index of a response head.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase as received.
    pub reason: Span,
    /// The upstream's version.
    pub version: Version,
    /// The field lines.
    pub fields: FieldList,
    /// Bytes of the whole head, the empty line included.
    pub len: usize,
}

/// The fields of a head together with the bytes they lie in.
#[derive(Clone, Copy, Debug)]
pub struct FieldView<'a> {
    /// The head's bytes.
    pub bytes: &'a [u8],
    /// The index.
    pub fields: &'a FieldList,
}

impl<'a> FieldView<'a> {
    /// Values of all lines with this name.
    pub fn of(self, known: Name) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone {
        self.fields.of(known).map(move |field| field.value.of(self.bytes))
    }

    /// Value of the first line with this name.
    pub fn first(self, known: Name) -> Option<&'a [u8]> {
        self.of(known).next()
    }

    /// Values of all lines whose name is spelled like this, but for the case.
    pub fn spelled(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let lines =
            self.fields.iter().filter(move |field| field.name.of(self.bytes).eq_ignore_ascii_case(name.as_bytes()));
        lines.map(move |field| field.value.of(self.bytes))
    }
}

impl Fields for FieldView<'_> {
    fn lines(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (field.name.of(self.bytes), field.value.of(self.bytes)))
    }
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 §5.6.1).
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_as_bytes_are() {
        for byte in 0..=u8::MAX {
            let word = [b'a', byte, b'Z', b'-', byte, b'@', b'[', byte];
            assert_eq!(lower_case(word).to_le_bytes(), word.to_ascii_lowercase().as_slice(), "{byte}");
            let (name, lower) = ([b"Content-Lengt", &[byte][..]].concat(), b"content-length");
            assert_eq!(is_spelled(&name, lower), name.eq_ignore_ascii_case(lower), "{byte}");
        }
    }

    #[test]
    fn a_name_is_found_where_a_line_has_it_and_only_there() {
        let mut list = FieldList::default();
        let line = |known| Field { name: Span::default(), value: Span::default(), line_end: 0, known };
        for known in [Name::Accel, Name::Other, Name::Host, Name::Other] {
            list.push(line(known));
        }
        let found = |known| (list.has(known), list.of(known).count());
        assert_eq!([Name::Accel, Name::Other, Name::Host].map(found), [(true, 1), (true, 2), (true, 1)]);
        assert_eq!([Name::Accept, Name::UserAgent, Name::Upgrade].map(found), [(false, 0); 3]);
        list.clear();
        assert!(!list.has(Name::Host) && list.is_empty());
    }

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known) in [
            ("HOST", Name::Host),
            ("content-Length", Name::ContentLength),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("TE", Name::HopByHop),
            ("Keep-alive", Name::HopByHop),
            ("X-Forwarded-For", Name::Forwarding),
            ("X_Forwarded_For", Name::Forwarding),
            ("X_Custom", Name::Underscore),
            ("X-Accel-Redirect", Name::Accel),
            ("x-sendfile-type", Name::Accel),
            ("X-Accelerate", Name::Other),
            ("x-gateway-error", Name::GatewayError),
            ("Cookie", Name::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), known, "{name}");
        }
    }
}

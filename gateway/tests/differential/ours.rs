//! What our codec makes of bytes.

use probegate::wire::Framing;
use probegate::wire::h1::chunked::Decoder;
use probegate::wire::h1::framing;
use probegate::wire::h1::request::{HeadBounds, RequestParser};
use probegate::wire::h1::response::ResponseParser;
use probegate::wire::head::{Field, RequestHead, ResponseHead, Version};
use probegate_policies::reason::Reason;

/// A head, whoever read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Method and target, or status and nothing.
    pub(crate) first: (String, String),
    /// The minor version.
    pub(crate) minor: u8,
    /// Names and values as they were sent.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Bytes of the head.
    pub(crate) length: usize,
}

/// What was made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read<T, E> {
    /// It is one.
    Whole(T),
    /// More bytes are needed.
    Partial,
    /// It is none.
    Refused(E),
}

/// Wide enough for everything that is generated.
const BOUNDS: HeadBounds = HeadBounds { head: 60_000, fields: 250, target: 50_000 };

fn fields(fields: &[Field], bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let text = |field: &Field| String::from_utf8(field.name.of(bytes).to_vec()).unwrap();
    fields.iter().map(|field| (text(field), field.value.of(bytes).to_vec())).collect()
}

fn minor(version: Version) -> u8 {
    u8::from(version.as_str() == "HTTP/1.1")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A request head, and how its body ends.
pub(crate) fn request(bytes: &[u8]) -> Read<(Head, Result<Framing, Reason>), Reason> {
    let mut head = RequestHead::default();
    match RequestParser::default().advance(bytes, &BOUNDS, &mut head) {
        Ok(false) => Read::Partial,
        Err(reason) => Read::Refused(reason),
        Ok(true) => {
            let framing = framing::request(&head, bytes);
            let first = (text(head.method.of(bytes)), text(head.target.of(bytes)));
            let fields = fields(&head.fields, bytes);
            Read::Whole((Head { first, minor: minor(head.version), fields, length: head.len }, framing))
        }
    }
}

/// A response head, and how its body ends when it answers GET.
pub(crate) fn response(bytes: &[u8]) -> Read<(Head, Option<Framing>), ()> {
    let mut head = ResponseHead::default();
    match ResponseParser::default().advance(bytes, &mut head) {
        Ok(false) => Read::Partial,
        Err(_) => Read::Refused(()),
        Ok(true) => {
            let framing = framing::response(&head, bytes, false);
            let first = (head.status.to_string(), String::new());
            let fields = fields(&head.fields, bytes);
            Read::Whole((Head { first, minor: minor(head.version), fields, length: head.len }, framing))
        }
    }
}

/// Data, trailers as lines, and the bytes they took.
pub(crate) type Body = (Vec<u8>, Vec<u8>, usize);

/// A chunked body.
pub(crate) fn chunked(bytes: &[u8]) -> Read<Body, ()> {
    let (mut decoder, mut copy) = (Decoder::default(), bytes.to_vec());
    match decoder.decode(&mut copy) {
        Err(_) => Read::Refused(()),
        Ok(decoded) if decoded.done => {
            copy.truncate(decoded.produced);
            Read::Whole((copy, decoder.trailers().to_vec(), decoded.consumed))
        }
        Ok(_) => Read::Partial,
    }
}

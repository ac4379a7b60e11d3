//! Request heads: however the bytes arrive, they mean the same; what was taken, httparse takes as the same; what is passed on is a head
//! again, with nothing of this hop in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probegate_fuzz::wire::h1::fields::copy_fields;
use probegate_fuzz::wire::h1::framing::{self, Connection};
use probegate_fuzz::wire::h1::request::{HeadBounds, RequestParser};
use probegate_fuzz::wire::head::{FieldView, Name, RequestHead};
use probegate_policies::reason::Reason;

const BOUNDS: HeadBounds = HeadBounds { head: 2048, fields: 20, target: 512 };

fn read(parser: &mut RequestParser, bytes: &[u8], head: &mut RequestHead) -> Result<bool, Reason> {
    parser.advance(bytes, &BOUNDS, head)
}

fn parts<'a>(head: &RequestHead, bytes: &'a [u8]) -> (&'a [u8], &'a [u8], &'static str, Vec<(&'a [u8], &'a [u8])>) {
    let fields = head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))).collect();
    (head.method.of(bytes), head.target.of(bytes), head.version.as_str(), fields)
}

/// Reasons that tell that something is too large: which of them comes first depends on how much has arrived.
fn is_size(reason: Reason) -> bool {
    matches!(reason, Reason::HeadTooLarge | Reason::TargetTooLong | Reason::TooManyFields)
}

fuzz_target!(|bytes: &[u8]| {
    let mut head = RequestHead::default();
    let whole = read(&mut RequestParser::default(), bytes, &mut head);

    // Byte by byte.
    let (mut parser, mut pieces) = (RequestParser::default(), RequestHead::default());
    let mut slow = Ok(false);
    for end in 1..=bytes.len() {
        slow = read(&mut parser, &bytes[..end], &mut pieces);
        if slow != Ok(false) {
            break;
        }
    }
    match (whole, slow) {
        (Ok(true), Ok(true)) => {
            assert_eq!(head.len, pieces.len);
            assert_eq!(parts(&head, bytes), parts(&pieces, bytes));
        }
        (Ok(false), Ok(false)) => return,
        (Err(one), Err(other)) => {
            assert!(one == other || is_size(one) || is_size(other), "{one:?} {other:?}");
            return;
        }
        other => panic!("{other:?}"),
    }

    // Another parser.
    let (method, target, version, fields) = parts(&head, bytes);
    let mut theirs = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut theirs);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            assert_eq!(length, head.len);
            assert_eq!(request.method.map(str::as_bytes), Some(method));
            assert_eq!(request.path.map(str::as_bytes), Some(target));
            let theirs: Vec<_> = request.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
            assert_eq!(theirs, fields);
        }
        // HTTP/1.2 to 1.9 are read as 1.1.
        Err(httparse::Error::Version) => {}
        other => panic!("{other:?}"),
    }

    // Written anew, it is read as the same.
    let mut written = Vec::new();
    for part in [method, b" ", target, b" ", version.as_bytes(), b"\r\n"] {
        written.extend_from_slice(part);
    }
    for (name, value) in &fields {
        for part in [name, &b": "[..], value, b"\r\n"] {
            written.extend_from_slice(part);
        }
    }
    written.extend_from_slice(b"\r\n");
    let wide = HeadBounds { head: 4096, fields: 30, target: 512 };
    let mut again = RequestHead::default();
    assert_eq!(RequestParser::default().advance(&written, &wide, &mut again), Ok(true));
    assert_eq!(parts(&again, &written), (method, target, version, fields));

    // The framing is the same, and has one meaning.
    let framing = framing::request(&head, bytes);
    assert_eq!(framing, framing::request(&again, &written));
    let view = FieldView { bytes, fields: &head.fields };
    if framing.is_ok() {
        assert!(view.of(Name::ContentLength).count() + view.of(Name::TransferEncoding).count() <= 1);
    }

    // What passes on.
    if Connection::of(view).excessive {
        return;
    }
    let mut passed = b"GET / HTTP/1.1\r\n".to_vec();
    copy_fields(&mut passed, &head.fields, bytes, |field| !matches!(field.known, Name::Underscore | Name::Forwarding));
    passed.extend_from_slice(b"\r\n");
    let mut copied = RequestHead::default();
    assert_eq!(RequestParser::default().advance(&passed, &wide, &mut copied), Ok(true));
    for field in &copied.fields {
        assert!(!matches!(
            field.known,
            Name::Connection | Name::HopByHop | Name::TransferEncoding | Name::Underscore | Name::Forwarding
        ));
        assert!(field.known == Name::ContentLength || !framing::nominated(view, field.name.of(&passed)));
    }
});

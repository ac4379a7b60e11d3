//! Response heads: however the bytes arrive, they mean the same; what was taken, httparse takes as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probegate_fuzz::wire::Framing;
use probegate_fuzz::wire::h1::framing;
use probegate_fuzz::wire::h1::response::ResponseParser;
use probegate_fuzz::wire::head::{FieldView, Name, ResponseHead};

fn parts<'a>(head: &ResponseHead, bytes: &'a [u8]) -> (u16, &'a [u8], &'static str, Vec<(&'a [u8], &'a [u8])>) {
    let fields = head.fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))).collect();
    (head.status, head.reason.of(bytes), head.version.as_str(), fields)
}

fuzz_target!(|bytes: &[u8]| {
    let mut head = ResponseHead::default();
    let whole = ResponseParser::default().advance(bytes, &mut head);

    let (mut parser, mut pieces) = (ResponseParser::default(), ResponseHead::default());
    let mut slow = Ok(false);
    for end in 1..=bytes.len() {
        slow = parser.advance(&bytes[..end], &mut pieces);
        if slow != Ok(false) {
            break;
        }
    }
    assert_eq!(whole, slow);
    if whole != Ok(true) {
        return;
    }
    assert_eq!(head.len, pieces.len);
    assert_eq!(parts(&head, bytes), parts(&pieces, bytes));
    assert!((100..600).contains(&head.status));

    let (status, _, _, fields) = parts(&head, bytes);
    let mut theirs = [httparse::EMPTY_HEADER; 256];
    let mut response = httparse::Response::new(&mut theirs);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(response.code, Some(status));
    let theirs: Vec<_> = response.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(theirs, fields);

    // An answer to HEAD has no body, and is refused where one to GET would be for its lengths.
    let view = FieldView { bytes, fields: &head.fields };
    let (to_get, to_head) = (framing::response(&head, bytes, false), framing::response(&head, bytes, true));
    assert!(matches!(to_head, None | Some(Framing::None)));
    assert!(to_head.is_some() || to_get.is_none());
    if to_get.is_some() {
        assert!(view.of(Name::ContentLength).count() + view.of(Name::TransferEncoding).count() <= 1);
    }
});

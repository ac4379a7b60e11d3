use proptest::prelude::*;

use super::*;

/// The readings as text: path, folded, rewritten.
type Readings = (String, Option<String>, Option<String>);

fn readings(path: &[u8]) -> Result<Readings, InvalidPath> {
    let mut scratch = Scratch::default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    canonicalise(path, &mut scratch).map(|c| (text(c.path), c.folded.map(text), c.rewritten.map(text)))
}

#[track_caller]
fn check(path: &str, decoded: &str, folded: Option<&str>, rewritten: Option<&str>) {
    let expected = (decoded.to_owned(), folded.map(str::to_owned), rewritten.map(str::to_owned));
    assert_eq!(readings(path.as_bytes()), Ok(expected), "{path}");
}

#[test]
fn d16_parameters_may_be_cut_before_or_after_decoding() {
    let mut scratch = Scratch::default();
    for (path, folded, cut) in [
        ("/readyz;%2f..", "/", "/readyz"),
        ("/readyz;\\..", "/", "/readyz"),
        ("/admin/users;%2f..%2f../x", "/x", "/admin/users/x"),
        ("/a;v=1/b;c", "/a/b", "/a/b"),
    ] {
        let canonical = canonicalise(path.as_bytes(), &mut scratch).unwrap();
        assert_eq!(canonical.folded, Some(folded.as_bytes()), "{path}");
        assert_eq!(canonical.cut, Some(cut.as_bytes()), "{path}");
    }
    assert_eq!(canonicalise(b"/a//b", &mut scratch).unwrap().cut, None);
}

#[test]
fn plain_paths_are_themselves() {
    for path in ["/", "/readyz", "/readyz/", "/a.b/c..d/.e", "/a/.well-known/x", "/a:@!$&'()*+,=~-_", "/\"<>^`{|}"] {
        check(path, path, None, None);
    }
}

#[test]
fn d16_an_encoded_letter_is_the_letter() {
    check("/%72eadyz", "/readyz", None, None);
    check("/r%65adyz", "/readyz", None, None);
    check("/%c3%a9", "/é", None, None);
    check("/a%20b", "/a b", None, None);
    check("/100%25", "/100%", None, None);
}

#[test]
fn d16_empty_segments_are_ambiguous() {
    check("//readyz", "//readyz", Some("/readyz"), None);
    check("/a//b", "/a//b", Some("/a/b"), None);
    check("/readyz//", "/readyz//", Some("/readyz"), None);
    check("//", "//", Some("/"), None);
}

#[test]
fn d16_dot_segments_are_removed_before_the_application_sees_them() {
    check("/x/../readyz", "/readyz", None, Some("/readyz"));
    check("/./readyz", "/readyz", None, Some("/readyz"));
    check("/x/%2e%2e/readyz", "/readyz", None, Some("/readyz"));
    check("/x/.%2E/readyz", "/readyz", None, Some("/readyz"));
    check("/x/%2e./readyz", "/readyz", None, Some("/readyz"));
    check("/%2e/readyz", "/readyz", None, Some("/readyz"));
    // RFC 3986 section 5.4.1: a final dot segment leaves a directory.
    check("/a/b/..", "/a/", None, Some("/a/"));
    check("/a/.", "/a/", None, Some("/a/"));
    check("/a/..", "/", None, Some("/"));
    check("/.", "/", None, Some("/"));
}

#[test]
fn d16_removing_dot_segments_keeps_the_spelling_of_the_rest() {
    check("/%41/x/../b%20c", "/A/b c", None, Some("/%41/b%20c"));
    check("/a/...", "/a/...", None, None);
    check("/a/.../../b", "/a/b", None, Some("/a/b"));
}

#[test]
fn d16_an_encoded_slash_is_ambiguous() {
    check("/x%2freadyz", "/x/readyz", Some("/x/readyz"), None);
    check("/%2Freadyz", "//readyz", Some("/readyz"), None);
    check("/public/..%2fadmin", "/public/../admin", Some("/admin"), None);
    check("/public%2f..%2fadmin", "/public/../admin", Some("/admin"), None);
    check("/public/%2e%2e%2fadmin", "/public/../admin", Some("/admin"), None);
}

#[test]
fn d16_a_parameter_is_ambiguous() {
    check("/readyz;x=1", "/readyz;x=1", Some("/readyz"), None);
    check("/readyz%3bx=1", "/readyz;x=1", Some("/readyz"), None);
    check("/a;b/c;d/e", "/a;b/c;d/e", Some("/a/c/e"), None);
    check("/public/..;/admin", "/public/..;/admin", Some("/admin"), None);
    check("/;/readyz", "/;/readyz", Some("/readyz"), None);
}

#[test]
fn d16_a_backslash_is_ambiguous() {
    check(r"/x\readyz", r"/x\readyz", Some("/x/readyz"), None);
    check("/x%5creadyz", r"/x\readyz", Some("/x/readyz"), None);
    check(r"/x\..\readyz", r"/x\..\readyz", Some("/readyz"), None);
}

#[test]
fn d16_double_encoding_is_ambiguous() {
    check("/%2572eadyz", "/%72eadyz", Some("/readyz"), None);
    check("/%252572eadyz", "/%2572eadyz", Some("/readyz"), None);
    check("/x/%252e%252e/readyz", "/x/%2e%2e/readyz", Some("/readyz"), None);
    check("/x%252freadyz", "/x%2freadyz", Some("/x/readyz"), None);
    check("/%25%37%32eadyz", "/%72eadyz", Some("/readyz"), None);
    check("/readyz%2500.html", "/readyz%00.html", Some("/readyz"), None);
}

#[test]
fn d16_what_has_no_meaning_is_an_error() {
    let cases: [(&[u8], InvalidPath); 27] = [
        (b"", InvalidPath::NotAbsolute),
        (b"*", InvalidPath::NotAbsolute),
        (b"readyz", InvalidPath::NotAbsolute),
        (b"%2freadyz", InvalidPath::NotAbsolute),
        (b"/%", InvalidPath::BadEscape),
        (b"/%7", InvalidPath::BadEscape),
        (b"/%zz", InvalidPath::BadEscape),
        (b"/%u0072eadyz", InvalidPath::BadEscape),
        (b"/%%37%32", InvalidPath::BadEscape),
        (b"/x%zz/../readyz", InvalidPath::BadEscape),
        (b"/readyz%00", InvalidPath::ControlByte),
        (b"/readyz%0d%0a", InvalidPath::ControlByte),
        (b"/%7f", InvalidPath::ControlByte),
        (b"/%09", InvalidPath::ControlByte),
        (b"/\0", InvalidPath::ControlByte),
        (b"/a\tb", InvalidPath::ControlByte),
        (b"/a\x7fb", InvalidPath::ControlByte),
        (b"/a b", InvalidPath::RawByte),
        (b"/a#b", InvalidPath::RawByte),
        (b"/a?b", InvalidPath::RawByte),
        (b"/\xc3\xa9", InvalidPath::RawByte),
        (b"/..", InvalidPath::AboveRoot),
        (b"/../readyz", InvalidPath::AboveRoot),
        (b"/a/../../readyz", InvalidPath::AboveRoot),
        (b"/%2e%2e/readyz", InvalidPath::AboveRoot),
        (b"//../readyz/..%2f..%2f..", InvalidPath::AboveRoot),
        (b"/..%2f..%2fetc", InvalidPath::AboveRoot),
    ];
    for (path, expected) in cases {
        assert_eq!(readings(path), Err(expected), "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn a_long_chain_of_encodings_costs_its_length() {
    let path = format!("/%{}72eadyz", "25".repeat(100_000));
    let mut scratch = Scratch::default();
    let canonical = canonicalise(path.as_bytes(), &mut scratch).unwrap();
    assert_eq!(canonical.folded, Some(b"/readyz".as_slice()));
}

/// Encodes everything but slashes and letters.
fn encode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in path {
        if byte == b'/' || byte.is_ascii_alphanumeric() {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02x}").as_bytes());
        }
    }
    out
}

/// Paths made of what is special to some server.
fn special_path() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "/", "/", ".", "..", ";", "\\", "%2f", "%2e", "%2E", "%5c", "%3b", "%25", "25", "2e", "2f", "%", "%00", "%c3",
        "a", "b", "72", "%61", "%252e", "%20",
    ]);
    prop::collection::vec(piece, 0..16).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes())
}

fn check_properties(path: &[u8]) -> Result<(), TestCaseError> {
    let mut scratch = Scratch::default();
    let Ok(Canonical { path: decoded, folded, cut: _, rewritten }) = canonicalise(path, &mut scratch) else {
        return Ok(());
    };
    prop_assert_eq!(decoded.first(), Some(&b'/'));
    let mut again = Scratch::default();
    if let Some(folded) = folded {
        prop_assert!(!folded.windows(2).any(|pair| pair == b"//"));
        // A control byte can only come out of a second decoding, and does not go in again.
        if !folded.iter().any(u8::is_ascii_control) {
            let expected = Canonical { path: folded, folded: None, cut: None, rewritten: None };
            let encoded = encode(folded);
            prop_assert_eq!(canonicalise(&encoded, &mut again), Ok(expected));
        }
    } else {
        let expected = Canonical { path: decoded, folded: None, cut: None, rewritten: None };
        let encoded = encode(decoded);
        prop_assert_eq!(canonicalise(&encoded, &mut again), Ok(expected));
    }
    if let Some(sent) = rewritten {
        let expected = Canonical { path: decoded, folded: None, cut: None, rewritten: None };
        let read = canonicalise(sent, &mut again);
        prop_assert_eq!(read.map(|c| Canonical { folded: None, cut: None, ..c }), Ok(expected));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_reading_of_an_encoded_reading_is_itself(path in special_path()) {
        check_properties(&path)?;
    }

    #[test]
    fn no_bytes_make_it_panic(mut path in prop::collection::vec(any::<u8>(), 0..40)) {
        check_properties(&path)?;
        path.insert(0, b'/');
        check_properties(&path)?;
    }
}

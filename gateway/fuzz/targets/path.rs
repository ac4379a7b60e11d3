//! Paths: what is sent upstream has the meaning that was judged, and a second look changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probegate_policies::path::{Scratch, canonicalise};

/// As an app decodes it: once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < path.len() {
        let escape = path[at] == b'%';
        let byte = || u8::from_str_radix(std::str::from_utf8(&path[at + 1..at + 3]).unwrap(), 16).unwrap();
        out.push(if escape { byte() } else { path[at] });
        at += if escape { 3 } else { 1 };
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = Scratch::default();
    let Ok(first) = canonicalise(bytes, &mut scratch) else { return };
    let sent = first.rewritten.unwrap_or(bytes).to_vec();
    let (path, folded, cut) = (first.path.to_vec(), first.folded.map(<[u8]>::to_vec), first.cut.map(<[u8]>::to_vec));

    // The app sees what was judged.
    assert_eq!(path, decoded(&sent));
    assert!(path.starts_with(b"/"));
    assert!(!path.iter().any(|&byte| byte < 0x20 || byte == 0x7f), "a control character");
    assert!(!sent.iter().any(|byte| b" #?".contains(byte)) && sent.is_ascii());
    // No dot segment is left for others to resolve.
    assert!(sent.split(|&byte| byte == b'/').all(|segment| !matches!(&*decoded(segment), b"." | b"..")));

    // A second look, and one with a used scratch, find the same.
    let mut fresh = Scratch::default();
    let again = canonicalise(&sent, &mut fresh).unwrap();
    assert_eq!((again.path, again.rewritten), (&path[..], None));
    // What only removed segments made ambiguous may not be any more; never the other way round.
    assert!(folded.is_some() || again.folded.is_none());
    let used = canonicalise(bytes, &mut scratch).unwrap();
    assert_eq!((used.path, used.folded, used.cut), (&path[..], folded.as_deref(), cut.as_deref()));

    // The generous readings are clean.
    for reading in [folded, cut].into_iter().flatten() {
        assert!(reading.starts_with(b"/"));
        assert!(reading.split(|&byte| byte == b'/').all(|segment| !matches!(segment, b"." | b"..")));
    }
});

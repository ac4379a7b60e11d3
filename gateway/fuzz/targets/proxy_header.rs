//! PROXY protocol headers: what the first bytes say is never taken back, and what follows a header changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use probegate_policies::ip;
use probegate_policies::proxy::{Header, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    for end in 0..=bytes.len() {
        match (parse(&bytes[..end]), &whole) {
            (Ok(None), _) => {}
            // Found or refused early: the same as with everything.
            (early, whole) => {
                assert_eq!(&early, whole, "{end}");
                break;
            }
        }
    }
    if let Ok(Some((header, length))) = whole {
        assert!(length <= bytes.len());
        assert_eq!(parse(&bytes[..length]), whole);
        assert_eq!(parse(&bytes[..length - 1]), Ok(None), "a header one byte shorter");
        if let Header::Relayed { source, destination } = header {
            assert_eq!(source.ip(), ip::canonical(source.ip()));
            assert_eq!(destination.ip(), ip::canonical(destination.ip()));
        }
    }
});

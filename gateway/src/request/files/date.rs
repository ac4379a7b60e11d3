//! Dates of HTTP (RFC 9110 §5.6.7), in seconds since the Unix epoch: written in the preferred format, read in all three.
//!
//! A year of two digits is one from 1970 to 2069. One whose day of the week is wrong is none.

use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999: later ones can not be written.
const LAST: u64 = 253_402_300_799;

/// Appends a time.
pub(super) fn write(unix: u64, out: &mut Vec<u8>) {
    // File systems know later times.
    let time = UNIX_EPOCH + Duration::from_secs(unix.min(LAST));
    out.extend_from_slice(httpdate::fmt_http_date(time).as_bytes());
}

/// Reads a date. `None`: it is none, or one before 1970.
pub(super) fn read(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_9110_5_6_7_the_three_formats() {
        for (text, unix) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(LAST)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("784111777", None),
            ("", None),
        ] {
            assert_eq!(read(text.as_bytes()), unix, "{text}");
        }
        assert_eq!(read(b"Sun, 06 Nov 1994 08:49:37 \xff"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(unix in any::<u64>(), near in 0_u64..4_000_000_000) {
            for unix in [unix, near] {
                let mut out = Vec::new();
                write(unix, &mut out);
                prop_assert_eq!((out.len(), read(&out)), (29, Some(unix.min(LAST))));
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in "[A-Za-z]{0,9},? ?[0-9]{0,5}[- A-Za-z]{0,9}[0-9]{0,6}[ :0-9]{0,12}( GMT)?") {
            read(text.as_bytes());
        }
    }
}

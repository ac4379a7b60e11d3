//! What a client is told about its limit: draft-ietf-httpapi-ratelimit-headers-11 and RFC 9110 section 10.2.3.
//!
//! Never a partition key (`pk`): it would tell one client the address, or the spelling of it, that it is counted under.

use super::{Decision, Quota};
use crate::text::push_decimal;

const SECOND: u64 = 1_000_000_000;

/// Appends one item of `RateLimit-Policy`, `"login";q=5;w=60`: a quota of `q` requests in a window of `w` seconds. Requests in flight have no window; there, it
/// is `"exports";q=4;qu="concurrent-requests"`.
pub fn write_policy(out: &mut Vec<u8>, name: &str, quota: &Quota) {
    push_string(out, name);
    out.extend_from_slice(b";q=");
    push_decimal(out, quota.limit().into());
    if quota.window() == 0 {
        out.extend_from_slice(b";qu=\"concurrent-requests\"");
        return;
    }
    out.extend_from_slice(b";w=");
    push_decimal(out, quota.window().div_ceil(SECOND));
}

/// Appends one item of `RateLimit`, `"login";r=0;t=42`: `r` requests remain, all of them are back in `t` seconds. Without `t` where nobody knows.
pub fn write_state(out: &mut Vec<u8>, name: &str, decision: &Decision) {
    push_string(out, name);
    out.extend_from_slice(b";r=");
    push_decimal(out, decision.remaining.into());
    if decision.reset > 0 {
        out.extend_from_slice(b";t=");
        push_decimal(out, decision.reset.div_ceil(SECOND));
    }
}

/// Appends a whole number, as the older `X-RateLimit-` fields have them.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    push_decimal(out, number);
}

/// In how many whole seconds everything is back, rounded up.
pub fn reset_seconds(decision: &Decision) -> u64 {
    decision.reset.div_ceil(SECOND)
}

/// The value of `Retry-After`: whole seconds, rounded up so that nobody is told to come too early, and at least 1.
pub fn retry_after_seconds(decision: &Decision) -> u64 {
    decision.retry_after.div_ceil(SECOND).max(1)
}

/// A string of RFC 9651 section 3.3.3. It is ASCII; anything else in a name becomes `?`.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Nearly every name is one of these.
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
            Ok(byte @ b' '..=b'~') => out.push(byte),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_examples_of_the_draft() {
        let quota = Quota::new("5/m".parse().unwrap(), 4);
        assert_eq!(written(|out| write_policy(out, "login", &quota)), r#""login";q=5;w=60"#);
        let decision = Decision { admitted: false, remaining: 0, reset: 41_000_000_001, retry_after: 1, delay: 0 };
        assert_eq!(written(|out| write_state(out, "login", &decision)), r#""login";r=0;t=42"#);
    }

    #[test]
    fn requests_in_flight_have_no_window() {
        assert_eq!(written(|out| write_policy(out, "a", &Quota::at_a_time(4))), r#""a";q=4;qu="concurrent-requests""#);
        let decision = Decision { admitted: false, remaining: 0, reset: 0, retry_after: SECOND, delay: 0 };
        assert_eq!(written(|out| write_state(out, "a", &decision)), r#""a";r=0"#);
    }

    #[test]
    fn an_interval_that_does_not_divide_shows_the_window_that_was_written() {
        let quota = Quota::new("3/s".parse().unwrap(), 2);
        assert_eq!(written(|out| write_policy(out, "a", &quota)), r#""a";q=3;w=1"#);
    }

    #[test]
    fn names_cannot_break_out_of_their_string() {
        let quota = Quota::new("1/s".parse().unwrap(), 0);
        assert_eq!(written(|out| write_policy(out, "a\"\\\r\nö", &quota)), r#""a\"\\???";q=1;w=1"#);
    }

    #[test]
    fn retry_after_is_rounded_up_and_at_least_one_second() {
        for (retry_after, seconds) in [(0, 1), (1, 1), (SECOND, 1), (SECOND + 1, 2), (42 * SECOND, 42)] {
            let decision = Decision { admitted: false, remaining: 0, reset: 0, retry_after, delay: 0 };
            assert_eq!(retry_after_seconds(&decision), seconds);
        }
    }
}

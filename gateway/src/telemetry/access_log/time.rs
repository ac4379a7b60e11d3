//! The time of a line: written once a second, and copied from then on.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::DateTime;

/// How a line tells its second: in the words of `strftime`.
pub(super) type Form = &'static str;

/// The second that was told last.
#[derive(Debug, Default)]
pub(super) struct Second {
    told: Option<(u64, Form)>,
    text: String,
}

impl Second {
    /// The second of `now` in this form, UTC, and what has passed of it. A clock that stands before 1970 tells that year.
    pub(super) fn tell(&mut self, now: SystemTime, form: Form) -> (&[u8], Duration) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let this = Some((since.as_secs(), form));
        if self.told != this {
            self.text.clear();
            let second = i64::try_from(since.as_secs()).ok().and_then(|second| DateTime::from_timestamp(second, 0));
            let written = write!(self.text, "{}", second.unwrap_or_default().format(form));
            debug_assert!(written.is_ok(), "memory takes everything");
            self.told = this;
        }
        (self.text.as_bytes(), Duration::from_nanos(since.subsec_nanos().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_is_told_as_it_is_in_either_form() {
        let mut second = Second::default();
        let mut tell = |millis, form| {
            let (text, rest) = second.tell(UNIX_EPOCH + Duration::from_millis(millis), form);
            (String::from_utf8(text.to_vec()).unwrap(), rest.as_millis())
        };
        assert_eq!(tell(951_782_400_000, "%d/%b/%Y:%H:%M:%S"), ("29/Feb/2000:00:00:00".into(), 0));
        assert_eq!(tell(951_782_400_999, "%d/%b/%Y:%H:%M:%S"), ("29/Feb/2000:00:00:00".into(), 999));
        assert_eq!(tell(951_782_400_999, "%Y-%m-%d"), ("2000-02-29".into(), 999));
        assert_eq!(tell(951_782_401_000, "%Y-%m-%d %S"), ("2000-02-29 01".into(), 0));
        // Set back.
        assert_eq!(tell(951_782_400_001, "%Y-%m-%d %S"), ("2000-02-29 00".into(), 1));
        assert_eq!(second.tell(UNIX_EPOCH - Duration::from_secs(1), "%Y").0, b"1970");
    }
}

//! The `Date` field, formatted once a second.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use crate::state::unix_time;

/// Length of an IMF-fixdate (RFC 9110 §5.6.7).
pub const LEN: usize = 29;

/// The current date.
#[derive(Debug)]
pub struct Date {
    text: Cell<[u8; LEN]>,
    second: Cell<u64>,
}

impl Default for Date {
    fn default() -> Self {
        let date = Self { text: Cell::new([b' '; LEN]), second: Cell::new(0) };
        date.refresh();
        date
    }
}

impl Date {
    /// The date as it was at the last tick.
    #[inline]
    pub fn get(&self) -> [u8; LEN] {
        self.text.get()
    }

    /// Reads the clock. `true`: the date is another one now.
    pub fn refresh(&self) -> bool {
        let second = unix_time();
        if second == self.second.get() {
            return false;
        }
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        if let Ok(text) = text.as_bytes().try_into() {
            self.text.set(text);
            self.second.set(second);
        }
        true
    }
}

//! Words for amounts: durations, sizes, counts, dates, rates.

use std::num::NonZeroUsize;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};
use probegate_policies::limit::{InvalidRate, Rate};
use schemars::{Schema, json_schema};

use super::{Invalid, Word};

/// A duration with a unit. Zero is allowed here; who has no use for it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl Word for Seconds {
    const EXPECTED: &'static str = "a duration such as `10s`, `800ms`, `5m` or `1h`";
    const PATTERN: &'static str = "^[0-9]+(ms|s|m|h|d)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let (digits, unit) = number_and_unit(text);
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Self::from_number(number),
            "min" | "mins" => return Err(invalid().hint(format!("write `{number}m`"))),
            "sec" | "secs" => return Err(invalid().hint(format!("write `{number}s`"))),
            _ => return Err(invalid()),
        };
        // A year is beyond every deadline, and far below anything that could overflow later on.
        match number.checked_mul(factor).filter(|&millis| millis <= 366 * 24 * 3_600_000) {
            Some(millis) => Ok(Self(Duration::from_millis(millis))),
            None => Err(Invalid::new(format!("`{text}` is longer than a year"))),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Err(Invalid::new(format!("the duration `{number}` has no unit"))
            .hint(format!("write `{number}s`, or `{number}ms` for milliseconds")))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl Word for Size {
    const EXPECTED: &'static str = "a size such as `1MiB`, `32KiB` or a number of bytes";
    const PATTERN: &'static str = "^[0-9]+(KiB|MiB|GiB)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let (digits, unit) = number_and_unit(text);
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        let shift = match unit {
            "" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            // nginx's `m` and a disk maker's `MB` differ by 5 %. Guessing would be wrong for one of them.
            other => {
                let hint = match other.to_ascii_lowercase().chars().next() {
                    Some('k') => format!("write `{number}KiB`"),
                    Some('m') => format!("write `{number}MiB`"),
                    Some('g') => format!("write `{number}GiB`"),
                    _ => return Err(invalid()),
                };
                return Err(invalid().hint(hint));
            }
        };
        match number.checked_mul(1 << shift) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(Invalid::new(format!("`{text}` is more than the gateway can count"))),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Ok(Self(number))
    }

    fn schema() -> Schema {
        json_schema!({"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": Self::PATTERN}]})
    }
}

/// A plain whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl Word for Count {
    const EXPECTED: &'static str = "a whole number from 0 on";
    const PATTERN: &'static str = "^[0-9]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(if text.parse::<u64>().is_ok() { invalid.hint("write it without quotes") } else { invalid })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Ok(Self(number))
    }

    fn schema() -> Schema {
        json_schema!({"type": "integer", "minimum": 0})
    }
}

/// A number of worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workers {
    /// As many as the program may run at a time.
    Auto,
    /// This many.
    Exactly(NonZeroUsize),
}

impl Word for Workers {
    const EXPECTED: &'static str = "`auto` or a number of threads";
    const PATTERN: &'static str = "^auto$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text == "auto" { Ok(Self::Auto) } else { Err(Invalid::expected::<Self>(&format!("`{text}`"))) }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        match usize::try_from(number).ok().and_then(NonZeroUsize::new) {
            Some(number) if number.get() <= 1024 => Ok(Self::Exactly(number)),
            Some(_) => Err(Invalid::new(format!("`{number}` worker threads are more than the 1024 that are allowed"))
                .hint("write `auto`")),
            None => Err(Invalid::new("a gateway without worker threads answers nobody").hint("write `auto`")),
        }
    }

    fn schema() -> Schema {
        json_schema!({"oneOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}]})
    }
}

/// A moment, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date(pub(crate) u64);

impl Word for Date {
    const EXPECTED: &'static str = "a date such as `2026-12-31` or `2026-12-31T08:00:00+02:00`";
    const PATTERN: &'static str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T.+)?$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let seconds = match text.parse::<NaiveDate>() {
            Ok(date) => date.and_time(NaiveTime::MIN).and_utc().timestamp(),
            Err(_) => DateTime::parse_from_rfc3339(text).map_err(|_| invalid())?.timestamp(),
        };
        u64::try_from(seconds).map(Self).map_err(|_| Invalid::new(format!("`{text}` is before 1970")))
    }
}

impl Word for Rate {
    const EXPECTED: &'static str = "a rate such as `10/s`, `5/m` or `100/5m`";
    const PATTERN: &'static str = "^[0-9]+/[0-9]*(s|m|h|d)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse().map_err(|reason| {
            let invalid = match reason {
                InvalidRate::Syntax => Invalid::expected::<Self>(&format!("`{text}`")),
                _ => Invalid::new(format!("`{text}` is not a rate: {reason}")),
            };
            match text
                .split_once("r/")
                .filter(|(count, _)| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
            {
                // nginx's spelling.
                Some((count, unit)) => invalid.hint(format!("write `{count}/{unit}`")),
                None => invalid.hint(format!("write {}", Self::EXPECTED)),
            }
        })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Err(Invalid::new(format!("the rate `{number}` has no period"))
            .hint(format!("write `{number}/s` or `{number}/m`")))
    }
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

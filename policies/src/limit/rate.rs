//! Rates as people write them.

use std::fmt;
use std::str::FromStr;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const MAX_PER_SECOND: u64 = 1_000_000;

/// A number of requests in a period: `10/s`, `100/5m`.
///
/// The units are `s`, `m`, `h` and `d`, and nothing else. django-ratelimit reads `5/M` as five a second and `5/month`
/// as five a minute; here both are errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many requests.
    pub count: u32,
    /// In how many nanoseconds.
    pub period: u64,
}

/// Why a text is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// Not a number, a slash and a period.
    #[error("a rate is a number, '/' and a period, such as 10/s, 5/m or 100/5m")]
    Syntax,
    /// Something else than one of the four units.
    #[error("the unit of a rate is s, m, h or d")]
    Unit,
    /// `0/s` would refuse everybody; a rule that denies says so better.
    #[error("a rate of 0 admits nobody; deny with an access rule instead")]
    ZeroCount,
    /// Division by nothing.
    #[error("the period of a rate must be at least one second")]
    ZeroPeriod,
    /// Longer than a process can be trusted to remember.
    #[error("the period of a rate must be at most one day")]
    PeriodTooLong,
    /// Beyond what is worth counting.
    #[error("a rate must be at most 1000000 requests per second")]
    TooFast,
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let (count, period) = text.split_once('/').ok_or(InvalidRate::Syntax)?;
        let count = number(count)?;
        let digits = period.bytes().take_while(u8::is_ascii_digit).count();
        let (factor, unit) = period.split_at_checked(digits).ok_or(InvalidRate::Syntax)?;
        let factor = if factor.is_empty() { 1 } else { number(factor)? };
        let unit = match unit {
            "s" => SECOND,
            "m" => 60 * SECOND,
            "h" => 3600 * SECOND,
            "d" => DAY,
            "" => return Err(InvalidRate::Syntax),
            _ => return Err(InvalidRate::Unit),
        };
        let period = factor.saturating_mul(unit);
        if count == 0 {
            Err(InvalidRate::ZeroCount)
        } else if period == 0 {
            Err(InvalidRate::ZeroPeriod)
        } else if period > DAY {
            Err(InvalidRate::PeriodTooLong)
        } else if count > MAX_PER_SECOND * (period / SECOND) {
            Err(InvalidRate::TooFast)
        } else {
            let count = u32::try_from(count).map_err(|_| InvalidRate::TooFast)?;
            Ok(Self { count, period })
        }
    }
}

/// Digits and nothing else; what does not fit is larger than every bound.
fn number(digits: &str) -> Result<u64, InvalidRate> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidRate::Syntax);
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// In the largest unit that leaves a whole number: `100/5m`, and `10/s` without a factor of 1.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", DAY), ("h", 3600 * SECOND), ("m", 60 * SECOND), ("s", SECOND)];
        let whole = |&(_, unit): &(&str, u64)| self.period >= unit && self.period.is_multiple_of(unit);
        match units.into_iter().find(whole) {
            Some((name, unit)) if self.period == unit => write!(f, "{}/{name}", self.count),
            Some((name, unit)) => write!(f, "{}/{}{name}", self.count, self.period / unit),
            None => write!(f, "{}/{}ns", self.count, self.period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written_alike() {
        let cases = [
            ("10/s", 10, SECOND),
            ("5/m", 5, 60 * SECOND),
            ("100/h", 100, 3600 * SECOND),
            ("1/d", 1, DAY),
            ("100/5m", 100, 300 * SECOND),
            ("7/90s", 7, 90 * SECOND),
            ("1000000/s", 1_000_000, SECOND),
        ];
        for (text, count, period) in cases {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate { count, period });
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!("100/300s".parse::<Rate>().unwrap().to_string(), "100/5m");
    }

    #[test]
    fn what_other_systems_guess_is_an_error() {
        let cases = [
            ("5", InvalidRate::Syntax),
            ("/s", InvalidRate::Syntax),
            ("5/", InvalidRate::Syntax),
            ("100/300", InvalidRate::Syntax),
            ("-5/s", InvalidRate::Syntax),
            ("+5/s", InvalidRate::Syntax),
            ("5r/s", InvalidRate::Syntax),
            ("5/M", InvalidRate::Unit),
            ("5/min", InvalidRate::Unit),
            ("5/month", InvalidRate::Unit),
            ("5/week", InvalidRate::Unit),
            ("5/ s", InvalidRate::Unit),
            ("0/s", InvalidRate::ZeroCount),
            ("5/0m", InvalidRate::ZeroPeriod),
            ("5/2d", InvalidRate::PeriodTooLong),
            ("5/99999999999999999999d", InvalidRate::PeriodTooLong),
            ("1000001/s", InvalidRate::TooFast),
            ("99999999999999999999/d", InvalidRate::TooFast),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Rate>(), Err(expected), "{text}");
        }
    }
}

//! Dates of HTTP (RFC 9110 §5.6.7): written in the preferred format, read in all three.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: u64 = 86_400;

/// Appends a time in seconds since the Unix epoch, as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn write(unix: u64, out: &mut Vec<u8>) {
    let days = unix / DAY;
    let (year, month, day) = civil(days);
    let weekday = DAYS.get(usize::try_from(days % 7).unwrap_or(0)).copied().unwrap_or_default();
    let month = MONTHS.get(month).copied().unwrap_or_default();
    let mut two = |number: u64, before: &str| {
        out.extend_from_slice(before.as_bytes());
        out.extend(digits(number % 100));
    };
    two(day, &[weekday, ", "].concat());
    two(year / 100, &[" ", month, " "].concat());
    two(year, "");
    two(unix % DAY / 3600, " ");
    two(unix % 3600 / 60, ":");
    two(unix % 60, ":");
    out.extend_from_slice(b" GMT");
}

fn digits(number: u64) -> [u8; 2] {
    [number / 10, number % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0))
}

/// Reads a date, as seconds since the Unix epoch. `now` tells which century a year of two digits means (RFC 9110 §5.6.7: never more than fifty
/// years ahead). `None`: it is none, or one before 1970.
pub fn read(text: &[u8], now: u64) -> Option<u64> {
    let comma = text.iter().position(|&byte| byte == b',');
    let (day, month, year, time) = match comma {
        // `Sun, 06 Nov 1994 08:49:37 GMT`, the one that is written today.
        Some(3) => {
            let [
                day @ ..,
                b' ',
                m,
                o,
                n,
                b' ',
                y1,
                y2,
                y3,
                y4,
                b' ',
                h1,
                h2,
                b':',
                m1,
                m2,
                b':',
                s1,
                s2,
                b' ',
                b'G',
                b'M',
                b'T',
            ] = text.get(5..).filter(|_| text.get(4) == Some(&b' '))?
            else {
                return None;
            };
            let day = number(day, 2)?;
            (day, [*m, *o, *n], number(&[*y1, *y2, *y3, *y4], 4)?, [[*h1, *h2], [*m1, *m2], [*s1, *s2]])
        }
        // `Sunday, 06-Nov-94 08:49:37 GMT`, obsolete.
        Some(comma @ 6..=9) => {
            let [
                b' ',
                d1,
                d2,
                b'-',
                m,
                o,
                n,
                b'-',
                y1,
                y2,
                b' ',
                h1,
                h2,
                b':',
                m1,
                m2,
                b':',
                s1,
                s2,
                b' ',
                b'G',
                b'M',
                b'T',
            ] = text.get(comma + 1..)?
            else {
                return None;
            };
            let this = civil(now / DAY).0;
            let mut year = this - this % 100 + number(&[*y1, *y2], 2)?;
            if year > this + 50 {
                year -= 100;
            }
            (number(&[*d1, *d2], 2)?, [*m, *o, *n], year, [[*h1, *h2], [*m1, *m2], [*s1, *s2]])
        }
        // `Sun Nov  6 08:49:37 1994`, obsolete.
        None => {
            let [_, _, _, b' ', m, o, n, b' ', d1, d2, b' ', h1, h2, b':', m1, m2, b':', s1, s2, b' ', y1, y2, y3, y4] =
                text
            else {
                return None;
            };
            let day = if *d1 == b' ' { number(&[*d2], 1)? } else { number(&[*d1, *d2], 2)? };
            (day, [*m, *o, *n], number(&[*y1, *y2, *y3, *y4], 4)?, [[*h1, *h2], [*m1, *m2], [*s1, *s2]])
        }
        Some(_) => return None,
    };
    let month = MONTHS.iter().position(|name| name.as_bytes() == month)?;
    let [hours, minutes, seconds] = time.map(|two| number(&two, 2));
    let (hours, minutes, seconds) = (hours?, minutes?, seconds?);
    // A leap second is the second after it.
    if !(1..=month_length(year, month)).contains(&day) || year < 1970 || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    Some(days(year, month, day) * DAY + hours * 3600 + minutes * 60 + seconds)
}

fn number(text: &[u8], length: usize) -> Option<u64> {
    (text.len() == length && text.iter().all(u8::is_ascii_digit))
        .then(|| text.iter().fold(0, |number, &digit| number * 10 + u64::from(digit - b'0')))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_length(year: u64, month: usize) -> u64 {
    match month {
        1 => 28 + u64::from(is_leap(year)),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1 January 1970 to this one; the month counts from 0, the day from 1.
fn days(year: u64, month: usize, day: u64) -> u64 {
    let before = year - 1;
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let months: u64 = (0..month).map(|month| month_length(year, month)).sum();
    (year - 1970) * 365 + leaps(before) - leaps(1969) + months + day - 1
}

/// Year, month from 0 and day from 1 of a day since 1 January 1970.
fn civil(days: u64) -> (u64, usize, u64) {
    // Days since 1 March of the year 0, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 2 } else { march_month - 10 };
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, usize::try_from(month).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn text(unix: u64) -> String {
        let mut out = Vec::new();
        write(unix, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rfc_9110_5_6_7_three_formats_of_one_date() {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(date.as_bytes(), NOW), Some(784_111_777), "{date}");
        }
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
    }

    #[test]
    fn what_is_no_date() {
        for bad in [
            "",
            "0",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun,06 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "784111777",
            "Sun, 06 Nov 99999 08:49:37 GMT",
            "Sun, 29 Feb 2100 00:00:00 GMT",
        ] {
            assert_eq!(read(bad.as_bytes(), NOW), None, "{bad}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_the_nearest_past_one() {
        // NOW is in 2027.
        assert!(read(b"Sunday, 06-Nov-76 08:49:37 GMT", NOW) > read(b"Sunday, 06-Nov-26 08:49:37 GMT", NOW));
        assert_eq!(read(b"Sunday, 06-Nov-78 08:49:37 GMT", NOW), read(b"Mon, 06 Nov 1978 08:49:37 GMT", NOW));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(unix in 0_u64..250_000_000_000) {
            let text = text(unix);
            prop_assert_eq!(text.len(), 29);
            prop_assert_eq!(read(text.as_bytes(), NOW), Some(unix));
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            read(&text, NOW);
        }
    }
}

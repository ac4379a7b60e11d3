//! `Range` (RFC 9110 §14.2): which bytes of a file are asked for.

/// More ranges than this in one request are answered with the whole file (RFC 9110 §14.2: many small ranges are an attack, or a mistake).
const MOST: usize = 64;

/// Bytes of a file, from `start` up to but without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first byte.
    pub start: u64,
    /// One behind the last byte.
    pub end: u64,
}

impl Window {
    /// How many bytes.
    pub fn length(self) -> u64 {
        self.end - self.start
    }
}

/// What a `Range` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Everything: in units that nobody here knows, or in more bytes than there are.
    Whole,
    /// One part.
    One(Window),
    /// Several parts in the order they were asked for; together not longer than the file.
    Several(Vec<Window>),
    /// Nothing that is there, or nothing that can be understood.
    Nothing,
}

/// Reads the value of a `Range` about a file of so many bytes.
///
/// As nginx does: ranges that together are longer than the file, as overlapping ones may be, are answered with the whole file, so that a small
/// request can not have a large file sent many times; syntax that is none is refused rather than ignored.
pub fn read(value: &[u8], length: u64) -> Asked {
    let Some(list) = value.get(6..).filter(|_| value.get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes=")))
    else {
        return Asked::Whole;
    };
    let (mut first, mut more) = (None, Vec::new());
    let (mut total, mut count) = (0_u64, 0_usize);
    for spec in list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty()) {
        let window = match one(spec, length) {
            Ok(Some(window)) => window,
            // Not there: the others may be.
            Ok(None) => continue,
            Err(Invalid) => return Asked::Nothing,
        };
        total = total.saturating_add(window.length());
        count += 1;
        if total > length || count > MOST {
            return Asked::Whole;
        }
        match first {
            None => first = Some(window),
            Some(_) => more.push(window),
        }
    }
    match first {
        None => Asked::Nothing,
        Some(window) if more.is_empty() => Asked::One(window),
        Some(window) => {
            more.insert(0, window);
            Asked::Several(more)
        }
    }
}

/// It is not a range.
struct Invalid;

/// `first-last`, `first-` or `-count`. `None`: no byte of it is there.
fn one(spec: &[u8], length: u64) -> Result<Option<Window>, Invalid> {
    let dash = memchr::memchr(b'-', spec).ok_or(Invalid)?;
    let (from, to) = spec.split_at(dash);
    let (from, to) = (from.trim_ascii_end(), to.get(1..).unwrap_or_default().trim_ascii_start());
    let window = match (from.is_empty(), to.is_empty()) {
        (true, true) => return Err(Invalid),
        (true, false) => Window { start: length.saturating_sub(number(to)?), end: length },
        (false, true) => Window { start: number(from)?, end: length },
        (false, false) => Window { start: number(from)?, end: number(to)?.saturating_add(1).min(length) },
    };
    Ok((window.start < window.end).then_some(window))
}

/// A number that a length can have; one that does not fit is as large as any.
fn number(digits: &[u8]) -> Result<u64, Invalid> {
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0')).ok_or(Invalid)?;
        Ok(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(start: u64, end: u64) -> Window {
        Window { start, end }
    }

    #[test]
    fn rfc_9110_14_1_2_ranges_of_bytes() {
        for (value, asked) in [
            ("bytes=0-499", Asked::One(window(0, 500))),
            ("bytes=500-999", Asked::One(window(500, 1000))),
            ("bytes=-500", Asked::One(window(500, 1000))),
            ("bytes=999-", Asked::One(window(999, 1000))),
            ("bytes=0-", Asked::One(window(0, 1000))),
            ("BYTES=0-0", Asked::One(window(0, 1))),
            ("bytes=0-99999", Asked::One(window(0, 1000))),
            ("bytes=-99999", Asked::One(window(0, 1000))),
            ("bytes=0-99999999999999999999999", Asked::One(window(0, 1000))),
            ("bytes=1000-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=5-3", Asked::Nothing),
            ("bytes=5-3, 0-0", Asked::One(window(0, 1))),
            ("bytes=0-0,-1", Asked::Several(vec![window(0, 1), window(999, 1000)])),
            ("bytes= 0 - 0 , 5-6 ,", Asked::Several(vec![window(0, 1), window(5, 7)])),
            ("bytes=0-0,2000-", Asked::One(window(0, 1))),
            ("bytes=0-600,500-999", Asked::Whole),
            ("bytes=0-,0-", Asked::Whole),
            ("bytes=0-600,300-400", Asked::Several(vec![window(0, 601), window(300, 401)])),
            ("items=0-1", Asked::Whole),
            ("bytes", Asked::Whole),
            ("bytes:0-1", Asked::Whole),
            ("bytes=", Asked::Nothing),
            ("bytes=-", Asked::Nothing),
            ("bytes=a-b", Asked::Nothing),
            ("bytes=0-5x", Asked::Nothing),
            ("bytes=1", Asked::Nothing),
            ("bytes=--1", Asked::Nothing),
            ("bytes=0x0-1", Asked::Nothing),
        ] {
            assert_eq!(read(value.as_bytes(), 1000), asked, "{value}");
        }
        for value in ["bytes=0-", "bytes=-5", "bytes=0-0"] {
            assert_eq!(read(value.as_bytes(), 0), Asked::Nothing, "{value} of nothing");
        }
    }

    #[test]
    fn many_small_ranges_are_the_whole_file() {
        let ranges = |count: usize| {
            let list: Vec<_> = (0..count).map(|at| format!("{0}-{0}", at * 2)).collect();
            read(format!("bytes={}", list.join(",")).as_bytes(), 1 << 20)
        };
        assert!(matches!(ranges(MOST), Asked::Several(windows) if windows.len() == MOST));
        assert_eq!(ranges(MOST + 1), Asked::Whole);
    }

    proptest! {
        #[test]
        fn windows_lie_in_the_file_and_are_not_longer_than_it(value in "bytes=[0-9,\\- ]{0,60}", length in 0_u64..2000) {
            let windows = match read(value.as_bytes(), length) {
                Asked::One(window) => vec![window],
                Asked::Several(windows) => {
                    prop_assert!(windows.len() > 1);
                    windows
                }
                Asked::Whole | Asked::Nothing => Vec::new(),
            };
            for window in &windows {
                prop_assert!(window.start < window.end && window.end <= length);
            }
            prop_assert!(windows.iter().map(|window| window.length()).sum::<u64>() <= length);
        }

        #[test]
        fn no_bytes_make_it_panic(value in prop::collection::vec(any::<u8>(), 0..40), length in any::<u64>()) {
            read(&value, length);
            read(&[&b"bytes="[..], &value].concat(), length);
        }
    }
}

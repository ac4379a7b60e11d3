//! Preconditions (RFC 9110 §13.2.2) and, behind them, which part of a file is asked for.

use super::etag::{self, Meta, Tag};
use super::range::{self, Window};
use crate::fields::Fields;

/// What becomes of a request for a file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 200, all of it.
    Whole,
    /// 206, one part.
    Part(Window),
    /// 206, several parts in `multipart/byteranges`.
    Parts(Vec<Window>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// The fields of a request that are about what is already known of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Asked<'a> {
    if_match: bool,
    if_none_match: bool,
    if_modified_since: Option<&'a [u8]>,
    if_unmodified_since: Option<&'a [u8]>,
    if_range: Option<&'a [u8]>,
    range: Option<&'a [u8]>,
    /// More than one `Range`: nobody knows which one is meant.
    ranges: usize,
}

/// Judges a request for a file. `to_get`: the method is GET; `date` reads a date of HTTP, as seconds since the Unix epoch.
///
/// The steps and their order are those of RFC 9110 §13.2.2: `If-Match`, or without it `If-Unmodified-Since`; `If-None-Match`, or without it
/// `If-Modified-Since`; then `Range`, for GET alone (§14.2), if `If-Range` lets it.
pub fn judge<F: Fields + ?Sized>(
    fields: &F,
    meta: &Meta,
    tag: &Tag,
    to_get: bool,
    date: impl Fn(&[u8]) -> Option<u64>,
) -> Decision {
    let asked = collect(fields);
    let named = |name: &str, weakly: bool| {
        let mut values = fields.lines().filter(|(line, _)| line.eq_ignore_ascii_case(name.as_bytes()));
        values.any(|(_, list)| etag::is_in(list, tag.as_bytes(), weakly))
    };
    if asked.if_match {
        if !named("if-match", false) {
            return Decision::PreconditionFailed;
        }
    } else if let Some(date) = asked.if_unmodified_since.and_then(&date)
        && meta.modified > date
    {
        return Decision::PreconditionFailed;
    }
    if asked.if_none_match {
        if named("if-none-match", true) {
            return Decision::NotModified;
        }
    } else if let Some(date) = asked.if_modified_since.and_then(&date)
        && meta.modified <= date
    {
        return Decision::NotModified;
    }
    let Some(range) = asked.range.filter(|_| to_get && asked.ranges == 1) else { return Decision::Whole };
    if let Some(validator) = asked.if_range
        && !is_current(validator, meta, tag, date)
    {
        return Decision::Whole;
    }
    match range::read(range, meta.length) {
        range::Asked::Whole => Decision::Whole,
        range::Asked::One(window) => Decision::Part(window),
        range::Asked::Several(windows) => Decision::Parts(windows),
        range::Asked::Nothing => Decision::Unsatisfiable,
    }
}

/// One pass over the fields; most requests have none of these.
fn collect<F: Fields + ?Sized>(fields: &F) -> Asked<'_> {
    let mut asked = Asked::default();
    for (name, value) in fields.lines() {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            5 if is("range") => {
                asked.range = Some(value);
                asked.ranges += 1;
            }
            8 if is("if-match") => asked.if_match = true,
            8 if is("if-range") => asked.if_range = Some(value),
            13 if is("if-none-match") => asked.if_none_match = true,
            17 if is("if-modified-since") => asked.if_modified_since = Some(value),
            19 if is("if-unmodified-since") => asked.if_unmodified_since = Some(value),
            _ => {}
        }
    }
    asked
}

/// Whether the validator of an `If-Range` is the one the file has (RFC 9110 §13.1.5: a tag strongly, a date exactly).
fn is_current(validator: &[u8], meta: &Meta, tag: &Tag, date: impl Fn(&[u8]) -> Option<u64>) -> bool {
    if validator.starts_with(b"\"") {
        return validator == tag.as_bytes();
    }
    date(validator) == Some(meta.modified)
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta = Meta { length: 1000, modified: 784_111_777 };
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn decide(fields: &[(&str, &str)], to_get: bool) -> Decision {
        let tag = Tag::of(&META, "");
        assert_eq!(tag.as_bytes(), format!("\"{:x}-3e8\"", META.modified).as_bytes());
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| {
                (
                    name.as_bytes().to_vec(),
                    value.replace("TAG", std::str::from_utf8(tag.as_bytes()).unwrap()).into_bytes(),
                )
            })
            .collect();
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let date = |text: &[u8]| {
            let second = [EARLIER, DATE, LATER].iter().position(|known| known.as_bytes() == text)?;
            Some(META.modified - 1 + second as u64)
        };
        judge(&*fields, &META, &tag, to_get, date)
    }

    fn part(start: u64, end: u64) -> Decision {
        Decision::Part(Window { start, end })
    }

    #[test]
    fn rfc_9110_13_1_each_condition_alone() {
        use Decision::{NotModified, PreconditionFailed, Whole};
        for (name, value, decision) in [
            ("If-Match", "TAG", Whole),
            ("If-Match", "*", Whole),
            ("If-Match", "\"x\"", PreconditionFailed),
            ("If-Match", "W/TAG", PreconditionFailed),
            ("If-Match", "\"x\", TAG", Whole),
            ("If-Unmodified-Since", DATE, Whole),
            ("If-Unmodified-Since", LATER, Whole),
            ("If-Unmodified-Since", EARLIER, PreconditionFailed),
            ("If-Unmodified-Since", "yesterday", Whole),
            ("If-None-Match", "TAG", NotModified),
            ("If-None-Match", "W/TAG", NotModified),
            ("If-None-Match", "*", NotModified),
            ("If-None-Match", "\"x\"", Whole),
            ("IF-MODIFIED-SINCE", DATE, NotModified),
            ("If-Modified-Since", LATER, NotModified),
            ("If-Modified-Since", EARLIER, Whole),
            ("If-Modified-Since", "0", Whole),
        ] {
            assert_eq!(decide(&[(name, value)], true), decision, "{name}: {value}");
            assert_eq!(decide(&[(name, value)], false), decision, "{name}: {value}");
        }
    }

    #[test]
    fn rfc_9110_13_2_2_the_order_of_conditions() {
        use Decision::{NotModified, PreconditionFailed, Whole};
        // Tags speak louder than dates.
        assert_eq!(decide(&[("If-Match", "TAG"), ("If-Unmodified-Since", EARLIER)], true), Whole);
        assert_eq!(decide(&[("If-None-Match", "\"x\""), ("If-Modified-Since", DATE)], true), Whole);
        assert_eq!(decide(&[("If-None-Match", "TAG"), ("If-Modified-Since", EARLIER)], true), NotModified);
        assert_eq!(decide(&[("If-Match", "\"x\""), ("If-None-Match", "TAG")], true), PreconditionFailed);
        assert_eq!(decide(&[("If-Match", "TAG"), ("If-None-Match", "TAG")], true), NotModified);
        // Several lines are one list.
        assert_eq!(decide(&[("If-None-Match", "\"x\""), ("If-None-Match", "TAG")], true), NotModified);
        // The part that is asked for comes last.
        assert_eq!(decide(&[("If-None-Match", "TAG"), ("Range", "bytes=0-0")], true), NotModified);
        assert_eq!(decide(&[("If-Match", "\"x\""), ("Range", "bytes=5000-")], true), PreconditionFailed);
    }

    #[test]
    fn rfc_9110_14_ranges_are_for_get_and_if_range_decides() {
        use Decision::{Unsatisfiable, Whole};
        assert_eq!(decide(&[("Range", "bytes=0-9")], true), part(0, 10));
        assert_eq!(decide(&[("Range", "bytes=0-9")], false), Whole);
        assert_eq!(decide(&[("Range", "bytes=1000-")], true), Unsatisfiable);
        assert_eq!(decide(&[("Range", "bytes=0-9"), ("Range", "bytes=5-6")], true), Whole);
        for (validator, decision) in [
            ("TAG", part(0, 10)),
            (DATE, part(0, 10)),
            ("W/TAG", Whole),
            ("\"x\"", Whole),
            (EARLIER, Whole),
            (LATER, Whole),
            ("TAG, TAG", Whole),
            ("nonsense", Whole),
        ] {
            assert_eq!(decide(&[("Range", "bytes=0-9"), ("If-Range", validator)], true), decision, "{validator}");
        }
        // Without a range it says nothing; with a wrong one of both, a range that is not there does not matter.
        assert_eq!(decide(&[("If-Range", "TAG")], true), Whole);
        assert_eq!(decide(&[("Range", "bytes=1000-"), ("If-Range", "\"x\"")], true), Whole);
    }
}

//! Header fields as the rules see them: names to ask for, and lines to look through.
//!
//! Invariant: a [`FieldName`] never holds `_`. WSGI servers fold `X_Probe_Token` into `X-Probe-Token`, so a line named
//! with `_` could stand in for another one behind us (D16). No rule can ask for such a name, therefore no rule can be
//! fooled by its twin: the line is as if absent, and the gateway drops it ([`has_underscore`]).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The name of a field (RFC 9110 section 5.1), lower-case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldName(Cow<'static, str>);

impl FieldName {
    /// A name known when the crate is built; it must be a lower-case token without `_`.
    pub(crate) const fn from_static(lower_case: &'static str) -> Self {
        Self(Cow::Borrowed(lower_case))
    }

    /// The lower-case name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The lower-case name as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether a name as received is this one; names are case-insensitive (RFC 9110 section 5.1).
    #[inline]
    pub fn matches(&self, wire: &[u8]) -> bool {
        self.as_bytes().eq_ignore_ascii_case(wire)
    }
}

impl FromStr for FieldName {
    type Err = InvalidFieldName;

    fn from_str(text: &str) -> Result<Self, InvalidFieldName> {
        if text.is_empty() {
            return Err(InvalidFieldName::Empty);
        }
        if has_underscore(text.as_bytes()) {
            return Err(InvalidFieldName::Underscore);
        }
        match text.chars().find(|&c| !u8::try_from(c).is_ok_and(is_token_byte)) {
            Some(found) => Err(InvalidFieldName::NotAToken { found }),
            None => Ok(Self(Cow::Owned(text.to_ascii_lowercase()))),
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no [`FieldName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFieldName {
    /// Nothing was written.
    #[error("a field name must not be empty")]
    Empty,
    /// Outside the token alphabet of RFC 9110 section 5.6.2.
    #[error("a field name must not contain {found:?}")]
    NotAToken {
        /// The first character that does not belong.
        found: char,
    },
    /// Such a line is dropped on arrival, so that a rule that reads it could never match.
    #[error("a field name must not contain '_': applications read it as '-'")]
    Underscore,
}

/// What a field says that may be sent once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only<'a> {
    /// No line has the name.
    Absent,
    /// The value of the one line.
    One(&'a [u8]),
    /// More than one line: whichever is read, somebody else reads the other.
    Several,
}

/// The header fields of one request.
pub trait Fields {
    /// Every field line in wire order: the name as received, and the value without surrounding whitespace.
    fn lines(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + Clone;

    /// The values of every line with this name, in wire order.
    #[inline]
    fn values<'a>(&'a self, name: &'a FieldName) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone {
        self.lines().filter_map(move |(wire, value)| name.matches(wire).then_some(value))
    }

    /// The value of a field that may be sent once only.
    #[inline]
    fn only<'a>(&'a self, name: &'a FieldName) -> Only<'a> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Only::Absent,
            (Some(value), None) => Only::One(value),
            (Some(_), Some(_)) => Only::Several,
        }
    }
}

impl Fields for [(&[u8], &[u8])] {
    fn lines(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + Clone {
        self.iter().copied()
    }
}

/// For tests and `explain`, where somebody typed the fields.
impl Fields for Vec<(String, String)> {
    fn lines(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + Clone {
        self.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

/// Whether a name as received holds `_`, which applications may read as `-` (D16). The gateway drops such lines.
#[inline]
pub fn has_underscore(name: &[u8]) -> bool {
    // Names are short: a search that prepares itself would take longer than looking.
    name.contains(&b'_')
}

/// `tchar` of RFC 9110 section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FieldName {
        text.parse().unwrap()
    }

    #[test]
    fn names_compare_without_case_and_print_lower_case() {
        assert!(name("X-Probe-Token").matches(b"x-PROBE-token"));
        assert!(!name("X-Probe-Token").matches(b"x-probe-tokens"));
        assert_eq!(name("X-Probe-Token").to_string(), "x-probe-token");
    }

    #[test]
    fn names_are_tokens() {
        assert_eq!("".parse::<FieldName>(), Err(InvalidFieldName::Empty));
        assert_eq!("X Probe".parse::<FieldName>(), Err(InvalidFieldName::NotAToken { found: ' ' }));
        assert_eq!("X-Pröbe".parse::<FieldName>(), Err(InvalidFieldName::NotAToken { found: 'ö' }));
        assert_eq!("X:".parse::<FieldName>(), Err(InvalidFieldName::NotAToken { found: ':' }));
        assert!("!#$%&'*+-.^`|~09azAZ".parse::<FieldName>().is_ok());
    }

    #[test]
    fn d16_a_name_with_an_underscore_matches_nothing() {
        assert_eq!("X_Probe_Token".parse::<FieldName>(), Err(InvalidFieldName::Underscore));
        let fields: &[(&[u8], &[u8])] = &[(b"X_Probe_Token", b"twin"), (b"X-Probe_Token", b"twin")];
        assert_eq!(fields.only(&name("X-Probe-Token")), Only::Absent);
        assert!(fields.lines().all(|(wire, _)| has_underscore(wire)));
    }

    #[test]
    fn values_keep_wire_order_and_only_counts_lines() {
        let fields =
            vec![("A".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned()), ("a".to_owned(), "3".to_owned())];
        assert_eq!(fields.values(&name("a")).collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(fields.values(&name("a")).rev().collect::<Vec<_>>(), [b"3", b"1"]);
        assert_eq!(fields.only(&name("a")), Only::Several);
        assert_eq!(fields.only(&name("B")), Only::One(b"2"));
        assert_eq!(fields.only(&name("c")), Only::Absent);
    }
}

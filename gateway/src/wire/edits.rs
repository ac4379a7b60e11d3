//! Fields of answers that do not pass, or that are put on answers without them: how the configuration has them.

use std::borrow::Cow;
use std::sync::Arc;

use probegate_policies::fields::FieldName;

use super::h1::trailers;

/// What happens to the fields of an answer besides what every answer gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits {
    /// Fields of the app's that do not pass, neither before the body nor behind it.
    pub drops: Arc<[FieldName]>,
    /// Groups of field lines with CRLF, an empty line behind each: a group is put on answers that have none of its fields.
    pub defaults: Arc<[u8]>,
}

impl Edits {
    /// Whether a field of the app's passes.
    pub fn keeps(&self, name: &[u8]) -> bool {
        !self.drops.iter().any(|dropped| dropped.matches(name))
    }

    /// The default lines that belong on an answer. `has` tells whether it has a field.
    pub fn missing(&self, has: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = &[u8]> {
        Groups(&self.defaults).filter(move |group| !lines(group).any(|line| has(name(line))))
    }

    /// A trailer section without what does not pass.
    pub fn trailers<'a>(&self, section: &'a [u8]) -> Cow<'a, [u8]> {
        trailers::without(section, &self.drops)
    }
}

/// Field lines, each with its CRLF.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// The name in a field line.
pub fn name(line: &[u8]) -> &[u8] {
    line.split(|&byte| byte == b':').next().unwrap_or_default()
}

/// The groups of a text, each without the empty line behind it.
struct Groups<'a>(&'a [u8]);

impl<'a> Iterator for Groups<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memmem::find(self.0, b"\r\n\r\n")?;
        let (group, rest) = self.0.split_at_checked(end + 2)?;
        self.0 = rest.get(2..).unwrap_or_default();
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_comes_whole_or_not_at_all() {
        let edits = Edits {
            drops: Arc::new(["x-debug".parse().unwrap()]),
            defaults: Arc::from(&b"A: 1\r\n\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: x\r\n\r\n"[..]),
        };
        let missing = |known: &'static [u8]| -> Vec<u8> {
            edits.missing(move |name| name.eq_ignore_ascii_case(known)).flatten().copied().collect()
        };
        assert_eq!(missing(b"other"), b"A: 1\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: x\r\n");
        assert_eq!(missing(b"content-security-policy"), b"A: 1\r\n");
        assert_eq!(missing(b"a"), b"X-Frame-Options: DENY\r\nContent-Security-Policy: x\r\n");
        assert!(edits.keeps(b"X-Other") && !edits.keeps(b"X-DEBUG"));
        assert_eq!(&*edits.trailers(b"X-Debug: 1\r\nX-Sum: 2\r\n"), b"X-Sum: 2\r\n");
    }
}

//! Why a word cannot be read, in two ways: for whoever reads the file, with what was found; and for whoever may not, without, as it may be a secret that
//! stands in the wrong place.
//!
//! Invariant: what is told without what was found consists of texts of this program. Whatever was put together while it ran may hold what was found.

use std::borrow::Cow;
use std::fmt;

use super::Word;

/// Why a word cannot be read, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct Invalid {
    message: Cow<'static, str>,
    /// The same without what was found.
    discreet: Option<Cow<'static, str>>,
    hint: Option<Cow<'static, str>>,
}

/// serde's errors are text. This keeps parts of one apart: message, hint, and the two without what was found.
const APART: char = '\u{1f}';

/// What is said instead of a message that may hold what was found.
pub(in crate::config) const UNTOLD: &str = "the value cannot be used";

impl Invalid {
    /// A message of its own.
    pub(in crate::config) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), discreet: None, hint: None }
    }

    /// "expected a duration such as `10s`, found `soon`"
    pub(in crate::config) fn expected<T: Word>(found: &str) -> Self {
        Self::found(T::EXPECTED, found)
    }

    /// The same for what is no [`Word`].
    pub(in crate::config) fn found(wanted: &'static str, found: &str) -> Self {
        let discreet = Some(format!("expected {wanted}").into());
        Self { discreet, ..Self::new(format!("expected {wanted}, found {found}")) }
    }

    /// "a server has no path, found `http://app/path`"
    pub(in crate::config) fn but(so: &'static str, found: &str) -> Self {
        Self { discreet: Some(so.into()), ..Self::new(format!("{so}, found {found}")) }
    }

    /// With what to write instead.
    pub(in crate::config) fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Message and hint, for whoever reads the file.
    pub(in crate::config) fn parts(&self) -> (&str, Option<&str>) {
        (&self.message, self.hint.as_deref())
    }

    /// Without what was found.
    fn discreet(&self) -> Said {
        let message = match (&self.discreet, &self.message) {
            (Some(discreet), _) => discreet.clone().into_owned(),
            (None, Cow::Borrowed(message)) => (*message).to_owned(),
            (None, Cow::Owned(_)) => UNTOLD.to_owned(),
        };
        let hint = self.hint.as_ref().and_then(|hint| match hint {
            Cow::Borrowed(hint) => Some((*hint).to_owned()),
            Cow::Owned(_) => None,
        });
        Said { message, hint }
    }
}

/// What is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Said {
    pub(in crate::config) message: String,
    pub(in crate::config) hint: Option<String>,
}

impl Said {
    /// Both ways of what [`fmt::Display`] wrote; `None`: another wrote it.
    pub(in crate::config) fn of(text: &str) -> Option<(Self, Self)> {
        let mut parts = text.split(APART);
        let mut said = || {
            let (message, hint) = (parts.next()?, parts.next()?);
            Some(Self { message: message.to_owned(), hint: (!hint.is_empty()).then(|| hint.to_owned()) })
        };
        Some((said()?, said()?))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was found may hold anything.
        let plain = |text: &str| text.replace(APART, "\u{fffd}");
        let discreet = self.discreet();
        let hint = self.hint.as_deref().unwrap_or_default();
        write!(f, "{}{APART}{}{APART}", plain(&self.message), plain(hint))?;
        write!(f, "{}{APART}{}", discreet.message, discreet.hint.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(invalid: &Invalid) -> [(String, Option<String>); 2] {
        let (whole, discreet) = Said::of(&invalid.to_string()).unwrap();
        [whole, discreet].map(|said| (said.message, said.hint))
    }

    #[test]
    fn what_was_found_is_told_to_whoever_reads_the_file_alone() {
        let found = String::from("secret");
        let text = |text: &str| (text.to_owned(), None);
        let invalid = Invalid::found("a list", &found).hint(format!("write `[{found}]`"));
        assert_eq!(
            both(&invalid),
            [
                ("expected a list, found secret".to_owned(), Some("write `[secret]`".to_owned())),
                text("expected a list")
            ]
        );
        let invalid = Invalid::new(format!("`{found}` is too long")).hint("write less");
        assert_eq!(both(&invalid)[1], (UNTOLD.to_owned(), Some("write less".to_owned())));
        assert_eq!(both(&Invalid::new("there is too much"))[1], text("there is too much"));
        let odd = Invalid::found("a list", "a\u{1f}b\u{1f}c").hint("x\u{1f}y".to_owned());
        assert_eq!(both(&odd)[1], text("expected a list"));
    }
}

//! Words about pages for errors.

use std::path::PathBuf;

use schemars::{Schema, json_schema};

use super::{FilePath, Invalid, Word};
use crate::plan::Statuses;

/// The file with a page, or `off` for the one that is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageWord(pub(crate) Option<PathBuf>);

impl Word for PageWord {
    const EXPECTED: &'static str = "the path of a file with a page, or `off` for the one that is built in";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "off" => Ok(Self(None)),
            _ => match FilePath::from_text(text) {
                Ok(FilePath(path)) => Ok(Self(Some(path))),
                Err(_) => Err(Invalid::expected::<Self>("an empty text")),
            },
        }
    }

    fn from_bool(value: bool) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{value}`"));
        Err(if value { invalid } else { invalid.hint("write `off`") })
    }
}

/// Statuses of errors: one, or a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusesWord(pub(crate) Statuses);

impl Word for StatusesWord {
    const EXPECTED: &'static str = "the status of an error such as `503`, or `4xx` or `5xx`";
    const PATTERN: &'static str = "^([45]xx|[45][0-9][0-9])$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "4xx" => Ok(Self(Statuses::Class(4))),
            "5xx" => Ok(Self(Statuses::Class(5))),
            "4XX" | "4**" | "40x" => Err(invalid().hint("write `4xx`")),
            "5XX" | "5**" | "50x" => Err(invalid().hint("write `5xx`")),
            "1xx" | "2xx" | "3xx" => Err(invalid().hint("what is no error has nothing that a page could stand for")),
            _ if text.len() == 3 => match text.parse() {
                Ok(status @ 400..=599) => Ok(Self(Statuses::One(status))),
                Ok(100..=399) => Err(invalid().hint("what is no error has nothing that a page could stand for")),
                _ => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Self::from_text(&number.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"oneOf": [{"enum": ["4xx", "5xx"]}, {"type": "integer", "minimum": 400, "maximum": 599}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_are_statuses_of_errors() {
        assert_eq!(StatusesWord::from_number(502), Ok(StatusesWord(Statuses::One(502))));
        assert_eq!(StatusesWord::from_text("404"), Ok(StatusesWord(Statuses::One(404))));
        assert_eq!(StatusesWord::from_text("5xx"), Ok(StatusesWord(Statuses::Class(5))));
        for number in [0, 100, 101, 200, 204, 304, 399, 600, 999, 5000] {
            StatusesWord::from_number(number).unwrap_err();
        }
        for text in ["", "5", "6xx", "3xx", "0404", "+404", "default", "５xx"] {
            StatusesWord::from_text(text).unwrap_err();
        }
        assert_eq!(PageWord::from_text("off"), Ok(PageWord(None)));
        PageWord::from_text("").unwrap_err();
    }
}

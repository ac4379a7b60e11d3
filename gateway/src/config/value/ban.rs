//! Words about bans.

use schemars::{Schema, json_schema};

use super::{Invalid, Word};

/// A status that says something about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffenceStatus(pub(crate) u16);

impl Word for OffenceStatus {
    const EXPECTED: &'static str = "a status from 400 to 499 such as `404`";
    const PATTERN: &'static str = "^4[0-9][0-9]$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(if text == "4xx" { invalid.hint("write each of them: `[401, 403, 404]`") } else { invalid })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{number}`"));
        match u16::try_from(number) {
            Ok(status @ 400..=499) => Ok(Self(status)),
            Ok(500..=599) => Err(invalid().hint("a failure of the app is not the client's offence")),
            _ => Err(invalid()),
        }
    }

    fn schema() -> Schema {
        json_schema!({"type": "integer", "minimum": 400, "maximum": 499})
    }
}

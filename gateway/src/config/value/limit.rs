//! Words about limits.

use schemars::{Schema, json_schema};

use super::choice::choice;
use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::Delay;

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitKeyWord {
    /// The client's address.
    ClientIp,
}

choice!(LimitKeyWord, "`client_ip`", "client_ip" => Self::ClientIp);

/// Who is let in out of the burst, and has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DelayWord(pub(crate) Delay);

impl Word for DelayWord {
    const EXPECTED: &'static str = "`none`, `all` or a number of requests that do not wait";
    const PATTERN: &'static str = "^(none|all)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "none" => Ok(Self(Delay::None)),
            "all" => Ok(Self(Delay::After(0))),
            "nodelay" | "off" | "no" => Err(invalid.hint("write `none`")),
            _ => Err(match suggest::nearest(text, ["none", "all"]) {
                Some(word) => invalid.hint(format!("did you mean `{word}`?")),
                None => invalid,
            }),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{number}`"));
        if number == 0 {
            return Err(invalid().hint("write `all` to have all of the burst wait, `none` for nobody"));
        }
        u32::try_from(number).map(|count| Self(Delay::After(count))).map_err(|_| invalid())
    }

    fn schema() -> Schema {
        json_schema!({"oneOf": [{"enum": ["none", "all"]}, {"type": "integer", "minimum": 1}]})
    }
}

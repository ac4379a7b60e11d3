//! Words of which only a few exist.

use probegate_policies::client::Missing;
use schemars::{Schema, json_schema};

use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::{AccessFormat, Deny};

/// A word out of a few.
macro_rules! choice {
    ($type:ty, $expected:literal, $($word:literal => $value:expr),+ $(,)?) => {
        impl Word for $type {
            const EXPECTED: &'static str = $expected;
            const PATTERN: &'static str = "^[a-z_]+$";

            fn from_text(text: &str) -> Result<Self, Invalid> {
                match text {
                    $($word => Ok($value),)+
                    _ => {
                        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
                        Err(match suggest::nearest(text, [$($word),+]) {
                            Some(word) => invalid.hint(format!("did you mean `{word}`?")),
                            None => invalid,
                        })
                    }
                }
            }

            fn from_number(number: u64) -> Result<Self, Invalid> {
                Self::from_text(&number.to_string())
            }

            fn schema() -> Schema {
                json_schema!({"enum": [$($word),+]})
            }
        }
    };
}

pub(super) use choice;

/// Who is the client when a trusted proxy names none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MissingWord(pub(crate) Missing);

choice!(MissingWord, "`unknown` or `peer`", "unknown" => Self(Missing::Unknown), "peer" => Self(Missing::Peer));

/// Who answers a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServeWord {
    /// The gateway.
    Answer,
    /// The app.
    Forward,
}

choice!(ServeWord, "`forward` or `answer`", "forward" => Self::Forward, "answer" => Self::Answer);

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListenerWord {
    /// Everything.
    All,
    /// Probes.
    Probes,
}

choice!(ListenerWord, "`all` or `probes`", "all" => Self::All, "probes" => Self::Probes);

/// What becomes of the query of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryWord {
    /// The app gets it.
    Pass,
    /// It does not.
    Drop,
}

choice!(QueryWord, "`pass` or `drop`", "pass" => Self::Pass, "drop" => Self::Drop);

/// What a refused client sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DenyWord(pub(crate) Deny);

impl Word for DenyWord {
    const EXPECTED: &'static str = "`403`, `404` or `close`";
    const PATTERN: &'static str = "^close$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "close" => Ok(Self(Deny::Close)),
            "403" => Ok(Self(Deny::Forbidden)),
            "404" => Ok(Self(Deny::Hidden)),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{number}`"));
        match number {
            403 => Ok(Self(Deny::Forbidden)),
            404 => Ok(Self(Deny::Hidden)),
            444 => Err(invalid().hint("nginx's 444 is written `close`")),
            _ => Err(invalid()),
        }
    }

    fn schema() -> Schema {
        json_schema!({"enum": [403, 404, "403", "404", "close"]})
    }
}

choice!(AccessFormat, "`json`, `combined` or `off`", "json" => Self::Json, "combined" => Self::Combined, "off" => Self::Off);

/// A protocol that a client may switch to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade(pub(crate) Box<str>);

impl Word for Upgrade {
    const EXPECTED: &'static str = "a protocol name such as `websocket`";
    const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._/-]*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let name = text.to_ascii_lowercase();
        match name.as_str() {
            // A tunnel of HTTP/2 inside the connection would carry requests that nothing here has judged.
            "h2c" | "h2" | "http/2" | "http/2.0" => {
                Err(Invalid::new(format!("upgrades to `{text}` would carry requests past every rule"))
                    .hint("remove it"))
            }
            "ws" | "wss" => Err(Invalid::expected::<Self>(&format!("`{text}`")).hint("did you mean `websocket`?")),
            _ if !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte)) =>
            {
                Ok(Self(name.into()))
            }
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }
}

/// An HTTP method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method(pub(crate) Box<str>);

impl Word for Method {
    const EXPECTED: &'static str = "a method such as `POST`";
    const PATTERN: &'static str = "^[A-Z][A-Z-]*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        const COMMON: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let upper = text.to_ascii_uppercase();
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        if upper.is_empty() || !upper.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            return Err(invalid);
        }
        // Methods are case-sensitive (RFC 9110 9.1): `post` would never match.
        if upper != text {
            return Err(invalid.hint(format!("write `{upper}`")));
        }
        match suggest::nearest(text, COMMON) {
            Some(method) if method != text && upper.len() == method.len() => {
                Err(invalid.hint(format!("did you mean `{method}`?")))
            }
            _ => Ok(Self(upper.into())),
        }
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag(pub(crate) bool);

impl Word for Flag {
    const EXPECTED: &'static str = "`true` or `false`";
    const PATTERN: &'static str = "^(true|false)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" => invalid.hint("write `true`, without quotes"),
            "no" | "off" | "false" => invalid.hint("write `false`, without quotes"),
            _ => invalid,
        })
    }

    fn from_bool(value: bool) -> Result<Self, Invalid> {
        Ok(Self(value))
    }

    fn schema() -> Schema {
        json_schema!({"type": "boolean"})
    }
}

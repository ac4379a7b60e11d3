//! Words about limits.

use probegate_policies::limit::Algorithm;
use schemars::{Schema, json_schema};

use super::choice::choice;
use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::{Delay, Telling};

/// Something that requests have in common, and that needs no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitPartWord {
    /// The client's address.
    ClientIp,
    /// The path.
    Path,
    /// The method.
    Method,
    /// The host.
    Host,
    /// The service.
    Service,
    /// The route.
    Route,
    /// The token that let it in.
    Token,
    /// The client's certificate.
    ClientCertificate,
}

impl Word for LimitPartWord {
    const EXPECTED: &'static str = "`client_ip`, `path`, `method`, `host`, `service`, `route`, `token`, `client_certificate` or a mapping such as \
                                    `{header: X-Tenant}`";
    const PATTERN: &'static str = "^[a-z_]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        const WORDS: [(&str, LimitPartWord); 8] = [
            ("client_ip", LimitPartWord::ClientIp),
            ("path", LimitPartWord::Path),
            ("method", LimitPartWord::Method),
            ("host", LimitPartWord::Host),
            ("service", LimitPartWord::Service),
            ("route", LimitPartWord::Route),
            ("token", LimitPartWord::Token),
            ("client_certificate", LimitPartWord::ClientCertificate),
        ];
        if let Some((_, word)) = WORDS.iter().find(|(name, _)| *name == text) {
            return Ok(*word);
        }
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(match text {
            // Other systems' names.
            "ip" | "remote_addr" | "client" | "user_or_ip" => invalid.hint("write `client_ip`"),
            "header" | "cookie" | "query" => invalid.hint(format!("write `{{{text}: NAME}}`")),
            "user" => {
                invalid.hint("who is logged in is known to the app alone; write `{cookie: sessionid}` for a session")
            }
            _ => match suggest::nearest(text, WORDS.map(|(name, _)| name)) {
                Some(word) => invalid.hint(format!("did you mean `{word}`?")),
                None => {
                    invalid.hint(format!("write `{{header: {text}}}` for a header, `{{cookie: {text}}}` for a cookie"))
                }
            },
        })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Self::from_text(&number.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"enum": ["client_ip", "path", "method", "host", "service", "route", "token", "client_certificate"]})
    }
}

/// A group of methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodsWord {
    /// Every method.
    All,
    /// Those that change something.
    Unsafe,
}

impl Word for MethodsWord {
    const EXPECTED: &'static str = "`ALL`, `UNSAFE` or a list such as `[POST, PUT]`";
    const PATTERN: &'static str = "^(ALL|UNSAFE)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "ALL" => Ok(Self::All),
            "UNSAFE" => Ok(Self::Unsafe),
            _ => {
                let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
                Err(match text.to_ascii_uppercase().as_str() {
                    upper @ ("ALL" | "UNSAFE") => invalid.hint(format!("write `{upper}`")),
                    upper => invalid.hint(format!("write `[{upper}]` for one method")),
                })
            }
        }
    }

    fn schema() -> Schema {
        json_schema!({"enum": ["ALL", "UNSAFE"]})
    }
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlgorithmWord(pub(crate) Algorithm);

choice!(AlgorithmWord, "`gcra` or `fixed_window`", "gcra" => Self(Algorithm::Gcra), "fixed_window" => Self(Algorithm::FixedWindow));

/// What a limit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModeWord {
    /// It refuses.
    Enforce,
    /// It counts.
    Shadow,
}

choice!(ModeWord, "`enforce` or `shadow`", "enforce" => Self::Enforce, "shadow" => Self::Shadow);

/// When a client is told what it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TellingWord(pub(crate) Telling);

choice!(
    TellingWord,
    "`refused`, `always` or `never`",
    "refused" => Self(Telling::Refused),
    "always" => Self(Telling::Always),
    "never" => Self(Telling::Never),
);

/// The status of a final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16);

impl Word for Status {
    const EXPECTED: &'static str = "the status of an answer such as `401`";
    const PATTERN: &'static str = "^[2-5][0-9][0-9]$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(match text {
            "4xx" | "4**" => invalid.hint("write each of them: `[400, 401, 403]`"),
            _ => invalid,
        })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        match u16::try_from(number) {
            Ok(status @ 200..=599) => Ok(Self(status)),
            _ => Err(Invalid::expected::<Self>(&format!("`{number}`"))),
        }
    }

    fn schema() -> Schema {
        json_schema!({"type": "integer", "minimum": 200, "maximum": 599})
    }
}

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

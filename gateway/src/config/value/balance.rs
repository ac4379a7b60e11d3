//! Words about the choice of a server, and about what is sent again.

use schemars::{Schema, json_schema};

use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::Methods;

/// Who is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BalanceWord {
    /// The one of two with less to do.
    LeastInFlight,
    /// In turn.
    RoundRobin,
}

impl Word for BalanceWord {
    const EXPECTED: &'static str = "`least_in_flight`, `round_robin` or a mapping such as `{hash: client_ip}`";
    const PATTERN: &'static str = "^(least_in_flight|round_robin)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "least_in_flight" => Ok(Self::LeastInFlight),
            "round_robin" => Ok(Self::RoundRobin),
            // nginx's and others' names.
            "least_conn" | "least_connections" | "leastconn" | "p2c" | "random" => {
                Err(invalid.hint("write `least_in_flight`"))
            }
            "roundrobin" | "rr" | "weighted" => Err(invalid.hint("write `round_robin`")),
            "ip_hash" | "client_ip" | "source" => Err(invalid.hint("write `{hash: client_ip}`")),
            "sticky" | "cookie" => Err(invalid.hint("write `{hash: {cookie: sessionid}}`")),
            _ => Err(match suggest::nearest(text, ["least_in_flight", "round_robin"]) {
                Some(word) => invalid.hint(format!("did you mean `{word}`?")),
                None => invalid,
            }),
        }
    }

    fn schema() -> Schema {
        json_schema!({"enum": ["least_in_flight", "round_robin"]})
    }
}

/// The name of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieName(pub(crate) Box<str>);

impl Word for CookieName {
    const EXPECTED: &'static str = "the name of a cookie such as `sessionid`";
    const PATTERN: &'static str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
        if !text.is_empty() && text.bytes().all(token) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::expected::<Self>(&format!("`{text}`")))
    }
}

/// A share in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percent(pub(crate) u32);

impl Word for Percent {
    const EXPECTED: &'static str = "a share such as `20%`";
    const PATTERN: &'static str = "^[0-9]+%$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let number = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).ok_or_else(invalid)?;
        if number > 100 {
            return Err(Invalid::new(format!("`{text}` is more than everything")).hint("write `100%` at the most"));
        }
        Ok(Self(number))
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{number}`"));
        Err(if number <= 100 { invalid.hint(format!("write `{number}%`")) } else { invalid })
    }
}

/// A status that means that a server could not do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailureStatus(pub(crate) u16);

impl Word for FailureStatus {
    const EXPECTED: &'static str = "a status of a failure such as `503`";
    const PATTERN: &'static str = "^[45][0-9][0-9]$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(match text {
            "5xx" | "5**" => invalid.hint("write each of them: `[500, 502, 503, 504]`"),
            _ => invalid,
        })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        match u16::try_from(number) {
            Ok(status @ 400..=599) => Ok(Self(status)),
            _ => Err(Invalid::expected::<Self>(&format!("`{number}`"))),
        }
    }

    fn schema() -> Schema {
        json_schema!({"type": "integer", "minimum": 400, "maximum": 599})
    }
}

/// What makes that a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryWord {
    /// There was no answer in time.
    Timeout,
    /// The answer has this status.
    Status(u16),
}

impl Word for RetryWord {
    const EXPECTED: &'static str = "`timeout` or a status of a failure such as `503`";
    const PATTERN: &'static str = "^timeout$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "timeout" => Ok(Self::Timeout),
            "error" | "connect" => Err(Invalid::expected::<Self>(&format!("`{text}`"))
                .hint("a server that cannot be connected to is passed over in any case")),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        let status = FailureStatus::from_number(number);
        status
            .map(|FailureStatus(status)| Self::Status(status))
            .map_err(|_| Invalid::expected::<Self>(&format!("`{number}`")))
    }

    fn schema() -> Schema {
        json_schema!({"oneOf": [{"const": "timeout"}, {"type": "integer", "minimum": 400, "maximum": 599}]})
    }
}

/// A method whose requests may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryMethod(pub(crate) &'static str);

impl Word for RetryMethod {
    const EXPECTED: &'static str = "an idempotent method: `GET`, `HEAD`, `OPTIONS`, `PUT` or `DELETE`";
    const PATTERN: &'static str = "^(GET|HEAD|OPTIONS|PUT|DELETE)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let found = Methods::NAMES.into_iter().find(|name| *name == text);
        found.map(Self).ok_or_else(|| {
            let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
            match text {
                "POST" | "PATCH" => invalid.hint(
                    "whoever sends these twice may order twice: they go to one server only, unless it never got them",
                ),
                _ => invalid,
            }
        })
    }
}

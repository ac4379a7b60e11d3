//! Words about TLS, certificates and protocols.

use schemars::{Schema, json_schema};

use super::{Invalid, Word};
use crate::config::suggest;
use crate::plan::{Challenge, ServerHeader, UpstreamProtocol};

/// A name as it stands in a certificate: no port, no wildcard, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DomainName(pub(crate) Box<str>);

impl Word for DomainName {
    const EXPECTED: &'static str = "a name such as `shop.example.com`";
    const PATTERN: &'static str = "^[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)*\\.?$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() <= 253 && name.split('.').all(label) {
            return Ok(Self(name.into()));
        }
        Err(match (text.strip_prefix("*."), text.split_once("://"), text.split_once(':')) {
            (Some(rest), ..) => invalid().hint(format!("a wildcard stands for no single name; write `{rest}`")),
            (_, Some((_, rest)), _) => invalid().hint(format!("write `{}`", rest.trim_end_matches('/'))),
            (_, _, Some((name, _))) => invalid().hint(format!("a certificate has no port; write `{name}`")),
            _ => invalid(),
        })
    }
}

/// The URL of an ACME directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcmeDirectory(pub(crate) Box<str>);

impl AcmeDirectory {
    /// Let's Encrypt's.
    pub(crate) fn production() -> Self {
        Self("https://acme-v02.api.letsencrypt.org/directory".into())
    }

    fn staging() -> Self {
        Self("https://acme-staging-v02.api.letsencrypt.org/directory".into())
    }
}

impl Word for AcmeDirectory {
    const EXPECTED: &'static str = "`production`, `staging` or the URL of an ACME directory";
    const PATTERN: &'static str = "^(production|staging|https://.+)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "production" => Ok(Self::production()),
            "staging" => Ok(Self::staging()),
            _ if text.starts_with("https://") && text.len() > 8 && !text.contains(char::is_whitespace) => {
                Ok(Self(text.into()))
            }
            _ if text.starts_with("http://") => Err(invalid.hint("authorities are asked over HTTPS only")),
            _ => Err(match suggest::nearest(text, ["production", "staging"]) {
                Some(word) => invalid.hint(format!("did you mean `{word}`?")),
                None => invalid,
            }),
        }
    }
}

/// How control over a name is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChallengeWord(pub(crate) Challenge);

impl Word for ChallengeWord {
    const EXPECTED: &'static str = "`http-01` or `tls-alpn-01`";
    const PATTERN: &'static str = "^(http-01|tls-alpn-01)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "http-01" => Ok(Self(Challenge::Http01)),
            "tls-alpn-01" => Ok(Self(Challenge::TlsAlpn01)),
            "dns-01" => {
                Err(invalid.hint("`dns-01` is not there; a certificate from another client works as `cert` and `key`"))
            }
            _ => Err(invalid),
        }
    }

    fn schema() -> Schema {
        json_schema!({"enum": ["http-01", "tls-alpn-01"]})
    }
}

/// Whether, and to which port, requests are redirected to HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedirectWord(pub(crate) Option<u16>);

impl Word for RedirectWord {
    const EXPECTED: &'static str = "`true`, `false` or a port";
    const PATTERN: &'static str = "^$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        Err(match text {
            "yes" | "on" | "true" => invalid.hint("write `true`, without quotes"),
            "no" | "off" | "false" => invalid.hint("write `false`, without quotes"),
            _ if text.parse::<u16>().is_ok() => invalid.hint(format!("write `{text}`, without quotes")),
            _ => invalid,
        })
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        match u16::try_from(number) {
            Ok(port @ 1..) => Ok(Self(Some(port))),
            _ => Err(Invalid::expected::<Self>(&format!("`{number}`"))),
        }
    }

    fn from_bool(value: bool) -> Result<Self, Invalid> {
        Ok(Self(value.then_some(443)))
    }

    fn schema() -> Schema {
        json_schema!({"oneOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}]})
    }
}

/// The protocol an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolWord(pub(crate) UpstreamProtocol);

impl Word for ProtocolWord {
    const EXPECTED: &'static str = "`http1` or `http2`";
    const PATTERN: &'static str = "^http[12]$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "http1" => Ok(Self(UpstreamProtocol::Http1)),
            "http2" => Ok(Self(UpstreamProtocol::Http2)),
            "h2" | "h2c" | "grpc" | "HTTP/2" => Err(invalid.hint("write `http2`")),
            "http" | "h1" | "HTTP/1.1" => Err(invalid.hint("write `http1`")),
            _ => Err(invalid),
        }
    }

    fn schema() -> Schema {
        json_schema!({"enum": ["http1", "http2"]})
    }
}

/// What becomes of `Server` in answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerHeaderWord(pub(crate) ServerHeader);

impl Word for ServerHeaderWord {
    const EXPECTED: &'static str = "`off`, `pass` or a text such as `shop`";
    const PATTERN: &'static str = "^[!-~]([ -~]*[!-~])?$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "off" => Ok(Self(ServerHeader::Off)),
            "pass" => Ok(Self(ServerHeader::Pass)),
            _ if !text.is_empty()
                && text.trim() == text
                && text.len() <= 256
                && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) =>
            {
                Ok(Self(ServerHeader::Text(text.into())))
            }
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }
}

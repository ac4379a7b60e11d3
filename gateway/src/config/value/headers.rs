//! Words about headers that have presets.

use probegate_policies::cors::{InvalidOrigin, OriginPattern};
use schemars::{Schema, json_schema};

use super::{FieldText, Invalid, Word};

/// A header's value, or `off` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueOrOff(pub(crate) Option<Box<str>>);

impl Word for ValueOrOff {
    const EXPECTED: &'static str = "a header's value, or `off`";
    const PATTERN: &'static str = "^[!-~]([ -~]*[!-~])?$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "off" => Ok(Self(None)),
            _ if !text.is_empty() && text.trim() == text && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
                Ok(Self(Some(text.into())))
            }
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }

    fn from_bool(value: bool) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{value}`"));
        Err(invalid.hint(if value { "leave the key out to get its default" } else { "write `off`" }))
    }
}

/// Who may show pages in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramesWord {
    /// Nobody.
    Deny,
    /// Pages of the same origin.
    SameOrigin,
    /// Nothing is said.
    Off,
}

impl Word for FramesWord {
    const EXPECTED: &'static str = "`deny`, `same_origin` or `off`";
    const PATTERN: &'static str = "^(deny|same_origin|off)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "deny" => Ok(Self::Deny),
            "same_origin" => Ok(Self::SameOrigin),
            "off" => Ok(Self::Off),
            _ => Err(match text.to_ascii_lowercase().replace('-', "_").as_str() {
                "deny" | "none" => invalid.hint("write `deny`"),
                "sameorigin" | "same_origin" | "self" => invalid.hint("write `same_origin`"),
                _ => invalid,
            }),
        }
    }

    fn schema() -> Schema {
        json_schema!({"enum": ["deny", "same_origin", "off"]})
    }
}

/// An origin, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginWord {
    /// All.
    Any,
    /// This one, or these.
    Pattern(OriginPattern),
}

impl Word for OriginWord {
    const EXPECTED: &'static str = "an origin such as `https://shop.example.com`, `https://*.example.com` or `*`";
    const PATTERN: &'static str = "^(\\*|null|[a-z][a-z0-9+.-]*://[^/?#@]+)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text == "*" {
            return Ok(Self::Any);
        }
        text.parse().map(Self::Pattern).map_err(|reason| {
            let invalid = Invalid::new(format!("`{text}` is not an origin: {reason}"));
            let meant = match reason {
                InvalidOrigin::Scheme => Some(format!("https://{text}")),
                InvalidOrigin::Path => text.split_once("://").map(|(scheme, rest)| {
                    format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or_default())
                }),
                InvalidOrigin::Case => Some(text.to_ascii_lowercase()),
                InvalidOrigin::DefaultPort => text.rsplit_once(':').map(|(origin, _)| origin.to_owned()),
                InvalidOrigin::Port | InvalidOrigin::Host => None,
            };
            match meant.filter(|meant| meant.parse::<OriginPattern>().is_ok()) {
                Some(meant) => invalid.hint(format!("write `{meant}`")),
                None => invalid,
            }
        })
    }
}

/// The name of a header, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldOrAny(pub(crate) Box<str>);

impl Word for FieldOrAny {
    const EXPECTED: &'static str = "a header name such as `X-Cart`, or `*`";
    const PATTERN: &'static str = "^[!#$%&'*+.^`|~0-9A-Za-z-]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        FieldText::from_text(text).map(|field| Self(field.text))
    }
}

/// The status of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedirectStatus(pub(crate) u16);

impl Word for RedirectStatus {
    const EXPECTED: &'static str = "`301`, `302`, `303`, `307` or `308`";
    const PATTERN: &'static str = "^30[12378]$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
        match text.parse() {
            Ok(status @ (301 | 302 | 303 | 307 | 308)) => Ok(Self(status)),
            _ => Err(match text {
                "permanent" => invalid.hint("write `301`, or `308` to keep the method"),
                "temporary" | "redirect" => invalid.hint("write `302`, or `307` to keep the method"),
                _ => invalid,
            }),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Self::from_text(&number.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"enum": [301, 302, 303, 307, 308]})
    }
}

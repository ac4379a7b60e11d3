//! Words about files that are served.

use probegate_policies::files::Pattern;
use probegate_policies::files::caching::IMMUTABLE;
use schemars::{Schema, json_schema};

use super::{Invalid, Word};
use crate::plan::Missing;

/// The name of a file below a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileName(pub(crate) Box<str>);

impl Word for FileName {
    const EXPECTED: &'static str = "the name of a file below the root, such as `index.html`";
    const PATTERN: &'static str = "^[^/\\\\].*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        if let Some(below) = text.strip_prefix('/') {
            return Err(invalid().hint(format!("write `{}`", below.trim_start_matches('/'))));
        }
        let bad = |segment: &str| matches!(segment, "" | "." | "..");
        if text.split('/').any(bad) || text.contains(['\\', '\0']) || text.chars().any(char::is_control) {
            return Err(invalid());
        }
        Ok(Self(text.into()))
    }
}

/// The name of the file that answers for a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexWord(pub(crate) Option<Box<str>>);

impl Word for IndexWord {
    const EXPECTED: &'static str = "the name of a file such as `index.html`, or `off`";
    const PATTERN: &'static str = "^[^/\\\\]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text == "off" {
            return Ok(Self(None));
        }
        match FileName::from_text(text) {
            Ok(FileName(name)) if !name.contains('/') => Ok(Self(Some(name))),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }
}

/// What happens where there is no file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AbsentWord(pub(crate) Missing);

impl Word for AbsentWord {
    const EXPECTED: &'static str = "`404` or `app`";
    const PATTERN: &'static str = "^(404|app)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text {
            "404" => Ok(Self(Missing::NotFound)),
            "app" => Ok(Self(Missing::App)),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Self::from_text(&number.to_string())
    }

    fn schema() -> Schema {
        json_schema!({"enum": [404, "404", "app"]})
    }
}

/// Which names a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamePattern(pub(crate) Pattern);

impl Word for NamePattern {
    const EXPECTED: &'static str = "a pattern such as `*.css` or `assets/*`, or `hashed`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        match text {
            "" => Err(invalid()),
            "hashed" => Ok(Self(Pattern::Hashed)),
            _ if text.contains(['[', ']', '{', '}', '^', '$', '\\', '(', ')', '|']) => {
                Err(invalid().hint("a pattern has `*` for any characters and `?` for one; it is no regular expression"))
            }
            _ => match text.strip_prefix('/') {
                Some(below) => Err(invalid().hint(format!("names are those below the root; write `{below}`"))),
                None => Ok(Self(Pattern::Glob(text.into()))),
            },
        }
    }
}

/// The value of `Cache-Control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheControlWord(pub(crate) Box<str>);

impl Word for CacheControlWord {
    const EXPECTED: &'static str = "a value of `Cache-Control` such as `no-cache`, or `immutable`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| (b' '..0x7f).contains(&byte);
        match text {
            "immutable" => Ok(Self(IMMUTABLE.into())),
            _ if !text.trim().is_empty() && text == text.trim() && text.bytes().all(plain) => {
                match text.split_once(':') {
                    Some((name, value)) if name.eq_ignore_ascii_case("cache-control") => {
                        Err(Invalid::expected::<Self>(&format!("`{text}`")).hint(format!("write `{}`", value.trim())))
                    }
                    _ => Ok(Self(text.into())),
                }
            }
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }
}

/// A media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(pub(crate) Box<str>);

impl Word for MediaType {
    const EXPECTED: &'static str = "a media type such as `model/gltf-binary`";
    const PATTERN: &'static str = "^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(;.*)?$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let essence = text.split(';').next().unwrap_or_default();
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
        };
        let plain = text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
        match essence.split_once('/') {
            Some((kind, subtype)) if token(kind) && token(subtype) && plain => Ok(Self(text.into())),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }
}

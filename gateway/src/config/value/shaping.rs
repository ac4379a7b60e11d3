//! Words about what becomes of answers on their way to the client.

use probegate_policies::encoding::{Coding, MediaPattern};
use schemars::{Schema, json_schema};

use super::choice::choice;
use super::{Invalid, Word};
use crate::config::suggest;

/// A content coding, by the name clients ask for it with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodingWord(pub(crate) Coding);

choice!(
    CodingWord,
    "`zstd`, `br` or `gzip`",
    "zstd" => Self(Coding::Zstd),
    "br" => Self(Coding::Brotli),
    "gzip" => Self(Coding::Gzip),
);

impl Word for MediaPattern {
    const EXPECTED: &'static str = "a media type such as `text/html`, `text/*` or `application/*+json`";
    const PATTERN: &'static str = "^[A-Za-z0-9!#$&^_.+-]+/([A-Za-z0-9!#$&^_.+-]+|[*]([+][A-Za-z0-9!#$&^_.+-]+)?)$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse().map_err(|_| {
            let invalid = Invalid::expected::<Self>(&format!("`{text}`"));
            match (text, text.split_once(';')) {
                ("*" | "*/*", _) => {
                    invalid.hint("name the kinds that shrink: images and archives are compressed already")
                }
                (_, Some((kind, _))) => invalid.hint(format!("parameters do not count; write `{}`", kind.trim())),
                _ => invalid,
            }
        })
    }
}

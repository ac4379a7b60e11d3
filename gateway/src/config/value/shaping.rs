//! Words about what becomes of answers on their way to the client.

use std::num::NonZeroU64;

use probegate_policies::bandwidth::ByteRate;
use probegate_policies::encoding::{Coding, MediaPattern};
use schemars::{Schema, json_schema};

use super::choice::choice;
use super::{Invalid, Size, Word};
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

/// A number of bytes a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteRateWord(pub(crate) ByteRate);

impl Word for ByteRateWord {
    const EXPECTED: &'static str = "a rate such as `1MiB/s` or `512KiB/s`";
    const PATTERN: &'static str = "^[0-9]+(KiB|MiB|GiB)/s$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let Some(amount) = text.strip_suffix("/s") else {
            return Err(match Size::from_text(text) {
                Ok(_) => invalid().hint(format!("write `{text}/s`")),
                Err(_) => invalid(),
            });
        };
        match Size::from_text(amount)? {
            Size(bytes) if bytes >= LEAST => Ok(Self(ByteRate(NonZeroU64::new(bytes).ok_or_else(invalid)?))),
            Size(0) => {
                Err(Invalid::new(format!("`{text}` would never send anything")).hint("leave the key out for no bound"))
            }
            Size(_) => Err(Invalid::new(format!("`{text}` is less than the `1KiB/s` that is kept exactly"))),
        }
    }

    fn from_number(number: u64) -> Result<Self, Invalid> {
        Err(Invalid::new(format!("the rate `{number}` has no unit"))
            .hint(format!("write `{}KiB/s`", number.div_ceil(1024).max(1))))
    }
}

/// The slowest rate that can be written, in bytes a second.
const LEAST: u64 = 1024;

//! Words that are names and texts.

use std::fmt;
use std::path::PathBuf;

use probegate_policies::access::TokenDigest;
use probegate_policies::fields::FieldName;
use probegate_policies::host::parse_authority;
use probegate_policies::path::{Scratch, canonicalise};
use secrecy::SecretString;

use super::{Invalid, Word};

/// Any text but the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Box<str>);

impl Word for Text {
    const EXPECTED: &'static str = "text";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::expected::<Self>("an empty text").hint("leave the key out to get its default"));
        }
        Ok(Self(text.into()))
    }
}

/// The name of something that is defined in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Box<str>);

impl Word for Name {
    const EXPECTED: &'static str = "a name of letters, digits, `_` and `-`";
    const PATTERN: &'static str = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        // Names become log fields, metric labels and parts of HTTP fields; none of those should need escaping.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match text.len() {
            1..=64 if text.bytes().all(plain) && !text.starts_with('-') => Ok(Self(text.into())),
            65.. => Err(Invalid::new("a name has at most 64 characters")),
            _ => Err(Invalid::expected::<Self>(&format!("`{text}`"))),
        }
    }
}

/// A secret in clear text.
#[derive(Clone)]
pub(crate) struct SecretText(pub(crate) SecretString);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl Word for SecretText {
    const EXPECTED: &'static str = "a token in quotes";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self(text.into()))
    }

    // Not the default: a message must not repeat a secret.
    fn from_number(_: u64) -> Result<Self, Invalid> {
        Err(Invalid::expected::<Self>("a number").hint("put it in quotes"))
    }
}

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable(pub(crate) Box<str>);

impl Word for Variable {
    const EXPECTED: &'static str = "the name of an environment variable";
    const PATTERN: &'static str = "^[A-Za-z_][A-Za-z0-9_]*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bare = text.trim_start_matches('$').trim_matches(['{', '}']);
        let valid =
            !bare.is_empty() && bare.bytes().all(plain) && !bare.starts_with(|first: char| first.is_ascii_digit());
        match valid {
            true if bare == text => Ok(Self(text.into())),
            true => Err(Invalid::expected::<Self>(&format!("`{text}`")).hint(format!("write `{bare}`"))),
            // Whoever writes the token itself here should not find it in a log.
            false => Err(Invalid::expected::<Self>("something else")
                .hint("a name has letters, digits and `_`; a token in clear text belongs under `value`")),
        }
    }
}

/// The path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl Word for FilePath {
    const EXPECTED: &'static str = "the path of a file";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.contains('\0') {
            return Err(Invalid::expected::<Self>("an empty text"));
        }
        Ok(Self(text.into()))
    }
}

/// The SHA-256 digest of a token.
#[derive(Clone, Debug)]
pub(crate) struct Sha256(pub(crate) TokenDigest);

impl Word for Sha256 {
    const EXPECTED: &'static str = "a SHA-256 digest of 64 hexadecimal digits";
    const PATTERN: &'static str = "^[0-9A-Fa-f]{64}$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        // What was found is not repeated: it may be the token itself.
        TokenDigest::from_hex(text).map(Self).map_err(|_| {
            let found = format!("{} characters", text.chars().count());
            Invalid::expected::<Self>(&found).hint("`printf %s \"$TOKEN\" | sha256sum` prints one")
        })
    }

    // A digest may consist of digits only, which YAML takes for a number.
    fn from_number(_: u64) -> Result<Self, Invalid> {
        Err(Invalid::expected::<Self>("a number").hint("put the digest in quotes"))
    }
}

/// A field name, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldText {
    /// For comparisons.
    pub(crate) name: FieldName,
    /// For sending.
    pub(crate) text: Box<str>,
}

impl Word for FieldText {
    const EXPECTED: &'static str = "a header name such as `X-Probe-Token`";
    const PATTERN: &'static str = "^[!#$%&'*+.^`|~0-9A-Za-z-]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        // WSGI cannot tell `_` and `-` apart, so fields with `_` are dropped and one can never be found.
        if text.contains('_') {
            return Err(Invalid::new(format!("`{text}` can never match: headers with `_` in their names are dropped"))
                .hint(format!("write `{}`", text.replace('_', "-"))));
        }
        let bare = text.trim().trim_end_matches(':');
        match text.parse() {
            Ok(name) => Ok(Self { name, text: text.into() }),
            Err(_) if bare.parse::<FieldName>().is_ok() => Err(invalid().hint(format!("write `{bare}`"))),
            Err(_) => Err(invalid()),
        }
    }
}

/// A path that is found as it is, without any other spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExactPath(pub(crate) Box<str>);

impl Word for ExactPath {
    const EXPECTED: &'static str = "a path such as `/healthz`";
    const PATTERN: &'static str = "^/[^?#%;\\\\]*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        if !text.starts_with('/') {
            return Err(invalid().hint(format!("write `/{text}`")));
        }
        if let Some((path, _)) = text.split_once(['?', '#']) {
            return Err(invalid().hint(format!("write `{path}`: a path ends before `?`")));
        }
        let mut scratch = Scratch::default();
        match canonicalise(text.as_bytes(), &mut scratch) {
            Ok(path) if path.path == text.as_bytes() && path.folded.is_none() && path.rewritten.is_none() => {
                Ok(Self(text.into()))
            }
            Ok(_) => Err(Invalid::new(format!(
                "`{text}` is not how the gateway spells this path, so it would never be found"
            ))
            .hint("write it decoded, without `//`, `/./`, `/../`, `;` and `\\`")),
            Err(_) => Err(invalid()),
        }
    }
}

/// A host as in the `Host` field, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) Box<str>);

impl Word for Host {
    const EXPECTED: &'static str = "a host such as `shop.example.com`";
    const PATTERN: &'static str = "^[A-Za-z0-9._~:\\[\\]-]+$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::expected::<Self>(&format!("`{text}`"));
        let bare = text.split_once("://").map(|(_, host)| host.trim_end_matches('/'));
        match (parse_authority(text.as_bytes()), bare) {
            (Ok(_), _) => Ok(Self(text.into())),
            (Err(_), Some(bare)) => Err(invalid().hint(format!("write `{bare}`"))),
            (Err(_), None) => Err(invalid()),
        }
    }
}

/// A level of the diagnostics log, or a filter such as `info,probegate=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(pub(crate) Box<str>);

impl Word for LogLevel {
    const EXPECTED: &'static str = "a level: `error`, `warn`, `info`, `debug`, `trace` or `off`";
    const PATTERN: &'static str = "^[A-Za-z0-9_:]+(=[a-z]+)?(,[A-Za-z0-9_:]+(=[a-z]+)?)*$";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        for directive in text.split(',') {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if !LEVELS.contains(&level) {
                let invalid = Invalid::expected::<Self>(&format!("`{level}`"));
                let near =
                    if level == "warning" { Some("warn") } else { crate::config::suggest::nearest(level, LEVELS) };
                return Err(match near {
                    Some(near) => invalid.hint(format!("did you mean `{near}`?")),
                    None => invalid,
                });
            }
        }
        Ok(Self(text.into()))
    }
}

//! Tokens and passwords from where they are kept: the environment, a file, the configuration itself.

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretSlice};

use super::Context;
use crate::config::ConfigPath;
use crate::config::lint;
use crate::config::value::{FilePath, Leaf, SecretText, Variable};

/// Longer values are refused by the rules without being looked at.
const LONGEST: usize = 4096;

/// Where a token is kept. At most one of them is there once [`exactly_one`] has agreed.
pub(super) struct Places {
    /// What it is, for messages: a token, a password.
    pub(super) what: &'static str,
    pub(super) env: Option<Leaf<Variable>>,
    pub(super) file: Option<Leaf<FilePath>>,
    pub(super) value: Option<Leaf<SecretText>>,
}

/// Whether exactly one of several keys is there; reports when not. `given` holds each key with whether it is there.
pub(super) fn exactly_one(what: &str, given: &[(&str, bool)], path: &ConfigPath, cx: &mut Context<'_>) -> bool {
    // A key that could not be read is there, too.
    let there: Vec<_> =
        given.iter().filter(|(key, there)| *there || cx.is_broken(&path.key(key))).map(|&(key, _)| key).collect();
    match there.as_slice() {
        [_] => true,
        [] => {
            let keys = crate::config::suggest::list(given.iter().map(|&(key, _)| key));
            cx.error(
                path,
                format!("the {what} is missing, expected one of {keys}"),
                "write `env: NAME` to take it from the environment",
            );
            false
        }
        [first, second, ..] => {
            cx.key_error(
                &path.key(second),
                format!("`{first}` and `{second}` both say what the {what} is"),
                "keep one of them",
            );
            false
        }
    }
}

/// Reads a token and judges it; reports when it cannot be had or cannot be right.
pub(super) fn read(places: Places, path: &ConfigPath, cx: &mut Context<'_>) -> Option<SecretSlice<u8>> {
    let Places { what, env, file, value } = places;
    let (key, secret) = if let Some(Leaf(Variable(name))) = env {
        ("env", from_environment(what, &name, &path.key("env"), cx)?)
    } else if let Some(Leaf(FilePath(file))) = file {
        ("file", from_file(what, &file, &path.key("file"), cx)?)
    } else {
        let Leaf(SecretText(text)) = value?;
        let path = path.key("value");
        cx.lint(
            &path,
            format!("this {what} stands in the configuration in clear text"),
            "keep it in a variable or a file: `env: NAME` or `file: PATH`",
        );
        if text.expose_secret().is_empty() {
            cx.error(&path, format!("the {what} is empty"), "write one, such as the output of `openssl rand -hex 32`");
            return None;
        }
        ("value", SecretSlice::from(text.expose_secret().as_bytes().to_vec()))
    };
    let path = path.key(key);
    if let Some(flaw) = flaw(secret.expose_secret()) {
        cx.error(
            &path,
            format!("the {what} {flaw}, so no client could ever send it"),
            "use visible ASCII characters, such as the output of `openssl rand -hex 32`",
        );
        return None;
    }
    lint::token_strength(what, secret.expose_secret(), &path, cx);
    Some(secret)
}

fn from_environment(what: &str, name: &str, path: &ConfigPath, cx: &mut Context<'_>) -> Option<SecretSlice<u8>> {
    let flaw = match cx.environment().variable(name) {
        Some(value) if !value.is_empty() => return Some(SecretSlice::from(value)),
        Some(_) => "empty",
        None => "not set",
    };
    let (message, hint) = ("the environment variable", format!("set it to the {what} before the gateway starts"));
    // What should stand in the variable may stand in the place of its name.
    cx.error_about(path, format!("{message} `{name}` is {flaw}"), format!("{message} is {flaw}"), hint);
    None
}

fn from_file(what: &str, file: &Path, path: &ConfigPath, cx: &mut Context<'_>) -> Option<SecretSlice<u8>> {
    let mut content = match cx.environment().read(file, LONGEST + 2) {
        Ok(content) => content,
        Err(error) => {
            cx.file_error(path, file, &format!("cannot be read: {error}"), "");
            return None;
        }
    };
    // Editors and `echo` end a file with a line break. It is not part of the token.
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    if content.is_empty() {
        cx.file_error(path, file, "is empty", &format!("write the {what} into it"));
        return None;
    }
    Some(SecretSlice::from(content))
}

/// Why a token can never arrive in a header as it is.
fn flaw(secret: &[u8]) -> Option<&'static str> {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    if secret.len() > LONGEST {
        Some("is longer than 4096 bytes")
    } else if secret.contains(&b'\n') || secret.contains(&b'\r') {
        Some("has several lines")
    } else if blank(secret.first()) || blank(secret.last()) {
        Some("begins or ends with a blank")
    } else if secret.iter().any(|byte| !matches!(byte, b' '..=b'~')) {
        Some("has characters beyond printable ASCII")
    } else {
        None
    }
}

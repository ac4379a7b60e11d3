//! serde's error messages in our own words.

use crate::config::suggest;
use crate::config::value::{Said, UNTOLD};

/// What serde complained about.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Both without what was found.
    pub(super) discreet: Option<Box<Said>>,
    /// Whether it is about a key and not about its value.
    pub(super) at_key: bool,
    /// The key that a misspelt one was meant to be.
    pub(super) meant: Option<String>,
}

/// Words for one of serde's messages. Messages that our own types made come through as they are.
pub(super) fn fault(message: &str) -> Fault {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown_key(rest);
    }
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return Fault {
            message: format!("expected {expected}, found {}", shape(found)),
            hint: None,
            discreet: Some(Box::new(Said { message: format!("expected {expected}"), hint: None })),
            at_key: false,
            meant: None,
        };
    }
    let (whole, discreet) = Said::of(message).unwrap_or_else(|| {
        let said = |message: &str| Said { message: message.to_owned(), hint: None };
        (said(message), said(UNTOLD))
    });
    let Said { message, hint } = whole;
    Fault { message, hint, discreet: Some(Box::new(discreet)), at_key: false, meant: None }
}

/// `` `hots`, expected one of `hosts`, `upstream` ``
fn unknown_key(rest: &str) -> Fault {
    let (key, known) = rest.split_once(", ").unwrap_or((rest, ""));
    let key = key.trim_matches('`');
    // What stands between backticks, and nothing else, is a key.
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let hint = suggest::hint(
        key,
        known.iter().copied(),
        if known.len() == 1 { "the only key here is" } else { "the keys here are" },
    );
    Fault {
        message: format!("unknown key `{key}`"),
        hint,
        // Names of keys are told.
        discreet: None,
        at_key: true,
        meant: suggest::nearest(key, known).map(str::to_owned),
    }
}

/// What was found, as somebody who writes YAML calls it.
fn shape(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        "null" | "unit" | "unit value" => "nothing".to_owned(),
        _ => match found.split_once(' ') {
            Some(("string", text)) => format!("`{}`", text.trim_matches('"')),
            Some(("integer" | "floating" | "boolean", value)) => value.trim_start_matches("point ").to_owned(),
            _ => found.to_owned(),
        },
    }
}

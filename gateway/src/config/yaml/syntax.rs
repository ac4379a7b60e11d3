//! What keeps a text from being YAML, and what is probably behind it.

use crate::config::ConfigPath;
use crate::config::locate::Lines;
use crate::config::problem::{Problem, Severity, Span};

/// The problem that a text is not YAML.
pub(super) fn problem(text: &str, error: &serde_yaml::Error) -> Problem {
    let full = error.to_string();
    let short = full.split_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    // The parser stops at one character; what follows it is not to blame.
    let span = error.location().and_then(|location| {
        let span = Lines::new(text).scalar(location.line(), location.column(), None)?;
        let first = text.get(span.bytes.start..)?.chars().next().map_or(0, char::len_utf8);
        Some(Span { bytes: span.bytes.start..span.bytes.start + first, ..span })
    });
    let around = span.as_ref().and_then(|span| text.split_at_checked(span.bytes.start)).unwrap_or((text, ""));
    let hint = hint(&full, around);
    let message = if full.contains("more than one document") {
        "a configuration is one YAML document, found several".to_owned()
    } else {
        format!("this is not YAML: {short}")
    };
    Problem { severity: Severity::Error, path: ConfigPath::root(), message, hint, discreet: None, span }
}

/// What is behind most mistakes of each kind. `around` is the text before and after the place where the parser stopped.
fn hint(message: &str, (before, after): (&str, &str)) -> Option<String> {
    if after.starts_with('\t') {
        return Some("indent with spaces, not with tabs".to_owned());
    }
    if before.ends_with('*') || after.starts_with('*') {
        return Some("put a value that begins with `*` in quotes: `\"*.example.com\"`".to_owned());
    }
    if let Some(first) = after.chars().next().filter(|first| matches!(first, '@' | '`' | '%' | '&' | '!')) {
        return Some(format!("put a value that begins with `{first}` in quotes"));
    }
    // The place where something begins that has no end is behind the place where the parser noticed.
    let begin = message.rsplit_once(" at line ").and_then(|(_, place)| place.split_once(' ')).map(|(line, _)| line);
    let hint = if message.contains("mapping values are not allowed") {
        "look at the indentation, and put a value that contains a colon and a blank in quotes"
    } else if message.contains("parsing a flow sequence") {
        return Some(format!("the list that begins on line {} has no `]` before this", begin.unwrap_or("1")));
    } else if message.contains("parsing a flow mapping") {
        return Some(format!("the mapping that begins on line {} has no `}}` before this", begin.unwrap_or("1")));
    } else if message.contains("quoted scalar") {
        return Some(format!("the text that begins on line {} has no closing quote", begin.unwrap_or("1")));
    } else if message.contains("did not find expected key") || message.contains("block collection") {
        "look at the indentation of this line"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

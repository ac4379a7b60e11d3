//! `reload`: a running gateway loads its configuration again, and what came of it is said.
//!
//! The gateway tells where problems stand, and nothing of what stands there. Whoever may read the file, as it was read, is shown the lines as by `check`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::ask::{Gateway, plain, refusal};
use super::status::{list, text};
use super::switch::warn;
use super::{USAGE, colour, print, say};
use crate::config::{self, Problem, Severity, Source, Span};
use crate::reload::digest;

/// Nobody knows how it ended.
const UNKNOWN: u8 = 5;

/// A gateway says within 30 s that it takes longer.
const PATIENCE: Duration = Duration::from_secs(35);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The answer of the gateway, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Exit 0: it is in force. 1: it was not tried. 5: nobody knows. 64: it was refused, and nothing has changed.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (status, answer) = match arguments.gateway.answer("POST", "/reload", PATIENCE) {
        Ok(answer) => answer,
        Err(why) => {
            say(&why.text);
            if why.unknown {
                say("nobody knows whether it was done: the gateway's log says so");
            }
            return if why.unknown { ExitCode::from(UNKNOWN) } else { ExitCode::FAILURE };
        }
    };
    if arguments.json {
        print(format!("{answer:#}\n").as_bytes());
    }
    if !arguments.json {
        warn(&answer);
    }
    let code = match status {
        200 => ExitCode::SUCCESS,
        422 => ExitCode::from(USAGE),
        504 => ExitCode::from(UNKNOWN),
        _ => ExitCode::FAILURE,
    };
    if arguments.json {
        return code;
    }
    if !matches!(status, 200 | 422) {
        say(&refusal(&answer).text);
        return code;
    }
    let problems: Vec<_> = list(&answer, "problems").collect();
    if !problems.is_empty() {
        say(&shown(&answer, &problems).join("\n"));
    }
    let file = plain(&text(&answer, "file"));
    if status == 200 {
        let odd = match problems.len() {
            0 => String::new(),
            1 => ", 1 lint".to_owned(),
            count => format!(", {count} lints"),
        };
        say(&format!("{file}: in force as configuration {}{odd}", text(&answer, "generation")));
    } else {
        say("refused: the configuration before stays in force, and nothing has changed");
    }
    code
}

/// The problems, as people read them.
fn shown(answer: &Value, problems: &[&Value]) -> Vec<String> {
    let name = text(answer, "file");
    let source = source(&name, &text(answer, "sha256"));
    let known = source.as_ref().map(known).unwrap_or_default();
    let each = problems.iter().map(|problem| {
        let found = known.iter().find(|known| is_the(known, problem));
        match (found, &source) {
            (Some(found), Some(source)) => config::render(std::slice::from_ref(found), source, colour()),
            (None, Some(source)) => config::render(&[rebuilt(problem, source)], source, colour()),
            _ => line(&plain(&name), problem),
        }
    });
    each.collect()
}

/// The file, if it may be read here and is what the gateway read.
fn source(name: &str, sha256: &str) -> Option<Source> {
    let path = Path::new(name);
    // What is no file may keep whoever reads it waiting.
    let is_file = fs::metadata(path).is_ok_and(|about| about.is_file());
    let text = is_file.then(|| fs::read_to_string(path).ok()).flatten()?;
    (digest(&text) == sha256).then(|| Source { name: name.to_owned(), text })
}

/// What is found in it here. Some of that may be due to other variables and other rights.
fn known(source: &Source) -> Vec<Problem> {
    match config::load(Path::new(&source.name)) {
        Ok(loaded) if loaded.source.text == source.text => loaded.lints,
        Err(config::Failure::Invalid { source: read, problems }) if read.text == source.text => {
            problems.iter().cloned().collect()
        }
        _ => Vec::new(),
    }
}

/// A problem as the gateway tells of it, at its place in the text. What is found here may lack it: other variables are set.
fn rebuilt(told: &Value, source: &Source) -> Problem {
    let number = |key: &str| told.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let span = number("line").zip(number("column")).zip(number("length"));
    let span = span.map(|((line, column), length)| Span::at(line, column, length, &source.text));
    let severity = if text(told, "severity") == "lint" { Severity::Lint } else { Severity::Error };
    Problem::told(severity, text(told, "message"), Some(text(told, "hint")).filter(|hint| !hint.is_empty()), span)
}

/// Whether a problem is the one that the gateway tells of.
fn is_the(known: &Problem, told: &Value) -> bool {
    let severity = if known.severity == Severity::Error { "error" } else { "lint" };
    let number = |key: &str| told.get(key).and_then(Value::as_u64);
    text(told, "severity") == severity
        && text(told, "path") == known.path.to_string()
        && known.span.as_ref().map(|span| u64::from(span.line)) == number("line")
        && known.span.as_ref().map(|span| u64::from(span.column)) == number("column")
        && text(told, "message") == known.discreetly().0
}

/// A problem without the line that it stands in.
fn line(name: &str, problem: &Value) -> String {
    let place = [text(problem, "line"), text(problem, "column")];
    let place = if place.iter().any(String::is_empty) { String::new() } else { format!(":{}", place.join(":")) };
    let word = if text(problem, "severity") == "lint" { "warning" } else { "error" };
    let mut out = format!("{word}: {}\n", plain(&text(problem, "message")));
    if !name.is_empty() {
        out += &format!(" --> {name}{place}\n");
    }
    let hint = text(problem, "hint");
    if !hint.is_empty() {
        out += &format!("  = help: {}\n", plain(&hint));
    }
    out
}

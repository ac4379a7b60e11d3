//! What is wrong, or odd, in a configuration: where it stands, what it is, and what to write instead.
//!
//! Messages have no trailing dot, put names in backticks and say what was found and what is expected; the hint says what to do.

mod render;

use std::fmt;
use std::ops::Range;

use super::value::Said;
use super::{ConfigPath, Source};

pub use render::render;

/// Whether a configuration with the problem can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// There is no plan until it is repaired.
    Error,
    /// The plan works, but probably not as meant.
    Lint,
}

/// A piece of the configuration's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Line of its first character, from 1.
    pub line: u32,
    /// Column of its first character, from 1, in characters.
    pub column: u32,
    /// Its bytes in the text.
    pub bytes: Range<usize>,
}

impl Span {
    /// The piece of one line of `text` that begins at `column` and has `length` characters.
    pub fn at(line: u32, column: u32, length: u32, text: &str) -> Self {
        let lines = text.split_inclusive('\n');
        let before: usize =
            lines.clone().take(usize::try_from(line).unwrap_or_default().saturating_sub(1)).map(str::len).sum();
        let rest = text.get(before..).unwrap_or_default();
        let behind = |count: u32| {
            let index = rest.char_indices().nth(usize::try_from(count).unwrap_or(usize::MAX));
            before + index.map_or(rest.len(), |(index, _)| index)
        };
        let start = column.saturating_sub(1);
        Self { line, column, bytes: behind(start)..behind(start.saturating_add(length)) }
    }
}

/// One thing that is wrong or odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether a configuration with it can be used.
    pub severity: Severity,
    /// Which value it is about.
    pub path: ConfigPath,
    /// What was found and what was expected.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// Message and hint without the value that was found, which may be a secret in the wrong place. `None`: there is none in them but names.
    pub(super) discreet: Option<Box<Said>>,
    /// The text to point at; `None` when there is nothing to point at, as in an empty file.
    pub span: Option<Span>,
}

impl Problem {
    /// One that another process tells of.
    pub fn told(severity: Severity, message: String, hint: Option<String>, span: Option<Span>) -> Self {
        Self { severity, path: ConfigPath::root(), message, hint, discreet: None, span }
    }

    /// Message and hint for whoever may not read the file.
    pub fn discreetly(&self) -> (&str, Option<&str>) {
        match &self.discreet {
            Some(said) => (&said.message, said.hint.as_deref()),
            None => (&self.message, self.hint.as_deref()),
        }
    }
}

/// All errors of a configuration, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<Problem>,
}

impl Problems {
    /// `None` when there are none.
    pub(super) fn new(mut problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() {
            return None;
        }
        sort(&mut problems);
        // An alias leads to the same mistake twice, in the same place.
        problems.dedup_by(|a, b| a.span.is_some() && a.span == b.span && a.message == b.message);
        Some(Self { problems })
    }

    /// A single one.
    pub(super) fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The problems as people read them: file, line and column, the line itself, a caret, a hint.
    pub fn render(&self, source: &Source, colour: bool) -> String {
        render(&self.problems, source, colour)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problem {
    /// One line, for logs: they have other readers than the file, and what was found may be a secret in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (message, hint) = self.discreetly();
        if let Some(span) = &self.span {
            write!(f, "line {}, column {}: ", span.line, span.column)?;
        }
        f.write_str(message)?;
        if let Some(hint) = hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// Sorts into the order of the file; what has no place in it comes first.
pub(super) fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.bytes.start));
}

/// Stands in for a problem that nobody reported. Nothing leads here; if something does, it must not look like success.
pub(super) fn unexplained() -> Problem {
    Problem {
        severity: Severity::Error,
        path: ConfigPath::root(),
        message: "this configuration gives no plan, for a reason that was not written down".to_owned(),
        hint: Some("this is a mistake in probegate; please report it with the configuration".to_owned()),
        discreet: None,
        span: None,
    }
}

//! A reload that somebody asks for and waits for. It goes the way of a SIGHUP, so that it comes behind what came before it, and no two run at a time.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::config::{Problem, Severity};

/// What was found in a configuration. Nothing of its text, which may hold a secret.
#[derive(Clone, Debug)]
pub struct Finding {
    /// It keeps the configuration from being used.
    pub is_error: bool,
    /// The value that it is about; empty: none.
    pub path: String,
    /// Where that stands: line, column, and how many characters; `None`: nowhere.
    pub place: Option<(u32, u32, usize)>,
    /// What was found and what was expected.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Finding {
    /// Something that stands nowhere in the text.
    pub(super) fn about(message: String) -> Self {
        Self { is_error: true, path: String::new(), place: None, message, hint: None }
    }

    /// A key that a reload does not take up.
    pub(super) fn later(key: &str) -> Self {
        let message = format!("`{key}` has changed: that takes effect at the next start");
        Self { is_error: false, path: key.to_owned(), ..Self::about(message) }
    }

    /// `text`: what was read.
    pub(super) fn of(problem: &Problem, text: &str) -> Self {
        let (message, hint) = problem.discreetly();
        Self {
            is_error: problem.severity == Severity::Error,
            path: problem.path.to_string(),
            place: problem.span.as_ref().map(|span| {
                let length = text.get(span.bytes.clone()).map_or(1, |piece| piece.chars().count().max(1));
                (span.line, span.column, length)
            }),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        }
    }
}

/// How a reload ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The file; `None`: there is none.
    pub file: Option<PathBuf>,
    /// Which text it was; `None`: it could not be read.
    pub digest: Option<String>,
    /// The number of the configuration that is in force now; `None`: it was refused, and the one before stays in force.
    pub generation: Option<u64>,
    /// What is wrong, or odd.
    pub findings: Vec<Finding>,
}

/// Reloads, for those who ask for one.
#[derive(Default)]
pub struct Reloads {
    ask: OnceLock<Box<dyn Fn() + Send + Sync>>,
    told: Mutex<Told>,
    changed: Condvar,
}

/// Reloads are counted from 1 as they begin.
#[derive(Debug, Default)]
struct Told {
    begun: u64,
    /// Which one ended last, and how.
    last: Option<(u64, Outcome)>,
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("told", &self.told).finish_non_exhaustive()
    }
}

impl Reloads {
    /// How one is asked for. Once.
    pub fn are_asked_for_with(&self, ask: impl Fn() + Send + Sync + 'static) {
        self.ask.set(Box::new(ask)).ok();
    }

    /// Runs one.
    pub(super) fn run(&self, reload: impl FnOnce() -> Outcome) {
        let number = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.begun += 1;
            told.begun
        };
        let outcome = reload();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).last = Some((number, outcome));
        self.changed.notify_all();
    }

    /// Asks for one, and waits for the end of one that has begun since. `None`: there was none within `patience`.
    pub fn ask(&self, patience: Duration) -> Option<Outcome> {
        let ask = self.ask.get()?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.begun;
        ask();
        let end = std::time::Instant::now() + patience;
        loop {
            if let Some((number, outcome)) = &told.last
                && *number > before
            {
                return Some(outcome.clone());
            }
            let left = end.checked_duration_since(std::time::Instant::now())?;
            told = self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

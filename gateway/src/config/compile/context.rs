//! What every step of the compilation needs: where things stand, and a place for problems.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::access::Origin;
use rustls::pki_types::CertificateDer;

use crate::config::locate::Locations;
use crate::config::problem::{Problem, Severity, Span};
use crate::config::value::{Count, Leaf, Said, Seconds};
use crate::config::{ConfigPath, Environment, Segment};

/// Where things stand, what is around them, and what was found wrong so far.
pub(in crate::config) struct Context<'a> {
    locations: &'a Locations,
    broken: &'a HashSet<ConfigPath>,
    environment: &'a dyn Environment,
    problems: Vec<Problem>,
    lints: Vec<Problem>,
    /// What the system believes, once somebody has asked.
    authorities: Option<Arc<[CertificateDer<'static>]>>,
}

impl<'a> Context<'a> {
    pub(in crate::config) fn new(
        locations: &'a Locations,
        broken: &'a HashSet<ConfigPath>,
        environment: &'a dyn Environment,
        problems: Vec<Problem>,
    ) -> Self {
        Self { locations, broken, environment, problems, lints: Vec::new(), authorities: None }
    }

    /// The errors and the lints.
    pub(in crate::config) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems, self.lints)
    }

    /// Variables, files, the clock.
    pub(in crate::config) fn environment(&self) -> &'a dyn Environment {
        self.environment
    }

    /// The authorities that the system believes. Reading them takes a while: once for all services.
    pub(in crate::config) fn authorities(&mut self) -> Arc<[CertificateDer<'static>]> {
        let environment = self.environment;
        Arc::clone(self.authorities.get_or_insert_with(|| environment.authorities().into()))
    }

    /// Whether there were no errors so far.
    pub(in crate::config) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether the value at `path` could not be read, which has been reported.
    pub(in crate::config) fn is_broken(&self, path: &ConfigPath) -> bool {
        self.broken.contains(path)
    }

    /// The line of `path`, for rules that tell where they come from.
    pub(in crate::config) fn origin(&self, path: &ConfigPath) -> Origin {
        self.locations.origin(path)
    }

    /// Reports an error about the value at `path`.
    pub(in crate::config) fn error(&mut self, path: &ConfigPath, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.locations.value(path);
        add(&mut self.problems, problem(Severity::Error, path, message.into(), hint.into(), span));
    }

    /// Reports an error whose message holds what was found, which may be a secret in the wrong place. `discreet`: the message without it, for those who
    /// may not read the file.
    pub(in crate::config) fn error_about(
        &mut self,
        path: &ConfigPath,
        message: String,
        discreet: String,
        hint: impl Into<String>,
    ) {
        let span = self.locations.value(path);
        let mut problem = problem(Severity::Error, path, message, hint.into(), span);
        problem.discreet = Some(Box::new(Said { message: discreet, hint: problem.hint.clone() }));
        add(&mut self.problems, problem);
    }

    /// Reports an error of a file that is named at `path`. The name is for those who may read the configuration: it may be what should stand in the file.
    pub(in crate::config) fn file_error(&mut self, path: &ConfigPath, file: &Path, flaw: &str, hint: &str) {
        self.error_about(path, format!("file `{}` {flaw}", file.display()), format!("the file {flaw}"), hint);
    }

    /// Reports an error about the key that `path` ends with.
    pub(in crate::config) fn key_error(
        &mut self,
        path: &ConfigPath,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let span = self.locations.key(path);
        add(&mut self.problems, problem(Severity::Error, path, message.into(), hint.into(), span));
    }

    /// Reports that the value at `path` works, but probably not as meant.
    pub(in crate::config) fn lint(&mut self, path: &ConfigPath, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.locations.value(path);
        add(&mut self.lints, problem(Severity::Lint, path, message.into(), hint.into(), span));
    }

    /// The value of a key that must be there, or a report that it is not.
    pub(in crate::config) fn required<T>(
        &mut self,
        value: Option<T>,
        parent: &ConfigPath,
        key: &str,
        example: &str,
    ) -> Option<T> {
        if value.is_none() && !self.is_broken(&parent.key(key)) {
            let whose = match parent.segments().last() {
                Some(Segment::Key(name)) => format!(" in `{name}`"),
                Some(Segment::Index(_)) => " here".to_owned(),
                None => String::new(),
            };
            let span = self.locations.key(parent);
            let message = format!("key `{key}` is missing{whose}");
            self.problems.push(problem(Severity::Error, parent, message, format!("write `{example}`"), span));
        }
        value
    }

    /// A deadline, which cannot be zero.
    pub(in crate::config) fn deadline(
        &mut self,
        value: Option<Leaf<Seconds>>,
        parent: &ConfigPath,
        key: &str,
        default: Duration,
    ) -> Duration {
        match value {
            Some(Leaf(Seconds(Duration::ZERO))) => {
                self.error(
                    &parent.key(key),
                    format!("`{key}` of zero would end every exchange at once"),
                    "write a duration above zero",
                );
                default
            }
            Some(Leaf(Seconds(duration))) => duration,
            None => default,
        }
    }

    /// A number within bounds.
    pub(in crate::config) fn number(
        &mut self,
        value: Option<Leaf<Count>>,
        parent: &ConfigPath,
        key: &str,
        bounds: std::ops::RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some(Leaf(Count(number))) = value else {
            return default;
        };
        if let Some(number) = usize::try_from(number).ok().filter(|number| bounds.contains(number)) {
            return number;
        }
        let message = format!("`{key}` is `{number}`, expected a number from {} to {}", bounds.start(), bounds.end());
        self.error(&parent.key(key), message, format!("the default is {default}"));
        default
    }
}

/// What holds for all services is found wrong for each of them, and said once.
fn add(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.iter().any(|known| known.path == problem.path && known.message == problem.message) {
        problems.push(problem);
    }
}

fn problem(severity: Severity, path: &ConfigPath, message: String, hint: String, span: Option<Span>) -> Problem {
    Problem { severity, path: path.clone(), message, hint: (!hint.is_empty()).then_some(hint), discreet: None, span }
}

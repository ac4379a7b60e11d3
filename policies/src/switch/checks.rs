//! What the servers of a slot said before anything moves: whether it may.

use std::fmt;

use crate::probe::ProbeKind;

/// The shortest beginning of a commit that stands for it.
const COMMIT: usize = 7;

/// What one server said to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The server, as it is written.
    pub server: Box<str>,
    /// What it was asked.
    pub probe: ProbeKind,
    /// Its status, or why there is none.
    pub answer: Result<u16, Box<str>>,
    /// What it said about its version, where that was asked and could be read.
    pub said: Option<Said>,
}

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its version.
    pub version: Option<Box<str>>,
    /// Its commit.
    pub commit: Option<Box<str>>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, &self.commit) {
            (Some(version), Some(commit)) => write!(f, "version {version}, commit {commit}"),
            (Some(version), None) => write!(f, "version {version}"),
            (None, Some(commit)) => write!(f, "commit {commit}"),
            (None, None) => f.write_str("no version"),
        }
    }
}

/// The version that servers have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// It, or its commit.
    pub version: &'a str,
    /// Whether the app is who tells: else nobody is asked for it.
    pub is_told: bool,
}

/// Why nothing is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The server; `None`: it is about all of them.
    pub server: Option<Box<str>>,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong with a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// None of its servers could be asked anything.
    Nothing,
    /// It answered a probe with this status.
    Status(ProbeKind, u16),
    /// It did not answer a probe.
    Silent(ProbeKind, Box<str>),
    /// It does not say which version it is, and this one was expected.
    Versionless(Box<str>),
    /// This version was expected, and no app is asked for its.
    Untold(Box<str>),
    /// It is another version than was expected.
    Version(Said, Box<str>),
    /// Its servers are different versions.
    Mixed(Said, Said),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(f, "{server}: ")?;
        }
        match &self.wrong {
            Wrong::Nothing => f.write_str("no server could be asked anything"),
            Wrong::Status(probe, status) => write!(f, "{} answers with status {status}", probe.name()),
            Wrong::Silent(probe, why) => write!(f, "{} is not answered: {why}", probe.name()),
            Wrong::Versionless(expected) => {
                write!(f, "version does not say which one it is, and `{expected}` was expected")
            }
            Wrong::Untold(expected) => {
                write!(
                    f,
                    "`{expected}` was expected, and no app is asked: its probe `version` is answered by the gateway, or off"
                )
            }
            Wrong::Version(said, expected) => write!(f, "it is {said}, which is not what was expected: `{expected}`"),
            Wrong::Mixed(one, other) => write!(f, "servers differ: one is {one}, another {other}"),
        }
    }
}

/// Whether a server is what was expected: by its version, or by its commit, of which the beginning is enough.
pub fn is_version(said: &Said, expected: &str) -> bool {
    said.version.as_deref() == Some(expected)
        || said
            .commit
            .as_deref()
            .is_some_and(|commit| commit == expected || (expected.len() >= COMMIT && commit.starts_with(expected)))
}

/// Everything that speaks against moving requests to servers that have said this. `expected`: the version that they have to be.
pub fn judge(findings: &[Finding], expected: Option<Expected<'_>>) -> Vec<Refusal> {
    let untold = expected.filter(|expected| !expected.is_told);
    let expected = expected.map(|expected| expected.version);
    if let Some(Expected { version, .. }) = untold {
        return vec![Refusal { server: None, wrong: Wrong::Untold(version.into()) }];
    }
    if findings.is_empty() {
        return vec![Refusal { server: None, wrong: Wrong::Nothing }];
    }
    let mut refusals = Vec::new();
    let mut first: Option<&Said> = None;
    let mut mixed = false;
    for finding in findings {
        let mut refuse = |wrong| refusals.push(Refusal { server: Some(finding.server.clone()), wrong });
        match &finding.answer {
            Err(why) => refuse(Wrong::Silent(finding.probe, why.clone())),
            Ok(200..=299) if finding.probe == ProbeKind::Version => match (&finding.said, expected) {
                (None, Some(expected)) => refuse(Wrong::Versionless(expected.into())),
                (Some(said), Some(expected)) if !is_version(said, expected) => {
                    refuse(Wrong::Version(said.clone(), expected.into()));
                }
                (Some(said), _) => match first {
                    Some(first) if first != said && !mixed => {
                        mixed = true;
                        refusals.push(Refusal { server: None, wrong: Wrong::Mixed(first.clone(), said.clone()) });
                    }
                    Some(_) => {}
                    None => first = Some(said),
                },
                (None, None) => {}
            },
            Ok(200..=299) => {}
            Ok(status) => refuse(Wrong::Status(finding.probe, *status)),
        }
    }
    if let Some(expected) = expected
        && !findings.iter().any(|finding| finding.probe == ProbeKind::Version)
    {
        refusals.push(Refusal { server: None, wrong: Wrong::Versionless(expected.into()) });
    }
    refusals
}

//! Reload: load, prove, bind, swap. Whatever fails before the swap changes nothing.
//!
//! Invariant: one at a time, on a thread that may wait for a disk. A process that has begun to go down meanwhile takes nothing up any more.

mod asked;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use self::asked::{Finding, Outcome, Reloads};
use crate::acme;
use crate::config;
use crate::files;
use crate::server::Fleet;
use crate::state::{State, unix_time};
use crate::telemetry::access_log;
use crate::telemetry::diagnostics::Level;
use crate::tls;

/// Loads the configuration again when asked to.
#[derive(Debug)]
pub struct Reloader {
    path: Option<PathBuf>,
    state: Arc<State>,
    fleet: Fleet,
    level: Level,
}

impl Reloader {
    /// Reloads `path` into `state`.
    pub fn new(path: Option<PathBuf>, state: Arc<State>, fleet: Fleet, level: Level) -> Self {
        Self { path, state, fleet, level }
    }

    /// Loads the file and puts it in force, or says why not.
    pub fn reload(&self) {
        self.state.reloads.run(|| {
            let metrics = &self.state.metrics;
            let mut outcome = Outcome { file: None, digest: None, generation: None, findings: Vec::new() };
            match self.try_reload(&mut outcome) {
                Ok(()) => {
                    metrics.reloads.fetch_add(1, Ordering::Relaxed);
                    metrics.reload_failing.store(false, Ordering::Relaxed);
                    metrics.loaded_at.store(unix_time(), Ordering::Relaxed);
                    tracing::info!("configuration reloaded");
                }
                Err(Refused { text, findings }) => {
                    metrics.reload_failing.store(true, Ordering::Relaxed);
                    metrics.reload_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!("reload refused, the configuration before stays in force:\n{text}");
                    outcome.findings = findings;
                }
            }
            outcome
        });
    }

    /// Tells `outcome` what it knows as it goes on.
    fn try_reload(&self, outcome: &mut Outcome) -> Result<(), Refused> {
        let path = self.path.as_ref().ok_or("started without a configuration file: there is nothing to reload")?;
        outcome.file = self.state.file().map(Path::to_owned);
        let loaded = config::load(path).map_err(|failure| Refused {
            text: failure.to_string(),
            findings: match &failure {
                config::Failure::Invalid { problems, source } => {
                    outcome.digest = Some(digest(&source.text));
                    problems.iter().map(|problem| Finding::of(problem, &source.text)).collect()
                }
                config::Failure::Unreadable { .. } => vec![Finding::about(failure.to_string())],
            },
        })?;
        let mut findings: Vec<_> = loaded.lints.iter().map(|lint| Finding::of(lint, &loaded.source.text)).collect();
        let digest = digest(&loaded.source.text);
        outcome.digest = Some(digest.clone());
        if self.state.is_draining() {
            return Err("the gateway is going down".into());
        }
        let plan = loaded.plan;
        access_log::prove(&plan.access_log.target).map_err(|error| format!("access log: {error}"))?;
        if let Some(target) = &plan.access_log.nginx_errors {
            access_log::prove(target).map_err(|error| format!("nginx_errors: {error}"))?;
        }
        files::prove(&plan)?;
        let before = self.state.active();
        let admin = (plan.admin, &plan.admin_socket) != (before.plan.admin, &before.plan.admin_socket);
        for (what, changed) in [("workers", plan.workers != before.plan.workers), ("admin", admin)] {
            if changed {
                findings.push(Finding::later(what));
                tracing::warn!("`{what}` has changed: that takes effect at the next start");
            }
        }
        let secured = tls::server::prepare(&plan, &self.state.tls).map_err(|error| error.to_string())?;
        let bound = self.fleet.bind_missing(&plan).map_err(|error| error.to_string())?;
        let prepare = |listening| self.fleet.prepare(listening).map_err(|error| format!("listeners: {error}"));
        let prepared = bound.into_iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        // From here on nothing can fail.
        acme::load(&self.state, &plan);
        for lint in &loaded.lints {
            tracing::warn!("{lint}");
        }
        self.level.set(&plan.log_level);
        self.state.swap(plan, secured);
        for prepared in prepared {
            tracing::info!(address = %prepared.address(), "listening");
            self.fleet.open(prepared);
        }
        self.fleet.close_surplus(&self.state.active().plan);
        acme::follow(&self.state);
        self.state.set_digest(digest);
        (outcome.generation, outcome.findings) = (Some(self.state.generation()), findings);
        Ok(())
    }
}

/// Why a configuration was not put in force.
struct Refused {
    /// For the log.
    text: String,
    /// For programs.
    findings: Vec<Finding>,
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self { findings: vec![Finding::about(text.clone())], text }
    }
}

impl From<&str> for Refused {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Which text a configuration was: its SHA-256 in hexadecimal.
pub fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut text = String::with_capacity(64);
    for byte in digest.as_ref() {
        // Writing to a text does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

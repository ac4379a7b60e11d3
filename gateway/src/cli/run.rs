//! `run` and `proxy`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{USAGE, colour, say};
use crate::config::{self, Loaded};
use crate::files;
use crate::listen::{Activated, Listening};
use crate::plan::{Listener, Plan, ServerAddress};
use crate::reload;
use crate::server::{self, Options};
use crate::telemetry::diagnostics;

/// What writing the last lines may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs from a file.
pub(super) fn run(path: PathBuf, upgrade: bool, upgrade_socket: Option<PathBuf>) -> ExitCode {
    // First of all, while there is one thread.
    let activated = match Activated::take() {
        Ok(activated) => activated,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match config::load(&path) {
        Ok(loaded) => {
            let config = Some((path, reload::digest(&loaded.source.text)));
            let options = Options { config, upgrade, upgrade_socket, activated, announce: Box::new(announce) };
            start(loaded, options)
        }
        Err(failure) => {
            say(&failure.render(colour()));
            ExitCode::from(USAGE)
        }
    }
}

/// Runs the default configuration around one server.
pub(super) fn proxy(server: &str, listen: SocketAddr, admin: SocketAddr) -> ExitCode {
    let source = config::default_source(server);
    let mut loaded = match config::compile(&source, &config::System::new("")) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(&problems.render(&source, colour()));
            return ExitCode::from(USAGE);
        }
    };
    loaded.plan.listeners = vec![Listener::plain(listen)];
    loaded.plan.admin = Some(admin);
    let options = Options {
        config: None,
        upgrade: false,
        upgrade_socket: None,
        activated: Activated::default(),
        announce: Box::new(announce),
    };
    start(loaded, options)
}

/// Starts the gateway; comes back when it has ended.
pub(super) fn start(loaded: Loaded, options: Options) -> ExitCode {
    let level = diagnostics::start(&loaded.plan.log_level);
    for lint in &loaded.lints {
        tracing::warn!("{lint}");
    }
    if let Err(error) = files::prove(&loaded.plan) {
        tracing::error!("{error}");
        diagnostics::flush(LAST_WORDS);
        return ExitCode::FAILURE;
    }
    let code = match server::run(loaded.plan, options, level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    diagnostics::flush(LAST_WORDS);
    code
}

/// Says where the gateway listens and what stands behind it.
fn announce(plan: &Plan, listening: &[Listening], _admin: Option<SocketAddr>) {
    for open in listening {
        tracing::info!(address = %open.bound, workers = plan.workers, "listening");
    }
    for service in &plan.services {
        for server in &service.upstream.servers {
            let shape = match &server.address {
                ServerAddress::Tcp(_) => "address",
                ServerAddress::Name(..) => "name",
                ServerAddress::Unix(_) => "unix socket",
            };
            let spoken = service.upstream.to_string();
            tracing::info!(service = &*service.name, server = &*server.label, shape, spoken, "upstream");
        }
    }
}

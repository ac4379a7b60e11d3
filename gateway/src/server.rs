//! The program as Pingora runs it: a `Server` with the front as its service.
//!
//! Pingora gives the life cycle, the hand-over of listening sockets and the order of shutting down; the front starts the workers.

mod drain;
mod front;
mod handover;
mod supervisor;

pub mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use probegate_policies::limit::Seed;

use self::drain::{Signalled, Watch};
pub use self::front::Fleet;
use self::front::Front;
use self::handover::Meeting;
use self::signals::Signals;
use crate::acme;
use crate::bans;
use crate::health;
use crate::listen::{self, Activated, Listening};
use crate::local::Socket;
use crate::plan::Plan;
use crate::reload::Reloader;
use crate::state::State;
use crate::switching;
use crate::telemetry::access_log::{self, AccessLogger};
use crate::telemetry::diagnostics::Level;
use crate::tls;
use crate::wire::transport;

/// Tells people that everything is bound: the plan, its listeners, and where the admin listener is.
pub type Announce = Box<dyn Fn(&Plan, &[Listening], Option<SocketAddr>) + Send + Sync>;

/// What a run needs besides the plan.
pub struct Options {
    /// The file to load again on SIGHUP, and which text it was ([`crate::reload::digest`]); `None`: there is none.
    pub config: Option<(PathBuf, String)>,
    /// Take the listening sockets over from a running process.
    pub upgrade: bool,
    /// Where sockets are handed over; `None`: they are not.
    pub upgrade_socket: Option<PathBuf>,
    /// What a supervisor has opened for this process.
    pub activated: Activated,
    /// Called once everything is bound.
    pub announce: Announce,
}

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartFailed {
    /// An address can not be bound.
    #[error(transparent)]
    Bind(#[from] listen::BindFailed),
    /// A certificate can not be used.
    #[error(transparent)]
    Tls(#[from] tls::server::Failed),
    /// A socket that a supervisor has opened can not be used.
    #[error(transparent)]
    Activation(#[from] listen::ActivationFailed),
    /// The system refuses something that is needed.
    #[error("{what}: {error}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

/// Runs until a signal ends the program.
///
/// # Errors
/// Nothing has been served: an address is taken, or the system refuses threads, files or randomness.
pub fn run(plan: Plan, options: Options, level: Level) -> Result<(), StartFailed> {
    let system = |what| move |error| StartFailed::System { what, error };
    transport::ask_with(listen::unacknowledged);
    let meeting = options.upgrade_socket.as_deref().map(Meeting::at).transpose().map_err(system("upgrade socket"))?;
    let signals = Signals::install().map_err(system("signals"))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartFailed::System { what: "randomness", error: error.into() })?;
    let (words, _) = seed.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let seed = Seed(words.try_into().unwrap_or_default());

    // A gateway needs two descriptors for each request in flight; the customary 1024 are soon used up.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors stays as it is"),
    }

    let addresses: Vec<_> = plan.listeners.iter().map(|listener| listener.address).collect();
    let mut bound = Vec::new();
    let mut activated = options.activated;
    if !options.upgrade {
        for address in &addresses {
            bound.push(match activated.claim(*address) {
                Some(listening) => listening,
                None => listen::bind(*address, plan.workers, addresses.len())?,
            });
        }
    }
    let admin_socket = match plan.admin {
        Some(address) if !options.upgrade => {
            let claimed = activated.claim(address);
            let listening = claimed.map_or_else(|| listen::bind(address, 1, 1), Ok)?;
            Some(Socket::new(listening).map_err(system("admin listener"))?)
        }
        _ => None,
    };
    if !options.upgrade {
        activated.finish()?;
    }

    if let Some(target) = &plan.access_log.nginx_errors {
        access_log::prove(target).map_err(system("nginx_errors"))?;
    }
    let (access_log, _writer) = AccessLogger::start(&plan.access_log.target).map_err(system("access log"))?;
    let state = State::new(plan, seed, access_log)?;
    let (file, digest) = options.config.unzip();
    state.set_digest(digest.unwrap_or_default());
    if let Some(file) = &file {
        state.set_file(file);
    }
    state.reloads.are_asked_for_with(signals.reloading());
    acme::load(&state, &state.active().plan);
    tls::watch::start(&state).map_err(system("threads"))?;
    health::start(&state).map_err(system("threads"))?;
    switching::start(&state).map_err(system("threads"))?;
    bans::keeper::start(&state).map_err(system("threads"))?;
    bans::exchange::start(&state).map_err(system("threads"))?;
    let fleet = front::start_workers(&state).map_err(system("workers"))?;
    let reloader = Arc::new(Reloader::new(file, Arc::clone(&state), fleet.clone(), level));

    let conf = ServerConf {
        // The workers are ours; this thread only waits.
        threads: 1,
        work_stealing: false,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        upgrade_sock: meeting.as_ref().map(Meeting::path).unwrap_or_default(),
        ..ServerConf::default()
    };
    let opt = Opt { upgrade: options.upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(opt, conf);
    server.bootstrap();
    let took = meeting.clone().filter(|_| options.upgrade);
    let ending = signals.ending();
    server.add_service(Front::new(
        Arc::clone(&state),
        fleet.clone(),
        bound,
        admin_socket,
        options.announce,
        took,
        ending,
    ));
    let ended = Arc::clone(&state);
    let watch = Watch::new(state, fleet, reloader, signals, meeting);
    server.run(RunArgs { shutdown_signal: Box::new(Signalled(watch)) });
    ended.admin_path.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(())
}

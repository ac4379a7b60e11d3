//! The front: the Pingora service that owns the listeners and the workers behind them.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};

use super::handover::Meeting;
use super::supervisor;
use crate::acme;
use crate::admin::Admin;
use crate::listen::{self, BindFailed, Listening};
use crate::local::Socket;
use crate::plan::Plan;
use crate::server::Announce;
use crate::state::{State, unix_time};
use crate::telemetry::diagnostics;
use crate::worker::accept::{self, Command, Remote};

/// What writing why the process can not start may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The workers of this process and what they listen on.
#[derive(Clone)]
pub struct Fleet {
    remotes: Arc<[Remote]>,
    /// Sockets that the workers hold duplicates of; kept to know what is open.
    listening: Arc<Mutex<Vec<Listening>>>,
    /// Set with what is open: nothing is opened any more.
    closed: Arc<AtomicBool>,
    /// What a hand-over takes along.
    table: Arc<OnceLock<ListenFds>>,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("remotes", &self.remotes)
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}

/// Bound sockets with a duplicate for every worker.
#[derive(Debug)]
pub struct Prepared {
    listening: Listening,
    sockets: Vec<TcpListener>,
}

impl Prepared {
    /// As bound.
    pub fn address(&self) -> SocketAddr {
        self.listening.bound
    }
}

/// Starts as many workers as the plan says.
pub(super) fn start_workers(state: &Arc<State>) -> io::Result<Fleet> {
    let count = state.active().plan.workers;
    let remotes: Vec<Remote> = (0..count)
        .map(|id| accept::start(id, Arc::clone(state)).map(|(remote, _)| remote))
        .collect::<io::Result<_>>()?;
    Ok(Fleet { remotes: remotes.into(), listening: Arc::default(), closed: Arc::default(), table: Arc::default() })
}

impl Fleet {
    /// Readies bound sockets for the workers. Nothing is accepted on them yet.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn prepare(&self, listening: Listening) -> io::Result<Prepared> {
        // Where there are fewer sockets than workers, some workers share one. Where there are more, because a process with more workers has
        // handed them over, some workers have several: the kernel brings connections to every one of them.
        let of = |index: usize| listening.sockets.get(index % listening.sockets.len().max(1));
        let count = self.remotes.len().max(listening.sockets.len());
        let sockets = (0..count).filter_map(|index| of(index).map(TcpListener::try_clone));
        let sockets = sockets.collect::<io::Result<_>>()?;
        Ok(Prepared { listening, sockets })
    }

    /// Lets the workers accept.
    pub fn open(&self, prepared: Prepared) {
        let mut open = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        // A reload may come to its end when the program is going down already.
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        for (remote, socket) in self.remotes.iter().cycle().zip(prepared.sockets) {
            remote.tell(Command::Listen(prepared.listening.configured, socket));
        }
        if let Some(table) = self.table.get()
            && let Err(error) = listen::register(&prepared.listening, table)
        {
            tracing::error!(%error, "this listener cannot be handed over later");
        }
        open.push(prepared.listening);
    }

    /// Binds what `plan` listens on and the fleet does not yet. Nothing is accepted on it before [`Fleet::open`].
    ///
    /// # Errors
    /// The first address that can not be bound.
    pub fn bind_missing(&self, plan: &Plan) -> Result<Vec<Listening>, BindFailed> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = |open: &&Listening| plan.listeners.iter().any(|listener| listener.address == open.configured);
        let kept: usize = listening.iter().filter(configured).map(|open| open.sockets.len()).sum();
        let is_open = |address: &SocketAddr| listening.iter().any(|open| open.configured == *address);
        let missing: Vec<_> =
            plan.listeners.iter().map(|listener| listener.address).filter(|address| !is_open(address)).collect();
        // What those that stay leave of the sockets that can change hands.
        let most = listen::MOST_SOCKETS.saturating_sub(kept) / missing.len().max(1);
        missing.into_iter().map(|address| listen::bind_within(address, self.remotes.len(), most)).collect()
    }

    /// Stops accepting where `plan` does not listen any more.
    pub fn close_surplus(&self, plan: &Plan) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|open| {
            let keep = plan.listeners.iter().any(|listener| listener.address == open.configured);
            if !keep {
                self.tell(|| Command::Close(open.configured));
            }
            keep
        });
        let kept: Vec<_> = listening.iter().map(|open| open.configured).collect();
        self.unregister_others(&kept);
    }

    /// Stops accepting altogether.
    pub fn close_all(&self) {
        let mut open = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        self.tell(|| Command::CloseAll);
        open.clear();
        self.unregister_others(&[]);
    }

    /// What a hand-over takes along; `None`: still starting.
    pub(super) fn table(&self) -> Option<ListenFds> {
        self.table.get().cloned()
    }

    fn unregister_others(&self, keep: &[SocketAddr]) {
        if let Some(table) = self.table.get() {
            listen::unregister_others(keep, table);
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for remote in self.remotes.iter() {
            remote.tell(command());
        }
    }
}

/// The service.
pub(super) struct Front {
    state: Arc<State>,
    fleet: Fleet,
    bound: Vec<Listening>,
    admin: Option<Socket>,
    announce: Announce,
    /// Where the sockets were taken over, if they were.
    meeting: Option<Meeting>,
    /// This process was told to end.
    ending: Arc<AtomicBool>,
}

impl Front {
    pub(super) fn new(
        state: Arc<State>,
        fleet: Fleet,
        bound: Vec<Listening>,
        admin: Option<Socket>,
        announce: Announce,
        meeting: Option<Meeting>,
        ending: Arc<AtomicBool>,
    ) -> Self {
        Self { state, fleet, bound, admin, announce, meeting, ending }
    }

    /// A process that was told to end while it waited for the sockets must not send the old one away.
    fn may_take_over(&self) -> io::Result<()> {
        if self.meeting.is_some() && self.ending.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "told to end before it had taken over"));
        }
        Ok(())
    }

    /// Opens everything the plan listens on: sockets that are bound, that the old process has handed over, or that are bound now.
    fn open(&mut self, fds: Option<&ListenFds>) -> Result<(), super::StartFailed> {
        let active = self.state.active();
        let plan = &active.plan;
        let system = |what| move |error| super::StartFailed::System { what, error };
        // The old process goes on until it is told that this one accepts; where this one fails before, it just does.
        let taken = self.meeting.as_ref().map(Meeting::take).transpose().map_err(system("hand-over"))?;
        // Behind the connection, whose end tells the old process at once.
        self.may_take_over().map_err(system("hand-over"))?;
        let mut ready = std::mem::take(&mut self.bound);
        for listener in &plan.listeners {
            let address = listener.address;
            if !ready.iter().any(|open| open.configured == address) {
                let inherited = fds.and_then(|fds| listen::inherit(address, fds));
                ready.push(match inherited {
                    Some(listening) => listening,
                    None => listen::bind(address, plan.workers, plan.listeners.len())?,
                });
            }
        }
        let admin = match (self.admin.take(), plan.admin) {
            (Some(socket), _) => Some(socket),
            // Only after a hand-over: the old process answers there until it drains.
            (None, Some(address)) => Some(Socket::new(listen::join(address)?).map_err(system("admin listener"))?),
            (None, None) => None,
        };
        (self.announce)(plan, &ready, admin.as_ref().map(|socket| socket.address));
        if let Some(fds) = fds {
            // Set once: a process has one front.
            self.fleet.table.set(Arc::clone(fds)).ok();
        }
        let prepare = |listening| self.fleet.prepare(listening).map_err(system("listeners"));
        let prepared = ready.into_iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        let desk = Admin::new(&self.state);
        if let Some(socket) = admin {
            desk.at_address(socket).map_err(system("admin listener"))?;
        }
        let path = |takes_over| match &plan.admin_socket {
            Some(socket) => desk.at_path(socket, takes_over).map_err(system("admin socket")),
            None => Ok(()),
        };
        if taken.is_none() {
            path(false)?;
        }
        // From here on nothing can fail, but for an old process that has lost its patience.
        for prepared in prepared {
            self.fleet.open(prepared);
        }
        if let Some(taken) = taken {
            self.may_take_over().map_err(system("hand-over"))?;
            taken.confirm().map_err(system("hand-over"))?;
            // Until now, the old one's was there. This one is in charge, whatever happens.
            if let Err(error) = path(true) {
                tracing::error!(%error, "nobody answers at the admin socket");
            }
            // The old process may have turned some until now.
            self.state.switches.read_again(&plan.storage);
            self.state.bans.read_again(&plan.storage, unix_time());
            let active = self.state.active();
            active.bans.release(&active.plan);
            self.state.apply_drains();
        }
        Ok(())
    }
}

#[async_trait]
impl ServiceWithDependents for Front {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        if let Err(error) = self.open(fds.as_ref()) {
            // Pingora would go on without a listener.
            tracing::error!(%error, "cannot start");
            diagnostics::flush(LAST_WORDS);
            std::process::exit(1);
        }
        self.state.switches.take_charge();
        self.state.set_ready();
        // Not before the listeners are open: authorities come through them.
        acme::follow(&self.state);
        supervisor::ready(self.meeting.is_some());
        ready.notify_ready();
        // The workers go on without this task; how they end is the business of `drain`.
        while !*shutdown.borrow() && shutdown.changed().await.is_ok() {}
    }

    fn name(&self) -> &'static str {
        "front"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    /// What an old process must hand over; whatever else it sends is closed.
    fn listen_addresses(&self) -> Option<Vec<String>> {
        let active = self.state.active();
        Some(active.plan.listeners.iter().flat_map(|listener| listen::keys(listener.address)).collect())
    }
}

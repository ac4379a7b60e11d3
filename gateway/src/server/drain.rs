//! The end of the program, and everything else that signals ask for.
//!
//! SIGTERM: own readiness fails → (delay) → listeners close → requests in flight end → exit 0, at the deadline at the latest.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};

use super::front::Fleet;
use super::signals::{Signal, Signals};
use crate::reload::Reloader;
use crate::state::State;

/// How often the end of the last request is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// What writing the last log lines may take beyond the deadline.
const GRACE: Duration = Duration::from_secs(2);

/// Waits for signals on behalf of Pingora.
pub(super) struct Watch {
    state: Arc<State>,
    fleet: Fleet,
    reloader: Arc<Reloader>,
    signals: Signals,
    upgrade_socket: Option<PathBuf>,
    /// The sockets go to a new process.
    upgrading: AtomicBool,
}

impl Watch {
    pub(super) fn new(
        state: Arc<State>,
        fleet: Fleet,
        reloader: Arc<Reloader>,
        signals: Signals,
        upgrade_socket: Option<PathBuf>,
    ) -> Self {
        Self { state, fleet, reloader, signals, upgrade_socket, upgrading: AtomicBool::new(false) }
    }

    /// Drains; a second signal cuts it short.
    async fn terminate(&self) {
        tokio::select! {
            () = drain(&self.state, &self.fleet) => {}
            () = self.impatient() => tracing::warn!("ending at once"),
        }
    }

    /// After Pingora has handed the sockets over: finishes what runs. Pingora itself would cut it off.
    pub(super) fn leave(&self) -> io::Result<()> {
        if self.upgrading.load(Ordering::Acquire) {
            self.state.hand_over();
            tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(self.terminate());
        }
        Ok(())
    }

    async fn impatient(&self) {
        while !matches!(self.signals.next().await, Signal::Interrupt | Signal::Terminate) {}
    }
}

/// What Pingora waits for.
pub(super) struct Signalled(pub(super) Arc<Watch>);

#[async_trait]
impl ShutdownSignalWatch for Signalled {
    async fn recv(&self) -> ShutdownSignal {
        self.0.recv().await
    }
}

impl Watch {
    async fn recv(&self) -> ShutdownSignal {
        loop {
            match self.signals.next().await {
                Signal::Reload => self.reloader.reload(),
                Signal::Reopen => self.state.access_log.reopen(),
                Signal::Interrupt => return ShutdownSignal::FastShutdown,
                Signal::Terminate => {
                    self.terminate().await;
                    // Pingora's graceful way would sleep its whole grace period; everything has ended already.
                    return ShutdownSignal::FastShutdown;
                }
                Signal::Upgrade => match &self.upgrade_socket {
                    // Without a new process to take the sockets, going away would be an outage.
                    Some(path) if is_waited_on(path) => {
                        self.upgrading.store(true, Ordering::Release);
                        return ShutdownSignal::GracefulUpgrade;
                    }
                    Some(path) => {
                        tracing::error!(socket = %path.display(), "SIGQUIT ignored: no new process waits for the sockets");
                    }
                    None => tracing::error!("SIGQUIT ignored: started without --upgrade-socket"),
                },
            }
        }
    }
}

/// Stops accepting and waits for what runs.
async fn drain(state: &State, fleet: &Fleet) {
    let shutdown = state.active().plan.shutdown.clone();
    state.start_draining();
    end_at_the_latest(shutdown.delay + shutdown.drain + GRACE);
    tracing::info!(delay = ?shutdown.delay, deadline = ?shutdown.drain, "draining");
    tokio::time::sleep(shutdown.delay).await;
    state.start_closing();
    fleet.close_all();
    let deadline = Instant::now() + shutdown.drain;
    loop {
        // First the workers accept what the kernel had queued; connections that wait for a request end at their next tick.
        let accepting = state.metrics.accepting.load(Ordering::Acquire);
        let open = state.metrics.connections.load(Ordering::Acquire);
        let now = Instant::now();
        if accepting <= 0 && open <= 0 {
            break;
        }
        if now >= deadline {
            tracing::warn!(connections = open, "the deadline ended connections that were still open");
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    state.access_log.flush(Duration::from_secs(1));
    tracing::info!("drained");
}

/// Ends the process even where this thread can not: a log that nobody reads blocks whoever writes to it.
fn end_at_the_latest(patience: Duration) {
    let watchdog = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        std::thread::sleep(patience);
        std::process::exit(0);
    });
    if let Err(error) = watchdog {
        tracing::warn!(%error, "nothing watches over the deadline");
    }
}

/// Whether a process listens on this Unix socket.
fn is_waited_on(path: &Path) -> bool {
    let path = path.display().to_string();
    std::fs::read_to_string("/proc/net/unix")
        .is_ok_and(|table| table.lines().any(|line| line.split_ascii_whitespace().nth(7) == Some(&path)))
}

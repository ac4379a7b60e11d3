//! Signals, caught from the first moment on: a SIGHUP while the program starts must not kill it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the outside wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: load the configuration again.
    Reload,
    /// SIGUSR1: open the log files again.
    Reopen,
    /// SIGTERM: finish what runs, then end.
    Terminate,
    /// SIGINT: end.
    Interrupt,
    /// SIGQUIT: hand the listening sockets to a new process, finish what runs, then end.
    Upgrade,
}

/// The signals of this process in the order they came.
#[derive(Debug)]
pub struct Signals {
    inbox: Mutex<UnboundedReceiver<Signal>>,
    outbox: UnboundedSender<Signal>,
    ending: Arc<AtomicBool>,
}

impl Signals {
    /// Catches signals from now on.
    ///
    /// # Errors
    /// The system does not let this process catch them.
    pub fn install() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut hangup = signal(SignalKind::hangup())?;
        let mut user = signal(SignalKind::user_defined1())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        // A log or a body at the bound that the system sets for files (RLIMIT_FSIZE) is an error of that write, and not the end of the process.
        // Once caught, a signal stays so.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        drop(entered);
        let (outbox, inbox) = unbounded_channel();
        let more = outbox.clone();
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    let caught = tokio::select! {
                        _ = hangup.recv() => Signal::Reload,
                        _ = user.recv() => Signal::Reopen,
                        _ = terminate.recv() => Signal::Terminate,
                        _ = interrupt.recv() => Signal::Interrupt,
                        _ = quit.recv() => Signal::Upgrade,
                    };
                    if matches!(caught, Signal::Terminate | Signal::Interrupt) {
                        told.store(true, Ordering::Release);
                    }
                    if outbox.send(caught).is_err() {
                        return;
                    }
                }
            });
        })?;
        Ok(Self { inbox: Mutex::new(inbox), outbox: more, ending })
    }

    /// Whether this process was told to end, even where nobody has asked for the [`Signals::next`] one yet.
    pub fn ending(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ending)
    }

    /// Does what a SIGHUP would do.
    pub fn reloading(&self) -> impl Fn() + Send + Sync + 'static {
        let outbox = self.outbox.clone();
        move || {
            // Whoever takes them ends with the process.
            outbox.send(Signal::Reload).ok();
        }
    }

    /// The next signal.
    pub async fn next(&self) -> Signal {
        match self.inbox.lock().await.recv().await {
            Some(signal) => signal,
            // The thread that catches them never ends before the process.
            None => std::future::pending().await,
        }
    }
}

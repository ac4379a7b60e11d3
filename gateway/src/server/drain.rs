//! The end of the program, and everything else that signals ask for.
//!
//! SIGTERM: own readiness fails → (delay) → listeners close → requests in flight end → exit 0, at the deadline at the latest.
//!
//! What still runs at the deadline, or when a second signal makes an end, is cut: each request ends with a line in the log.
//!
//! What this process may do depends on where it is, and only this file takes it from one place to the next:
//!
//! | It is | Its sockets | Switches are turned and written | Bans are written | Own readiness | Leads to |
//! |---|---|---|---|---|---|
//! | starting | nobody's yet, or the old process's | no | no | fails | in charge, ending |
//! | in charge | its own | yes | yes | holds | handing over, ending |
//! | handing over | its own, and perhaps the new process's | no: that one has read them, or will | yes | holds | in charge, handed over |
//! | handed over | the new process's | no | no | the new process's: holds | the end |
//! | ending | its own, until `delay` is over | yes, at the end with what was seen | yes | fails | the end |
//!
//! Handing over ends by the word of the new process, or by knowing that there will be none. A SIGTERM waits for that, and then ends what this process is
//! by then: so never do both go on, nor both go down because each relied on the other. Only SIGINT, or a second SIGTERM, ends a process that does not know;
//! it writes nothing any more, and a new one that has the sockets finds it dead and goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::front::Fleet;
use super::handover::Meeting;
use super::signals::{Signal, Signals};
use super::supervisor;
use crate::bans;
use crate::reload::Reloader;
use crate::state::State;
use crate::switching;

/// How often the end of the last request is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// How long cut requests may take to end. Nothing is waited for any more: the next tick of their worker ends them.
const LAST: Duration = Duration::from_millis(500);

/// What writing down bans and what switches have seen, and telling other gateways of bans, may take, all at once and after everything else.
const TELLING: Duration = Duration::from_secs(2);

/// What cutting and writing the last log lines may take beyond the deadline.
const GRACE: Duration = Duration::from_secs(2);

/// Waits for signals on behalf of Pingora.
pub(super) struct Watch {
    state: Arc<State>,
    fleet: Fleet,
    reloader: Arc<Reloader>,
    signals: Signals,
    meeting: Option<Meeting>,
}

impl Watch {
    pub(super) fn new(
        state: Arc<State>,
        fleet: Fleet,
        reloader: Arc<Reloader>,
        signals: Signals,
        meeting: Option<Meeting>,
    ) -> Self {
        Self { state, fleet, reloader, signals, meeting }
    }

    /// From "in charge" or "handed over" to the end. Drains; a second signal cuts it short.
    async fn terminate(&self) {
        tokio::select! {
            () = drain(&self.state, &self.fleet) => {}
            _ = self.told_to_end() => self.end_at_once().await,
        }
        let outbox = self.state.bans.outbox();
        let deadline = Instant::now() + TELLING;
        // Other gateways hear who was banned or let in a moment ago, by a thread that does not wait for the disk.
        outbox.end();
        self.save(true).await;
        while !outbox.has_ended() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for nothing but the lines of what it cuts.
    async fn end_at_once(&self) {
        tracing::warn!("ending at once");
        self.state.start_draining();
        self.state.start_closing();
        self.fleet.close_all();
        cut(&self.state).await;
        self.state.access_log.flush(Duration::from_secs(1));
    }

    /// Writes down who is banned, and what switches have seen, both at once: a disk may hang. Not where that is another process's business.
    /// `last`: there will be nothing more.
    async fn save(&self, last: bool) {
        if !self.state.is_in_charge() {
            return;
        }
        let (seen, banned) = (Arc::clone(&self.state), Arc::clone(&self.state));
        let seen = spawn_blocking(move || switching::keep_seen(&seen, last));
        let banned = spawn_blocking(move || bans::save(move || banned.bans.write()));
        if let Some(why) = seen.await.unwrap_or_else(|error| Some(error.to_string())) {
            tracing::warn!(why, "what switches have seen will not survive this process");
        }
        if let Some(why) = banned.await.unwrap_or_else(|error| Some(error.to_string())) {
            tracing::error!(why, "bans can not be written: they will not survive this process");
        }
    }

    /// From "in charge" to "handing over", and on to what comes of it. Pingora's own way leaves in any case.
    async fn hand_over(&self) -> Upgrade {
        let Some(meeting) = &self.meeting else {
            tracing::error!("SIGQUIT ignored: started without --upgrade-socket");
            return Upgrade::Failed(None);
        };
        let (true, Some(table)) = (meeting.is_waited_on(), self.fleet.table()) else {
            tracing::error!(socket = meeting.path(), "SIGQUIT ignored: no new process waits for the sockets");
            return Upgrade::Failed(None);
        };
        // What the new process reads.
        self.save(false).await;
        let give = async {
            self.freeze().await?;
            meeting.give(&table).await
        };
        tokio::pin!(give);
        let mut told = None;
        let given = loop {
            tokio::select! {
                biased;
                given = &mut give => break given,
                signal = self.told_to_end() => {
                    if signal == Signal::Interrupt || told.is_some() {
                        return Upgrade::Cut;
                    }
                    tracing::warn!("told to end during the hand-over: its outcome comes first");
                    told = Some(signal);
                }
            }
        };
        match given {
            Ok(()) => {
                tracing::info!("a new process has taken over");
                self.state.hand_over();
                Upgrade::Done
            }
            Err(error) => {
                self.state.switches.thaw();
                tracing::error!(%error, "the hand-over failed, this process stays in charge");
                Upgrade::Failed(told)
            }
        }
    }

    /// From now on no switch is turned, and told so: what was turned before is written when the new process reads it.
    async fn freeze(&self) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let freeze = move || {
            state.switches.freeze();
            state.switches.is_being_written()
        };
        // What is still on its way to the file would replace what the new process has written there by then, which could not read it now either.
        if spawn_blocking(freeze).await.map_err(io::Error::other)? {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the disk with the folder of `storage` does not answer",
            ));
        }
        Ok(())
    }

    /// Loads the configuration again, on a thread of its own: a disk may hang, and an end must not wait for it. What comes meanwhile waits, but for an
    /// end. Returns what is to be done next.
    async fn reload(&self) -> Option<Signal> {
        let mut upgrade = None;
        loop {
            supervisor::reloading();
            let (tell, mut told) = oneshot::channel();
            let reloader = Arc::clone(&self.reloader);
            let run = move || {
                reloader.reload();
                // Nobody may wait any more.
                tell.send(()).ok();
            };
            if let Err(error) = std::thread::Builder::new().name("reload".into()).spawn(run) {
                tracing::error!(%error, "reload refused, the configuration before stays in force");
                supervisor::ready(false);
                return upgrade;
            }
            let mut again = false;
            loop {
                tokio::select! {
                    biased;
                    // Without a word where it panicked.
                    _ = &mut told => break,
                    signal = self.signals.next() => match signal {
                        Signal::Interrupt | Signal::Terminate => return Some(signal),
                        Signal::Reopen => self.state.access_log.reopen(),
                        // However many: the file is read once more, as it is then.
                        Signal::Reload => again = true,
                        Signal::Upgrade => upgrade = Some(signal),
                    },
                }
            }
            supervisor::ready(false);
            if !again {
                return upgrade;
            }
        }
    }

    /// The next signal. What needs to know the listeners waits until they are open; an end does not.
    async fn next(&self) -> Signal {
        let signal = self.signals.next().await;
        if matches!(signal, Signal::Reload | Signal::Upgrade) {
            tokio::select! {
                biased;
                () = self.opened() => {}
                end = self.told_to_end() => return end,
            }
        }
        signal
    }

    /// Waits until the listeners are open.
    async fn opened(&self) {
        while !self.state.is_open() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The next signal to end; what else comes meanwhile is done where it can be.
    async fn told_to_end(&self) -> Signal {
        loop {
            match self.signals.next().await {
                signal @ (Signal::Interrupt | Signal::Terminate) => return signal,
                // The log may be rotated meanwhile; the last lines belong into the new file.
                Signal::Reopen => self.state.access_log.reopen(),
                Signal::Reload => {
                    tracing::warn!("SIGHUP ignored: not during the start, a hand-over or while going down");
                }
                Signal::Upgrade => {}
            }
        }
    }
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    /// A new process has the sockets and goes on.
    Done,
    /// There is none, and this one stays in charge; what has told it to end meanwhile counts now.
    Failed(Option<Signal>),
    /// This one ends at once, and nobody waits for how it ends.
    Cut,
}

/// What Pingora waits for.
pub(super) struct Signalled(pub(super) Watch);

#[async_trait]
impl ShutdownSignalWatch for Signalled {
    async fn recv(&self) -> ShutdownSignal {
        self.0.recv().await
    }
}

impl Watch {
    async fn recv(&self) -> ShutdownSignal {
        let mut known = None;
        loop {
            let signal = match known.take() {
                Some(signal) => signal,
                None => self.next().await,
            };
            match signal {
                Signal::Reload => known = self.reload().await,
                Signal::Reopen => self.state.access_log.reopen(),
                Signal::Interrupt => {
                    supervisor::stopping();
                    end_at_the_latest(GRACE);
                    self.end_at_once().await;
                    return ShutdownSignal::FastShutdown;
                }
                Signal::Terminate => {
                    supervisor::stopping();
                    self.terminate().await;
                    // Pingora's graceful way would sleep its whole grace period; everything has ended already.
                    return ShutdownSignal::FastShutdown;
                }
                Signal::Upgrade => match self.hand_over().await {
                    Upgrade::Failed(told) => known = told,
                    // The supervisor knows the new process as the main one, or will: of this one it hears nothing.
                    Upgrade::Cut => {
                        end_at_the_latest(GRACE);
                        self.end_at_once().await;
                        return ShutdownSignal::FastShutdown;
                    }
                    Upgrade::Done => {
                        self.terminate().await;
                        return ShutdownSignal::FastShutdown;
                    }
                },
            }
        }
    }
}

/// Stops accepting and waits for what runs.
async fn drain(state: &State, fleet: &Fleet) {
    let mut shutdown = state.active().plan.shutdown.clone();
    if state.is_handed_over() {
        // Nobody has to look away: the new process accepts at the same place.
        shutdown.delay = Duration::ZERO;
    }
    state.start_draining();
    end_at_the_latest(shutdown.delay + shutdown.drain + GRACE + TELLING);
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
            cut(state).await;
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    state.access_log.flush(Duration::from_secs(1));
    tracing::info!("drained");
}

/// Ends what still runs.
async fn cut(state: &State) {
    state.start_cutting();
    let deadline = Instant::now() + LAST;
    while state.metrics.connections.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
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

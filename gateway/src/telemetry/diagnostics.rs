//! The diagnostics log: what the gateway has to say about itself, on standard error. Pingora's records arrive here as well.
//!
//! Lines are written by a thread of their own: workers and whoever else has something to say never wait for standard error. Where nobody reads it, lines
//! are lost, counted and reported.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines on their way to the writer; more are dropped.
const QUEUE: usize = 1024;

/// Lines that were lost because standard error was too slow. One log for the process, as `tracing` has it.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The way to the writer.
static WRITER: OnceLock<SyncSender<Message>> = OnceLock::new();

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// What formatted lines are written to, whole: the queue of the writer.
#[derive(Clone, Copy, Debug)]
struct Outlet;

impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match WRITER.get() {
            Some(writer) => {
                if writer.try_send(Message::Line(line.to_vec())).is_err() {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
                Ok(line.len())
            }
            // The system gave no thread.
            None => io::stderr().lock().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct Level {
    handle: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
}

impl Level {
    /// Puts a new filter in force. One that can not be understood changes nothing; the configuration has checked it before.
    pub fn set(&self, filter: &str) {
        if let Err(error) = parse(filter).map(|filter| self.handle.reload(filter)) {
            tracing::warn!(%error, "the log level was not changed");
        }
    }
}

/// Starts the log: text for a terminal, JSON lines otherwise, so that one parser reads diagnostics and access log.
pub fn start(filter: &str) -> Level {
    let (outbox, inbox) = sync_channel(QUEUE);
    let writer = std::thread::Builder::new().name("diagnostics".into()).spawn(move || write_all(&inbox));
    if writer.is_ok() {
        // A second log in one process (tests in the library) keeps the first.
        WRITER.set(outbox).ok();
    }
    let filter = parse(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let terminal = io::stderr().is_terminal();
    let format = tracing_subscriber::fmt::layer().with_writer(|| Outlet);
    let started = if terminal {
        registry.with(format.with_target(false)).try_init()
    } else {
        registry.with(format.json().flatten_event(true).with_current_span(false).with_span_list(false)).try_init()
    };
    started.ok();
    Level { handle }
}

/// Lines that were lost because standard error was too slow.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Waits until everything that was said so far is written, at the longest `patience`: for the end of the process.
pub fn flush(patience: Duration) {
    let Some(writer) = WRITER.get() else { return };
    let until = Instant::now() + patience;
    let (done, wait) = sync_channel(1);
    let mut message = Message::Flush(done);
    while let Err(TrySendError::Full(back)) = writer.try_send(message) {
        if Instant::now() >= until {
            return;
        }
        message = back;
        std::thread::sleep(Duration::from_millis(5));
    }
    wait.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
}

/// The writer's thread.
fn write_all(messages: &Receiver<Message>) {
    let mut reported = 0;
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line) => {
                if io::stderr().lock().write_all(&line).is_err() {
                    // Nobody is left who could be told.
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            Message::Flush(done) => {
                done.send(()).ok();
            }
        }
        let dropped = DROPPED.load(Ordering::Relaxed);
        if dropped > reported {
            tracing::warn!(lines = dropped - reported, "diagnostics lines were dropped");
            reported = dropped;
        }
    }
}

/// A filter. What Pingora has to say below a warning is about its own workings, and the library that speaks to Redis writes dozens of lines a second about a
/// cluster that is gone, for which there is one of ours: shown only where the level asks for everything, or for them.
fn parse(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    match filter {
        "debug" | "trace" => EnvFilter::try_new(filter),
        _ => EnvFilter::try_new(format!("pingora=warn,pingora_core=warn,redis=off,{filter}")),
    }
}

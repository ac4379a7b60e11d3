//! The access log: lines are formatted by the workers into memory, and written by one thread. A disk or terminal that is too slow
//! costs lines, which are counted and reported, never requests.

mod format;
mod nginx;
mod time;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use probegate_policies::client::Identity;
use probegate_policies::reason::Reason;

use crate::connection::Facts;
use crate::plan::{AccessFormat, LogTarget, Plan};
use crate::wire::head::FieldView;

/// Batches on their way to the writer; more are dropped.
const QUEUE: usize = 256;

/// A worker hands its lines over when they reach this many bytes, or at its next tick. Each time wakes the writer, on a machine with few cores in the place of
/// the worker.
const BATCH: usize = 64 * 1024;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It went to the app.
    Forward,
    /// The gateway answered a probe.
    Answer,
    /// A file answered.
    File,
    /// The client was sent elsewhere.
    Redirect,
    /// A rule kept it out.
    Deny,
    /// A limit kept it out.
    Limit,
    /// It was not a request that could be served.
    Refuse,
    /// It was let in, but the app or the client failed.
    Fail,
}

impl Decision {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] =
        [Self::Forward, Self::Answer, Self::File, Self::Redirect, Self::Deny, Self::Limit, Self::Refuse, Self::Fail];

    /// As it is logged, and as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Answer => "answer",
            Self::File => "file",
            Self::Redirect => "redirect",
            Self::Deny => "deny",
            Self::Limit => "limit",
            Self::Refuse => "refuse",
            Self::Fail => "fail",
        }
    }
}

/// Who made an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This gateway.
    Gateway,
    /// The app. Its body may have been replaced by a page.
    Upstream,
}

impl Origin {
    /// As it is logged.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

/// Everything a line can tell.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The request id.
    pub id: &'a [u8; 32],
    /// The connection.
    pub facts: &'a Facts,
    /// Who the client is; `None`: the request was not judged.
    pub identity: Option<&'a Identity>,
    /// The request's fields.
    pub fields: FieldView<'a>,
    /// The method.
    pub method: &'a [u8],
    /// The target as received.
    pub target: &'a [u8],
    /// The protocol.
    pub protocol: &'static str,
    /// `Host` as received.
    pub host: &'a [u8],
    /// The status the client saw.
    pub status: u16,
    /// Who made what the client saw; `None`: it saw nothing.
    pub origin: Option<Origin>,
    /// What became of it.
    pub decision: Decision,
    /// Why.
    pub reason: Option<Reason>,
    /// The service.
    pub service: Option<&'a str>,
    /// The policy that applied: its kind, its name, its line in the configuration.
    pub policy: Option<(&'static str, &'a str, u32)>,
    /// The ban, in shadow mode, that would have refused it.
    pub would_ban: Option<&'a str>,
    /// How long a limit has had it wait.
    pub delayed: Option<Duration>,
    /// The limits that would have refused it, if they did more than count: a plan, and indices into its list.
    pub shadows: Option<(&'a Plan, &'a [usize])>,
    /// The token that let it in: set and slot.
    pub slot: Option<(&'a str, &'a str)>,
    /// The server that was asked.
    pub upstream: Option<&'a str>,
    /// The slot of that server.
    pub upstream_slot: Option<&'a str>,
    /// Its status.
    pub upstream_status: Option<u16>,
    /// Where the answer to a probe came from.
    pub probe_cache: Option<&'static str>,
    /// How often the request was sent.
    pub tries: u32,
    /// Until the app's head was complete.
    pub first_byte: Option<Duration>,
    /// The whole request.
    pub duration: Duration,
    /// Bytes received, head and body.
    pub received: u64,
    /// Bytes of body sent.
    pub sent: u64,
}

/// The way to the writer.
#[derive(Clone, Debug)]
pub struct AccessLogger {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Lines { target: LogTarget, text: Vec<u8>, count: u64 },
    Flush(SyncSender<()>),
}

impl AccessLogger {
    /// Starts the writer.
    ///
    /// # Errors
    /// The thread can not be started, or the file can not be opened.
    pub fn start(target: &LogTarget) -> io::Result<(Self, JoinHandle<()>)> {
        prove(target)?;
        let (queue, messages) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let logger = Self { queue, shared: Arc::clone(&shared) };
        let writer =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&messages, &shared))?;
        Ok((logger, writer))
    }

    /// Opens the file again, as a rotation of logs demands.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Lines that were lost because the target was too slow.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over so far is written, at the longest `patience`.
    pub fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        // A writer that is stuck (nobody reads the pipe) keeps its queue full: it is not waited for beyond the patience.
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        wait.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
    }
}

/// Lines of one worker that were not handed over yet.
#[derive(Debug)]
pub struct LineBuffer {
    logger: AccessLogger,
    target: LogTarget,
    page: Page,
    count: u64,
}

/// Where lines are written, with what is at hand for the next one.
#[derive(Debug, Default)]
struct Page {
    text: Vec<u8>,
    /// Room for a target while it is looked through.
    shown: Vec<u8>,
    second: time::Second,
}

impl LineBuffer {
    /// A buffer that hands over to `logger`.
    pub fn new(logger: AccessLogger) -> Self {
        Self { logger, target: LogTarget::Stderr, page: Page::default(), count: 0 }
    }

    /// Adds a line.
    pub fn write(&mut self, plan: &Plan, entry: &Entry<'_>) {
        self.turn_to(&plan.access_log.target);
        match plan.access_log.format {
            AccessFormat::Off => return,
            AccessFormat::Json => format::json(&mut self.page, entry, SystemTime::now()),
            AccessFormat::Combined => format::combined(&mut self.page, entry, SystemTime::now()),
        }
        self.wrote();
    }

    /// Adds a line as nginx writes it to its error log, if it would. `excess`: how far the request was beyond its
    /// limit, in thousandths of a request.
    pub fn write_refusal(&mut self, target: &LogTarget, entry: &Entry<'_>, worker: usize, excess: u64) {
        self.turn_to(target);
        if nginx::line(&mut self.page, entry, SystemTime::now(), worker, excess) {
            self.wrote();
        }
    }

    fn turn_to(&mut self, target: &LogTarget) {
        if self.target != *target {
            self.flush();
            self.target = target.clone();
        }
    }

    fn wrote(&mut self) {
        self.count += 1;
        if self.page.text.len() >= BATCH {
            self.flush();
        }
    }

    /// Hands the lines over.
    pub fn flush(&mut self) {
        if self.page.text.is_empty() {
            return;
        }
        let text = std::mem::replace(&mut self.page.text, Vec::with_capacity(BATCH + 2048));
        let count = std::mem::take(&mut self.count);
        if self.logger.queue.try_send(Message::Lines { target: self.target.clone(), text, count }).is_err() {
            self.logger.shared.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// The writer's thread.
fn write_all(messages: &Receiver<Message>, shared: &Shared) {
    let mut files = Files::default();
    let mut reported = 0;
    while let Ok(message) = messages.recv() {
        let (target, text, count) = match message {
            Message::Lines { target, text, count } => (target, text, count),
            Message::Flush(done) => {
                done.send(()).ok();
                continue;
            }
        };
        if shared.reopen.swap(false, Ordering::AcqRel) {
            files = Files::default();
        }
        let written = match &target {
            LogTarget::Stderr => io::stderr().lock().write_all(&text),
            LogTarget::Stdout => io::stdout().lock().write_all(&text),
            LogTarget::File(path) => files.write(path, &text),
        };
        if let Err(error) = written {
            shared.dropped.fetch_add(count, Ordering::Relaxed);
            tracing::error!(%error, "the access log can not be written");
        }
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if dropped > reported {
            tracing::warn!(lines = dropped - reported, "access-log lines were dropped");
            reported = dropped;
        }
    }
}

/// Files that are open. There are two in a configuration; after a reload, others.
#[derive(Debug, Default)]
struct Files(Vec<(PathBuf, File)>);

impl Files {
    const MOST: usize = 2;

    /// Opens the file where it is not. A failure leaves it to the next one to try again.
    fn write(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        if let Some((_, file)) = self.0.iter_mut().find(|(open, _)| open == path) {
            return file.write_all(text);
        }
        let mut file = open(path)?;
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        let written = file.write_all(text);
        self.0.push((path.to_owned(), file));
        written
    }
}

/// Tries whether lines can be written there.
///
/// # Errors
/// The file can not be opened.
pub fn prove(target: &LogTarget) -> io::Result<()> {
    match target {
        LogTarget::File(path) => {
            open(path).map(drop).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        LogTarget::Stderr | LogTarget::Stdout => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

//! Who changed what: a line in the diagnostics log for every attempt, and one in a file where the configuration names one.
//!
//! A thread of its own writes the file, so that a disk that hangs holds up no answer; another file has another thread. It opens the file for every line: whoever
//! rotates it moves it away, and that is all. Whether it can be opened is tried before there is anything to write, and again and again: a log that is missed
//! when it is wanted is missed too late. A disk that does not answer is one that can not be written. A line that can not be written is kept and tried
//! again, and those behind it wait: only a file that takes them is one that can be written, as a full disk opens files, too.
//!
//! Refused attempts are told of as well, in short, some in a minute and no more, with the number of those that were not: whoever may do nothing shall not
//! fill the disk, nor hide among a thousand lines what is to be seen.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::guard::Who;
use crate::state::unix_time;
use crate::telemetry::sparing::Sparing;

/// Lines on their way to the file; more are lost, and the log says so.
const QUEUE: usize = 1024;

/// How soon a file is tried again that could not be written.
const AGAIN: Duration = Duration::from_secs(5);

/// How soon one that could.
const SELDOM: Duration = Duration::from_secs(60);

/// How long the disk may take for a line until nobody believes that it will be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Attempts of those who may not that are told of in one span of seconds.
const STRANGERS: (u64, u64) = (20, 60);

/// The same of those who showed who they are, and may not do that: a token for looking, a field that is missing. Strangers' attempts do not hide theirs, nor
/// theirs those of who may.
const LOOKERS: (u64, u64) = (20, 60);

/// The same of those who may, and were refused for another reason.
const KNOWN: (u64, u64) = (10, 1);

/// Bytes of a refused target that are told.
const TARGET: usize = 200;

/// What was to be changed, and how that ended.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// By whom.
    pub who: Who,
    /// The method.
    pub method: &'static str,
    /// The path with its query.
    pub target: String,
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused.
    pub reason: Option<&'static str>,
    /// Whoever asked may do such things.
    pub may: bool,
}

/// Writes one file.
#[derive(Debug)]
struct Writer {
    /// Lines; without a byte, the file is only opened.
    outbox: SyncSender<Vec<u8>>,
    progress: Arc<Progress>,
    thread: Thread,
}

impl Writer {
    /// Starts the thread.
    fn start(file: &Path, failing: &Arc<AtomicBool>) -> io::Result<Self> {
        let (outbox, inbox) = sync_channel(QUEUE);
        let progress = Progress { file: file.to_owned(), failing: Arc::clone(failing), at: Mutex::default() };
        let progress = Arc::new(progress);
        let told = Arc::clone(&progress);
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || told.run(&inbox))?;
        Ok(Self { outbox, progress, thread: thread.thread().clone() })
    }

    /// Hands a line to the thread. Why it can not be.
    fn send(&self, bytes: Vec<u8>) -> Result<(), &'static str> {
        let error = match self.outbox.try_send(bytes) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => "too many wait for the disk",
            Err(TrySendError::Disconnected(_)) => "nobody writes",
        };
        self.progress.tell(&self.progress.at(), Some(error));
        Err(error)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.progress.at().left = true;
        self.thread.unpark();
    }
}

/// How the thread that writes a file gets on.
#[derive(Debug)]
struct Progress {
    file: PathBuf,
    failing: Arc<AtomicBool>,
    at: Mutex<At>,
}

#[derive(Debug, Default)]
struct At {
    /// Since when the line is being written, or waits for another try.
    since: Option<Instant>,
    /// Lines go elsewhere from now on: what becomes of this file is told no more.
    left: bool,
}

impl Progress {
    fn run(&self, inbox: &Receiver<Vec<u8>>) {
        while let Ok(first) = inbox.recv() {
            let (mut next, mut wrong) = (Some(first), None);
            while let Some(line) = next {
                wrong = self.write(&line);
                next = inbox.try_recv().ok();
            }
            // Not between lines that wait: a disk that is behind is not told to be well with each of them.
            let mut at = self.at();
            at.since = None;
            self.tell(&at, wrong.as_deref());
        }
    }

    /// Writes a line, however often that takes. Why it is not written: nobody waits for it, or nobody writes to this file any more.
    fn write(&self, line: &[u8]) -> Option<String> {
        let mut begun = false;
        loop {
            self.at().since = Some(Instant::now());
            let error = append(&self.file, line, &mut begun).err()?.to_string();
            let at = self.at();
            self.tell(&at, Some(&error));
            if line.is_empty() {
                return Some(error);
            }
            if at.left {
                tracing::error!(file = %self.file.display(), error, "a change was not written down");
                return Some(error);
            }
            drop(at);
            thread::park_timeout(AGAIN);
        }
    }

    /// Whether a line is being written, or waits for another try. A disk that does not answer is told.
    fn is_busy(&self) -> bool {
        let at = self.at();
        if at.since.is_some_and(|since| since.elapsed() >= PATIENCE) {
            self.tell(&at, Some("the disk does not answer"));
        }
        at.since.is_some()
    }

    /// Tells what is `wrong`, where that is news. While it is locked where the thread is, so that nothing is told after its contrary.
    fn tell(&self, at: &At, wrong: Option<&str>) {
        if at.left {
            return;
        }
        let failed = self.failing.swap(wrong.is_some(), Ordering::Relaxed);
        match wrong {
            Some(error) if !failed => {
                tracing::error!(file = %self.file.display(), error, "changes can not be written down");
            }
            None if failed => tracing::info!(file = %self.file.display(), "changes can be written down again"),
            _ => {}
        }
    }

    fn at(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines go.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    /// Of the file that the configuration names.
    writer: Arc<Mutex<Option<Writer>>>,
    /// Where it is said that changes can not be written.
    failing: Arc<AtomicBool>,
    strangers: Arc<Sparing>,
    lookers: Arc<Sparing>,
    known: Arc<Sparing>,
}

impl Audit {
    /// One that writes nothing yet. `failing`: where it says that it can not.
    pub(super) fn new(failing: Arc<AtomicBool>) -> Self {
        let sparing = |(most, span)| Arc::new(Sparing::new(most, span));
        let [strangers, lookers, known] = [STRANGERS, LOOKERS, KNOWN].map(sparing);
        Self { writer: Arc::default(), failing, strangers, lookers, known }
    }

    /// Finds out whether the file can be written, without a line, and whether the disk answers. Both now and then.
    pub(super) fn attempt(&self, file: Option<&Path>, last: &mut Option<(u64, Instant)>, generation: u64) {
        let Some(file) = file else {
            *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return;
        };
        self.with(file, |writer| {
            let pause = if self.is_failing() { AGAIN } else { SELDOM };
            let lately = last.is_some_and(|(known, at)| known == generation && at.elapsed() < pause);
            // A line that is being written finds it out.
            if writer.progress.is_busy() || lately {
                return;
            }
            *last = Some((generation, Instant::now()));
            // What is wrong is told there.
            writer.send(Vec::new()).ok();
        });
    }

    /// The one that writes this file; a reload may have named another one.
    fn with(&self, file: &Path, act: impl FnOnce(&Writer)) {
        let mut kept = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match kept.take().filter(|writer| writer.progress.file == file) {
            Some(writer) => writer,
            None => match Writer::start(file, &self.failing) {
                Ok(writer) => {
                    // Whatever is wrong with that one is told anew.
                    if self.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!(file = %file.display(), "changes go to this file from now on");
                    }
                    writer
                }
                Err(error) => {
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(file = %file.display(), %error, "changes can not be written down");
                    }
                    return;
                }
            },
        };
        act(kept.insert(writer));
    }

    /// Whether the last change could not be written down.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Writes down a change. `file`: where, beside the log.
    pub(super) fn write(&self, file: Option<&Path>, change: &Change) {
        let Change { who, method, target, status, reason, may } = change;
        if *status < 400 {
            tracing::info!(%who, method, path = target, status, "changed over the admin listener");
            return self.append(file, &told(change, target));
        }
        let sparing = match who {
            _ if *may => &self.known,
            Who::Token(..) | Who::User(..) => &self.lookers,
            Who::Address(_) => &self.strangers,
        };
        let Some(left_out) = sparing.pass(unix_time()) else { return };
        let target = cut(target);
        let left_out = Some(left_out).filter(|count| *count > 0);
        let text = "a change over the admin listener was refused";
        tracing::warn!(%who, method, path = &*target, status, reason, left_out, "{text}");
        let mut value = told(change, &target);
        if let (Some(fields), Some(count)) = (value.as_object_mut(), left_out) {
            fields.insert("left_out".to_owned(), count.into());
        }
        self.append(file, &value);
    }

    /// Says how many attempts were not told of, where no other followed that could say it.
    pub(super) fn rest(&self, file: Option<&Path>) {
        let all =
            [(&self.strangers, "strangers"), (&self.lookers, "those who may not"), (&self.known, "those who may")];
        for (sparing, who) in all {
            if let Some(left_out) = sparing.rest(unix_time()) {
                tracing::warn!(who, left_out, "more changes over the admin listener were refused");
                self.append(file, &json!({"time": now(), "who": who, "outcome": "refused", "left_out": left_out}));
            }
        }
    }

    fn append(&self, file: Option<&Path>, value: &Value) {
        let Some(file) = file else { return };
        self.with(file, |writer| {
            if let Err(error) = writer.send(format!("{value}\n").into_bytes()) {
                tracing::error!("a change was not written down: {error}");
            }
        });
    }
}

/// The beginning of a target.
fn cut(target: &str) -> Cow<'_, str> {
    let mut end = TARGET;
    while !target.is_char_boundary(end.min(target.len())) {
        end -= 1;
    }
    match target.get(..end) {
        Some(start) if start.len() < target.len() => format!("{start}…").into(),
        _ => target.into(),
    }
}

/// The time, to the millisecond.
fn now() -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).ok().and_then(DateTime::from_timestamp_millis);
    now.map(|now| now.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn told(Change { who, method, status, reason, .. }: &Change, target: &str) -> Value {
    let mut value = json!({
        "time": now(),
        "who": who.to_string(),
        "method": method,
        "target": target,
        "outcome": if *status < 400 { "done" } else { "refused" },
        "status": status,
    });
    if let (Some(fields), Some(reason)) = (value.as_object_mut(), reason) {
        fields.insert("reason".to_owned(), (*reason).into());
    }
    value
}

/// Writes a line at the end of the file. `begun`: some of it is there already, since an attempt that failed.
fn append(file: &Path, line: &[u8], begun: &mut bool) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(file)?;
    if *begun {
        // What a full disk has cut off stays a line of its own.
        file.write_all(b"\n")?;
        *begun = false;
    }
    let mut rest = line;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                *begun = true;
                rest = rest.get(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_target_is_cut_between_characters() {
        assert_eq!(cut("/short"), "/short");
        assert_eq!(cut(&"a".repeat(TARGET)), "a".repeat(TARGET));
        assert_eq!(cut(&"a".repeat(TARGET + 1)), format!("{}…", "a".repeat(TARGET)));
        let half = format!("{}ö{}", "a".repeat(TARGET - 1), "b".repeat(9));
        assert_eq!(cut(&half), format!("{}…", "a".repeat(TARGET - 1)));
    }
}

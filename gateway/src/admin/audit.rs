//! Who changed what: a line in the diagnostics log for every attempt, and one in a file where the configuration names one.
//!
//! A thread of its own writes the file, so that a disk that hangs holds up no answer. It opens the file for every line: whoever rotates it moves it away, and
//! that is all. Whether it can be opened is tried before there is anything to write, and again and again: a log that is missed when it is wanted is missed
//! too late. A disk that does not answer is one that can not be written.
//!
//! Refused attempts are told of as well, in short, some in a minute and no more, with the number of those that were not: whoever may do nothing shall not
//! fill the disk, nor hide among a thousand lines what is to be seen.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
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

/// How long a line may wait for the disk until nobody believes that it will be written.
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

/// A line on its way to its file; without a byte, the file is only opened.
#[derive(Debug)]
struct Line {
    file: PathBuf,
    bytes: Vec<u8>,
    since: Instant,
}

/// How the thread that writes gets on.
#[derive(Debug)]
struct Progress {
    failing: Arc<AtomicBool>,
    /// Since when the line waits that is being written: those behind it are younger.
    oldest: Mutex<Option<Instant>>,
}

impl Progress {
    fn is_at(&self, since: Option<Instant>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether a line is being written. One that has waited for too long is told.
    fn is_busy(&self, file: &Path) -> bool {
        let oldest = self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        // Told while it is locked, so that it is never told after it was written.
        if oldest.is_some_and(|since| since.elapsed() >= PATIENCE) {
            self.found(file, Some("the disk does not answer"));
        }
        oldest.is_some()
    }

    /// Tells what became of the last line, where that is news.
    fn found(&self, file: &Path, wrong: Option<&str>) {
        let failed = self.failing.swap(wrong.is_some(), Ordering::Relaxed);
        match wrong {
            Some(error) if !failed => {
                tracing::error!(file = %file.display(), error, "changes can not be written down");
            }
            None if failed => tracing::info!(file = %file.display(), "changes can be written down again"),
            _ => {}
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    outbox: SyncSender<Line>,
    progress: Arc<Progress>,
    strangers: Arc<Sparing>,
    lookers: Arc<Sparing>,
    known: Arc<Sparing>,
}

impl Audit {
    /// Starts the thread that writes. `failing`: where it says that it can not.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(failing: Arc<AtomicBool>) -> io::Result<Self> {
        let (outbox, inbox) = sync_channel::<Line>(QUEUE);
        let progress = Arc::new(Progress { failing, oldest: Mutex::default() });
        let told = Arc::clone(&progress);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            for Line { file, bytes, since } in inbox {
                told.is_at(Some(since));
                let written = append(&file, &bytes);
                told.is_at(None);
                told.found(&file, written.err().map(|error| error.to_string()).as_deref());
            }
        })?;
        let sparing = |(most, span)| Arc::new(Sparing::new(most, span));
        Ok(Self { outbox, progress, strangers: sparing(STRANGERS), lookers: sparing(LOOKERS), known: sparing(KNOWN) })
    }

    /// Finds out whether the file can be written, without a line, and whether lines wait for too long. Both now and then.
    pub(super) fn attempt(&self, file: Option<&Path>, last: &mut Option<(u64, Instant)>, generation: u64) {
        // A line that is being written finds it out.
        if file.is_some_and(|file| self.progress.is_busy(file)) {
            return;
        }
        let pause = if self.is_failing() { AGAIN } else { SELDOM };
        if last.is_some_and(|(known, at)| known == generation && at.elapsed() < pause) {
            return;
        }
        *last = Some((generation, Instant::now()));
        if let Some(file) = file {
            self.send(file, Vec::new());
        }
    }

    /// Whether the last change could not be written down.
    pub(super) fn is_failing(&self) -> bool {
        self.progress.failing.load(Ordering::Relaxed)
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
        if let Some(error) = self.send(file, format!("{value}\n").into_bytes()) {
            tracing::error!("a change was not written down: {error}");
        }
    }

    /// Hands a line to the thread. Why it can not be.
    fn send(&self, file: &Path, bytes: Vec<u8>) -> Option<&'static str> {
        let line = Line { file: file.to_owned(), bytes, since: Instant::now() };
        let error = match self.outbox.try_send(line) {
            Ok(()) => return None,
            Err(TrySendError::Full(_)) => "the disk is too slow",
            Err(TrySendError::Disconnected(_)) => "nobody writes",
        };
        self.progress.found(file, Some(error));
        Some(error)
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

fn append(file: &Path, line: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(file)?.write_all(line)
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

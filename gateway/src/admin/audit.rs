//! Who changed what: a line in the diagnostics log for every attempt, and one in a file where the configuration names one.
//!
//! A thread of its own writes the file, so that a disk that hangs holds up no answer. It opens the file for every line: whoever rotates it moves it away, and
//! that is all. Refused attempts are written as well, some each second and no more: whoever has no token shall not fill the disk.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::guard::Who;
use crate::state::unix_time;

/// Lines on their way to the file; more are lost, and the log says so.
const QUEUE: usize = 1024;

/// Refused attempts that are written in one second.
const REFUSED: u64 = 10;

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
}

/// Where lines go.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    outbox: SyncSender<(PathBuf, Vec<u8>)>,
    /// The current second, and how many refused attempts were written in it: the upper 44 bits and the lower 20.
    refused: Arc<AtomicU64>,
}

impl Audit {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        let (outbox, inbox) = sync_channel::<(PathBuf, Vec<u8>)>(QUEUE);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let mut failed = false;
            for (file, line) in inbox {
                match append(&file, &line) {
                    Ok(()) => failed = false,
                    Err(error) if !failed => {
                        failed = true;
                        tracing::error!(file = %file.display(), %error, "changes can not be written down");
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { outbox, refused: Arc::default() })
    }

    /// Writes down a change. `file`: where, beside the log.
    pub(super) fn write(&self, file: Option<&Path>, change: &Change) {
        let Change { who, method, target, status, reason } = change;
        let done = *status < 400;
        if done {
            tracing::info!(%who, method, path = target, status, "changed over the admin listener");
        } else {
            tracing::warn!(%who, method, path = target, status, reason, "a change over the admin listener was refused");
        }
        let Some(file) = file.filter(|_| done || self.has_room()) else { return };
        let line = format!("{}\n", told(change));
        match self.outbox.try_send((file.to_owned(), line.into_bytes())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::error!("a change was not written down: the disk is too slow"),
            Err(TrySendError::Disconnected(_)) => tracing::error!("a change was not written down: nobody writes"),
        }
    }

    /// Whether one more refused attempt may be written in this second.
    fn has_room(&self) -> bool {
        let now = unix_time() << 20;
        let count = |written: u64| if written & !0xf_ffff == now { written & 0xf_ffff } else { 0 };
        let more = |written| Some(now | (count(written) + 1)).filter(|_| count(written) < REFUSED);
        self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

fn told(Change { who, method, target, status, reason }: &Change) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).ok().and_then(DateTime::from_timestamp_millis);
    let now = now.map(|now| now.to_rfc3339_opts(SecondsFormat::Millis, true));
    let mut value = json!({
        "time": now,
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

//! An ask that is under way before one probe, and how it ends.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;
use tokio::sync::Notify;

use super::Kept;

/// How the app was asked, for the log line of whoever had it asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Index of the server that was asked last.
    pub server: Option<usize>,
    /// Its status.
    pub status: Option<u16>,
    /// When its head was complete.
    pub answered: Option<Instant>,
    /// How often it was asked.
    pub sent: u32,
}

/// How an ask ended.
#[derive(Clone, Debug)]
pub enum Landed {
    /// With an answer.
    Answer(Arc<Kept>),
    /// Without one.
    Silence(Reason),
    /// With one that is too large to be kept.
    Large,
    /// It never began.
    Never,
}

/// An ask that is under way, for those who wait for it.
#[derive(Debug, Default)]
pub struct Flight {
    /// Grows with time: no two asks of a question have the same, also those of shields that came one after the other.
    pub number: u64,
    pub(super) landed: OnceLock<(Landed, Asked)>,
    /// How long it took to the end.
    pub(super) took: OnceLock<Duration>,
    /// Told when it has landed.
    pub told: Notify,
}

impl Flight {
    /// How it ended; `None`: it has not.
    pub fn landed(&self) -> Option<&(Landed, Asked)> {
        self.landed.get()
    }

    /// How long it took, where it has landed.
    pub fn took(&self) -> Duration {
        self.took.get().copied().unwrap_or_default()
    }
}

//! Whether the machine stood still: what was measured against a clock meanwhile says nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A thread that wants to be woken every few milliseconds. It knows nothing of the gateway.
#[derive(Debug)]
pub(crate) struct Metronome {
    ends: Arc<AtomicBool>,
    beats: JoinHandle<Duration>,
}

impl Metronome {
    const BEAT: Duration = Duration::from_millis(2);

    pub(crate) fn start() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&ends);
        let beats = std::thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !theirs.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(Self::BEAT);
                late = late.max(begun.elapsed().saturating_sub(Self::BEAT));
            }
            late
        });
        Self { ends, beats }
    }

    /// Ends it; by how much it was woken too late at the worst.
    pub(crate) fn end(self) -> Duration {
        self.ends.store(true, Ordering::Relaxed);
        self.beats.join().unwrap()
    }
}

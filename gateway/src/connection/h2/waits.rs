//! What a client's HTTP/2 connection waits for, and for how long.

use super::{Driver, FAREWELL};
use crate::wire::transport::Transport;

/// What is waited for, besides frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: requests are at work, and each keeps its own deadlines.
    Work,
    /// The next request.
    Request,
    /// The client takes more than these bytes.
    Write(u64),
    /// The client closes.
    Farewell,
}

impl<T: Transport + 'static> Driver<'_, T> {
    /// The time of a wait is over. Whether the client has taken something of what the kernel holds for it, and gets the same time again. Who has
    /// an answer on its way is not idle: a close would reset it as soon as the client says anything.
    pub(super) fn still_takes(&mut self) -> bool {
        let whole = match self.wait {
            Wait::Work => return false,
            Wait::Write(_) => self.timeouts.write,
            Wait::Request => self.timeouts.keep_alive,
            Wait::Farewell => FAREWELL,
        };
        // One that was idle and is ended to make room has not had its time.
        if self.clock.now().saturating_sub(self.armed) < whole || self.worker.state.is_draining() {
            return false;
        }
        let (Some(flow), before) = (self.wire.flow(), self.taken) else { return false };
        self.taken = Some(flow.taken);
        let takes = match before {
            Some(before) => flow.taken > before,
            // Nobody has looked at an idle connection. What is still on its way tells nothing yet.
            None => flow.taken < flow.given,
        };
        if takes {
            self.wind();
        }
        takes
    }

    /// What the client has taken.
    fn taken(&self) -> Option<i64> {
        self.wire.flow().map(|flow| flow.taken)
    }

    /// Arms the clock for what is waited for now.
    pub(super) fn arm(&mut self) {
        let active = self.shared.active.get();
        let wait = if self.wire.is_blocked() || (active == 0 && self.connection.has_streams()) {
            Wait::Write(self.wire.written())
        } else if active > 0 {
            Wait::Work
        } else if self.leaving {
            Wait::Farewell
        } else {
            Wait::Request
        };
        if wait == self.wait {
            return;
        }
        self.wait = wait;
        // A question to the kernel that only those pay for who keep it waiting.
        self.taken = if matches!(wait, Wait::Write(_)) { self.taken() } else { None };
        self.wind();
    }

    /// Arms the clock for another round of the same wait.
    fn wind(&mut self) {
        self.armed = self.clock.now();
        match self.wait {
            Wait::Work => self.clock.disarm(),
            Wait::Request => {
                self.wire.rest();
                self.clock.arm_idle(self.timeouts.keep_alive);
            }
            Wait::Write(_) => self.clock.arm(self.timeouts.write),
            Wait::Farewell => self.clock.arm(FAREWELL),
        }
    }
}

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
    /// an answer on its way is not idle: a close would reset it as soon as the client says anything. Nor may it take for ever: what was on its way
    /// at the first look counts, and it has to come at the slowest rate that is put up with.
    pub(super) fn still_takes(&mut self) -> bool {
        let waited = self.clock.now().saturating_sub(self.armed);
        // One that was idle and is ended to make room has not had its time.
        if self.wait == Wait::Work || waited < self.round || self.worker.state.is_draining() {
            return false;
        }
        let (Some(flow), before) = (self.wire.flow(), self.taken) else { return false };
        let taken = match self.wait {
            // Nothing else is given meanwhile, or it would be another wait.
            Wait::Write(_) => flow.taken,
            // What it makes us say, by PINGs, does not put its end off.
            _ => flow.taken.min(*self.mark.get_or_insert(flow.given)),
        };
        self.taken = Some(taken);
        let takes = match before {
            Some(before) => match usize::try_from(taken.saturating_sub(before)) {
                Ok(0) | Err(_) => false,
                Ok(news) => self.pace.step(waited, news).is_ok(),
            },
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
        if let (Wait::Write(before), Wait::Write(now)) = (self.wait, wait) {
            // The connection took something: a part of one long wait. Where it was too little, the patience is used up.
            let waited = self.clock.now().saturating_sub(self.armed);
            self.pace.step(waited, usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)).ok();
        } else {
            self.pace = self.terms.pace();
        }
        self.wait = wait;
        self.mark = None;
        // A question to the kernel that only those pay for who keep it waiting.
        self.taken = if matches!(wait, Wait::Write(_)) { self.taken() } else { None };
        self.wind();
    }

    /// Arms the clock for another round of the same wait.
    fn wind(&mut self) {
        self.armed = self.clock.now();
        self.round = match self.wait {
            Wait::Work => return self.clock.disarm(),
            Wait::Request => self.terms.timeouts.keep_alive,
            Wait::Write(_) => self.pace.patience(),
            Wait::Farewell => FAREWELL,
        };
        if self.wait == Wait::Request {
            self.wire.rest();
            self.clock.arm_idle(self.round);
        } else {
            self.clock.arm(self.round);
        }
    }
}

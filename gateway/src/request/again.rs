//! Where a request is sent, and whether it is sent again when that failed.
//!
//! Sent again is what does no harm twice (RFC 9110 §9.2.2), what was never sent, and what the app says it has not looked at: to another server
//! where there is one, within bounds for the request and for all, and never when anything of an answer has been passed on. A connection that its
//! server closed while it was not in use says nothing about the server: the request goes there again, on a new one.
//!
//! Invariant: a server is blamed for what it did, never for what a client did.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use probegate_policies::reason::Reason;

use super::exchange::{Broken, Errand};
use crate::plan::Balancing;
use crate::servers::{Place, Placed, Servers, Waiting, Wish};
use crate::slots::Chosen;
use crate::upstream::{Pools, Reuse};
use crate::wire::deadline::Deadline;
use crate::wire::{RequestBody, Responder};

/// What comes after an attempt that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one at the same place.
    Same,
    /// Another one somewhere else, or where it was if there is nothing else.
    Other,
    /// None.
    Stop,
}

/// An answer that an app ends without a word, as it can in HTTP/2, means what this status does: a client may be able to provoke either.
const RESET: u16 = 502;

/// A request at a server.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) errand: &'a Errand<'a>,
    again: &'a Again<'a>,
    place: &'a Place<'a>,
    /// It can be read once more.
    repeatable: bool,
}

impl Asked<'_> {
    /// The head of the final answer is here: the server did its part, so far. How long its body takes says nothing.
    pub(super) fn answered(&self, status: u16) {
        self.again.answered(self.place, status);
    }

    /// Whether another server is asked instead of passing an answer with this status on. It is then, as the leave to do so was taken.
    pub(super) fn declines(&self, status: u16) -> bool {
        if !self.repeatable {
            return false;
        }
        // The old slot gets no more than it got before the switch: no leave is needed.
        if status >= 500 && self.again.chosen.may_fall_back() {
            return true;
        }
        self.again.balancing().retries.on_status.contains(&status)
            && self.again.may_repeat(self.place)
            && self.again.servers().take_retry()
    }
}

/// The attempts at one request.
#[derive(Debug)]
pub(super) struct Again<'a> {
    errand: &'a Errand<'a>,
    wish: Wish,
    /// The slot it goes to, and the one it may go to after that.
    chosen: Chosen,
    /// How often it may still be sent again.
    left: usize,
    /// A kept connection may be used.
    reuse: bool,
    /// Why the server before could not be connected to.
    unreachable: Option<Reason>,
}

impl<'a> Again<'a> {
    /// None yet.
    pub(super) fn new(errand: &'a Errand<'a>, pools: &Pools) -> Self {
        // A server that is alone is not drawn.
        let random = if errand.upstream.servers.len() > 1 { pools.random() } else { 0 };
        let chosen = errand.chosen;
        let wish = Wish { key: errand.key, random, tried: chosen.others(errand.upstream), slot: chosen.slot() };
        let left = errand.upstream.balancing.retries.attempts;
        Self { errand, wish, chosen, left, reuse: true, unreachable: None }
    }

    /// Whether a kept connection may be used.
    pub(super) fn reuse(&self) -> Reuse {
        match (self.reuse, self.errand.idempotent) {
            (false, _) => Reuse::No,
            (true, true) => Reuse::Yes,
            (true, false) => Reuse::Checked,
        }
    }

    /// A place at the next server.
    pub(super) async fn place<R: Responder>(
        &mut self,
        deadline: &Deadline,
        reply: &mut R,
    ) -> Result<Place<'a>, Reason> {
        loop {
            let reason = match self.servers().place(self.wish, deadline.now()) {
                Placed::At(place) => return Ok(place),
                // In a box: this is rare, and idle connections must not hold the room for it.
                Placed::Wait(waiting) => return Box::pin(self.wait(waiting, deadline, reply)).await,
                Placed::Nobody => match self.unreachable {
                    Some(reason) => reason,
                    None => self.refused(self.servers().refusal(self.chosen.slot())),
                },
                Placed::Refused(reason) => self.refused(reason),
            };
            // Whatever gets here was not sent, or may be sent again.
            if !self.fall_back() {
                return Err(reason);
            }
        }
    }

    /// Nobody of the slot takes the request.
    fn refused(&self, reason: Reason) -> Reason {
        self.count(true);
        reason
    }

    /// From now on, the servers of the slot before are asked. `false`: there is none.
    fn fall_back(&mut self) -> bool {
        let Some(tried) = self.chosen.fall_back(self.errand.upstream) else { return false };
        self.wish.tried = tried;
        self.wish.slot = self.chosen.slot();
        self.reuse = true;
        self.unreachable = None;
        true
    }

    /// Counts for the slot what became of a request that was put to it. Probes are no requests.
    fn count(&self, error: bool) {
        if let (Some(slot), Some(split), None) = (self.chosen.slot(), self.servers().split(), self.errand.total) {
            split.count(slot, error);
        }
    }

    /// The server did not do its part, and no answer was counted.
    fn fails(&self, place: &Place<'_>) {
        place.failed();
        self.count(true);
    }

    /// A client that leaves while it waits gives its turn up.
    async fn wait<R: Responder>(
        &self,
        mut waiting: Waiting,
        deadline: &Deadline,
        reply: &mut R,
    ) -> Result<Place<'a>, Reason> {
        if self.errand.total.is_none() {
            deadline.arm(self.balancing().queue.timeout);
        }
        let mut place = pin!(waiting.place());
        poll_fn(|cx| {
            if let Poll::Ready(place) = place.as_mut().poll(cx) {
                return Poll::Ready(Ok(place));
            }
            if deadline.poll_expired(cx) {
                return Poll::Ready(Err(Reason::UpstreamQueueTimeout));
            }
            reply.poll_gone(cx).map(|()| Err(Reason::ClientClosed))
        })
        .await
    }

    /// The server could not be connected to, so that nothing was sent: any other may get the request. One that took all its time costs an attempt, so
    /// that nobody waits for each of many that swallow everything. `false`: there is none left.
    pub(super) fn unreachable(&mut self, place: &Place<'_>, reason: Reason) -> bool {
        // What this gateway lacks itself is not the server's fault; nor is it that a probe had no more time.
        if reason != Reason::UpstreamBusy && !(reason == Reason::UpstreamConnectTimeout && self.errand.total.is_some())
        {
            self.fails(place);
        }
        if reason == Reason::UpstreamUnreachable {
            self.servers().was_gone(place.server());
        }
        self.unreachable = Some(reason);
        self.pass_over(place);
        if reason != Reason::UpstreamConnectTimeout {
            return true;
        }
        let goes_on = self.left > 0;
        self.left = self.left.saturating_sub(1);
        goes_on
    }

    /// An attempt at this place.
    pub(super) fn asked<'b, B: RequestBody>(&'b self, place: &'b Place<'_>, body: &B) -> Asked<'b> {
        let declines = !self.balancing().retries.on_status.is_empty() || self.chosen.may_fall_back();
        let repeatable = declines && body.is_repeatable();
        Asked { errand: self.errand, again: self, place, repeatable }
    }

    /// The server answered.
    fn answered(&self, place: &Place<'_>, status: u16) {
        self.count(status >= 500);
        self.answers(place, status);
    }

    /// What a status says about a server.
    fn answers(&self, place: &Place<'_>, status: u16) {
        if self.balancing().fail_on.contains(&status) {
            place.failed();
        } else {
            place.succeeded();
        }
    }

    /// The answer broke off behind its head; `unprovoked`: the app did not wait for the client.
    pub(super) fn broke_off(&self, place: &Place<'_>, reason: Reason, unprovoked: bool, reset: bool) {
        match reason {
            Reason::UpstreamClosed if reset => self.answers(place, RESET),
            Reason::UpstreamClosed if !unprovoked => return,
            Reason::UpstreamClosed | Reason::UpstreamInvalid => place.failed(),
            // A probe's time is shorter than the app's.
            Reason::UpstreamTimeout if self.errand.total.is_none() => place.failed(),
            _ => return,
        }
        if let (Some(slot), Some(split), None) = (self.chosen.slot(), self.servers().split(), self.errand.total) {
            split.count_broken(slot);
        }
    }

    /// The attempt brought no answer; `reused`: on a connection that was kept.
    pub(super) fn broken<B: RequestBody>(
        &mut self,
        place: &Place<'_>,
        broken: &Broken,
        reused: bool,
        status: Option<u16>,
        body: &mut B,
    ) -> Next {
        let (servers, errand) = (self.servers(), self.errand);
        // The app says that it has not looked at the request (RFC 9113 §8.7): somebody else may, or it may itself a moment later.
        if broken.unprocessed {
            if self.left == 0 || !body.rewind() || !servers.take_retry() {
                // Whatever the method: nobody has done anything yet.
                self.count(true);
                return self.fallen_back(body);
            }
            self.left -= 1;
            if servers.has_other(self.with(place)) {
                self.pass_over(place);
                return Next::Other;
            }
            return Next::Same;
        }
        // The server closed the unused connection just when it was taken: nobody has answered, and asking again does no harm where nothing
        // arrived or where twice is the same as once.
        if broken.stale && reused {
            if (broken.sent_nothing || errand.idempotent) && body.rewind() {
                self.reuse = false;
                return Next::Same;
            }
            // No sign against the server, which may have closed in good faith. A slot is judged by what clients got.
            self.count(true);
            return Next::Stop;
        }
        match broken.reason {
            // A probe's time is shorter than the app's.
            Reason::UpstreamTimeout if errand.total.is_some() => {}
            // It answered, though not with what the client needs (RFC 8441 §5): clients must not have servers left out.
            Reason::UpstreamInvalid if errand.upgrade.is_some() && status.is_some_and(|status| status >= 200) => {}
            Reason::UpstreamClosed if broken.reset => self.answered(place, RESET),
            Reason::UpstreamClosed if !broken.unprovoked && !body.is_at_hand() => {}
            Reason::UpstreamClosed | Reason::UpstreamTimeout | Reason::UpstreamInvalid => self.fails(place),
            _ => {}
        }
        let lost = broken.stale && broken.sent_nothing && servers.has_other(self.with(place));
        let repeats = match broken.reason {
            // It was seen that there is another slot, which is asked at once.
            Reason::UpstreamDeclined if self.chosen.may_fall_back() => return self.fallen_back(body),
            // Leave was taken when it was seen.
            Reason::UpstreamDeclined => body.rewind(),
            _ if lost => return if body.rewind() { self.other(place) } else { Next::Stop },
            Reason::UpstreamClosed => self.may_repeat(place) && body.rewind() && servers.take_retry(),
            Reason::UpstreamTimeout => {
                self.balancing().retries.on_timeout && self.may_repeat(place) && body.rewind() && servers.take_retry()
            }
            _ => false,
        };
        if !repeats {
            // The slot before is asked for what does no harm twice, and for what was never sent.
            let unsent = broken.stale && broken.sent_nothing;
            let failed =
                matches!(broken.reason, Reason::UpstreamClosed | Reason::UpstreamTimeout | Reason::UpstreamInvalid);
            let falls = failed && errand.upgrade.is_none() && (unsent || self.chosen.may_fall_back());
            return if falls { self.fallen_back(body) } else { Next::Stop };
        }
        self.left = self.left.saturating_sub(1);
        self.other(place)
    }

    /// The same request to the slot before.
    fn fallen_back<B: RequestBody>(&mut self, body: &mut B) -> Next {
        if self.chosen.has_other() && body.rewind() && self.fall_back() { Next::Other } else { Next::Stop }
    }

    /// Whether the request may be sent to another server although it was sent to this one.
    fn may_repeat(&self, place: &Place<'_>) -> bool {
        self.left > 0
            && self.errand.idempotent
            && self.errand.total.is_none()
            && self.servers().has_other(self.with(place))
    }

    fn other(&mut self, place: &Place<'_>) -> Next {
        self.pass_over(place);
        Next::Other
    }

    fn pass_over(&mut self, place: &Place<'_>) {
        self.wish.tried = self.with(place);
        self.reuse = true;
    }

    fn with(&self, place: &Place<'_>) -> u128 {
        self.wish.tried | 1 << place.server()
    }

    fn servers(&self) -> &'a Arc<Servers> {
        self.errand.servers
    }

    fn balancing(&self) -> &'a Balancing {
        &self.errand.upstream.balancing
    }
}

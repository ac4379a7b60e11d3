//! The wait of a stream for its client: how much of what lies before it the client takes meanwhile.

use std::rc::Weak;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;

use super::io::Below;
use crate::wire::ClientGone;
use crate::wire::deadline::Deadline;
use crate::wire::pace::Pace;
use crate::wire::progress::Wait;

/// A wait for a client's windows, and for the connection to take what lies before them.
#[derive(Debug)]
pub(super) struct Behind {
    /// The wait itself.
    pub(super) wait: Wait,
    /// What the connection may have been given of what came before.
    before: Option<i64>,
    /// Of that, what the client has taken.
    taken: Option<i64>,
}

impl Behind {
    /// One that begins now.
    pub(super) fn new(now: Duration) -> Self {
        Self { wait: Wait::new(now, false), before: None, taken: None }
    }

    /// Ready when the stream has room, and says how much.
    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut SendStream<Bytes>,
        below: &Weak<dyn Below>,
        deadline: &Deadline,
        pace: &mut Pace,
    ) -> Poll<Result<usize, ClientGone>> {
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
            Poll::Ready(_) => return Poll::Ready(Err(ClientGone::Closed)),
            Poll::Pending => {}
        }
        while deadline.poll_expired(cx) {
            let (now, taken) = (deadline.now(), self.taken(below));
            // Another look would come at once, and find the same, for ever.
            if deadline.is_over() || self.wait.look(now, taken, pace).is_err() {
                return Poll::Ready(Err(ClientGone::Stalled));
            }
            deadline.arm(self.wait.next(now, pace));
        }
        Poll::Pending
    }

    /// What the client has taken of what it has to take before it can open the window of this stream, or before it is this stream's turn: what was
    /// given to the connection before this wait, and what `h2` held then, in the order in which every stream gets its turn. What others get
    /// behind that is no merit of this stream: the bound never moves.
    fn taken(&mut self, below: &Weak<dyn Below>) -> Option<i64> {
        let below = below.upgrade()?;
        let flow = below.flow()?;
        let before = *self.before.get_or_insert_with(|| flow.given.saturating_add(below.most_held()));
        let taken = flow.taken.min(before).max(self.taken.unwrap_or(i64::MIN));
        self.taken = Some(taken);
        Some(taken)
    }
}

//! What the tasks of one HTTP/2 connection share: how many requests they have at work.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use crate::clients::Streams;

/// What the tasks of a connection's streams and its own share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Streams at work.
    pub(super) active: Cell<usize>,
    /// The same on all connections of the client; `None`: it has no bound.
    pub(super) client: Option<Streams>,
    /// The connection was ended for a fault: what ends its streams is not their own doing.
    pub(super) ended: Cell<bool>,
    /// The connection's task.
    pub(super) waker: RefCell<Option<Waker>>,
}

/// Counts a stream at work.
#[derive(Debug)]
pub(super) struct Working(pub(super) Rc<Shared>);

impl Working {
    /// `None`: the client has `most` at work.
    pub(super) fn new(shared: &Rc<Shared>, most: usize) -> Option<Self> {
        if shared.client.as_ref().is_some_and(|client| !client.enter(most)) {
            return None;
        }
        shared.active.set(shared.active.get() + 1);
        Some(Self(Rc::clone(shared)))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        if let Some(client) = &self.0.client {
            client.leave();
        }
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

//! Large bodies share their worker.

use tokio::task::yield_now;

/// Bytes that one body may move before the worker's other connections have their turn: some hundred microseconds. The runtime counts steps, and one step may
/// move a quarter of a megabyte.
const MOST: usize = 1024 * 1024;

/// What a body has moved since others had theirs.
#[derive(Debug, Default)]
pub(super) struct Portion {
    moved: usize,
}

impl Portion {
    /// So many bytes were moved. Waits where it is the others' turn.
    pub(super) async fn took(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= MOST {
            self.moved = 0;
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_body_lets_others_have_their_turn_after_every_mebibyte() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut portion = Portion::default();
        let waits: Vec<_> = (0..12).map(|_| pin!(portion.took(MOST / 4)).poll(&mut cx).is_pending()).collect();
        assert_eq!(waits, [false, false, false, true].repeat(3));
        assert!(pin!(portion.took(usize::MAX)).poll(&mut cx).is_pending());
    }
}

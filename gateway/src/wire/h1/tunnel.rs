//! What follows `101 Switching Protocols`: bytes in both directions, until one side ends or both are silent for too long.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::coop::consume_budget;

use super::io::{read, write_all};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::transport::Transport;

/// Bytes that passed through a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// From the client to the server.
    pub up: u64,
    /// From the server to the client.
    pub down: u64,
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct End<'a, T> {
    /// The connection.
    pub transport: &'a T,
    /// Bytes that arrived behind the head; then the memory for what this end sends.
    pub buffer: &'a mut Buffer,
    /// For waits on this end.
    pub deadline: &'a Deadline,
}

/// Copies until both directions have ended. `patience` is how long both may be silent.
pub async fn run<C: Transport, S: Transport>(client: End<'_, C>, server: End<'_, S>, patience: Duration) -> Passed {
    let up = Cell::new(0);
    let down = Cell::new(0);
    {
        let mut to_server = pin!(copy(
            client.transport,
            client.buffer,
            client.deadline,
            server.transport,
            server.deadline,
            patience,
            &up
        ));
        let mut to_client = pin!(copy(
            server.transport,
            server.buffer,
            server.deadline,
            client.transport,
            client.deadline,
            patience,
            &down
        ));
        let mut open = [true, true];
        poll_fn(|cx| {
            // An error ends both directions; a proper end of one lets the other finish.
            if let [first @ true, _] = &mut open
                && let Poll::Ready(ended) = to_server.as_mut().poll(cx)
            {
                *first = false;
                if ended.is_err() {
                    return Poll::Ready(());
                }
            }
            if let [_, second @ true] = &mut open
                && let Poll::Ready(ended) = to_client.as_mut().poll(cx)
            {
                *second = false;
                if ended.is_err() {
                    return Poll::Ready(());
                }
            }
            if open == [false, false] { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    Passed { up: up.get(), down: down.get() }
}

/// Copies one direction until its end. Any byte, in this direction or (through the shared deadlines) in the other, keeps both alive.
async fn copy<F: Transport, T: Transport>(
    from: &F,
    buffer: &mut Buffer,
    from_deadline: &Deadline,
    to: &T,
    to_deadline: &Deadline,
    patience: Duration,
    passed: &Cell<u64>,
) -> io::Result<()> {
    loop {
        if !buffer.is_empty() {
            write_all(to, &mut [IoSlice::new(buffer.filled())], to_deadline, patience)
                .await
                .map_err(|failed| failed.error)?;
            passed.set(passed.get() + buffer.len() as u64);
            buffer.clear();
        }
        consume_budget().await;
        from_deadline.arm(patience);
        to_deadline.arm(patience);
        if read(from, buffer, from_deadline).await? == 0 {
            return to.shut_down_write();
        }
    }
}

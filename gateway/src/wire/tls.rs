//! TLS over any transport, as a transport: records in and out of a `rustls` session, for servers and clients alike.
//!
//! Invariants:
//! - Nothing is called written while its ciphertext waits here: nobody would flush it later. What the session has taken and the socket
//!   has not is remembered, and the same write, tried again, goes on with it.
//! - At most `MOST` bytes of plaintext are taken at a time, and ciphertext is read only while no plaintext waits: a connection that
//!   stalls holds that much and no more.
//! - An end of the stream that the other side did not announce (`close_notify`, RFC 8446 §6.1) is an error, not an end: whoever reads
//!   until the end must be able to see that something may be missing.

mod handshake;
mod pipe;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Read as _};
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::ReadBuf;

pub(crate) use self::pipe::Pipe;
use super::progress::Flow;
use super::transport::Transport;

/// Plaintext that is taken at a time; four full records.
const MOST: usize = 64 * 1024;

/// Plaintext of a full record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;

/// More than any suite adds to a record.
const OVERHEAD: usize = 64;

/// Reads from the socket in a row that bring no data before others get their turn.
const ROUNDS: usize = 32;

/// A TLS connection over `T`. [`Tls::handshake`] comes first; then it is a [`Transport`].
pub struct Tls<T: Transport> {
    transport: T,
    /// In a box, so that a task that holds a connection is not made of it.
    state: Box<RefCell<State>>,
}

struct State {
    session: Connection,
    /// Plaintext that the session has taken and that was not reported as written yet.
    taken: usize,
    /// Ciphertext that the socket took of it; known only where nothing waited before it.
    sent: Option<usize>,
    /// Plaintext reported as written while some of what was taken with it still waits.
    told: usize,
    /// Ciphertext that the socket has taken, and that came from it, ever.
    pushed: u64,
    pulled: u64,
    /// What the session wants to say waits for the first answer: tickets, which nobody waits for, share its segment.
    patient: bool,
    closing: Closing,
    /// No parting words.
    silent: bool,
    failed: Option<rustls::Error>,
}

/// How far the end of the sending side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Data may be sent.
    Open,
    /// `close_notify` is on its way; when the socket has taken it, its sending side ends.
    Saying,
    /// Said.
    Done,
}

fn would_block<V>(result: &io::Result<V>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl State {
    /// Hands ciphertext to the socket until none waits.
    fn flush(&mut self, transport: &impl Transport) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Pipe(transport)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.sent = self.sent.map(|sent| sent + n);
                    self.pushed += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.closing == Closing::Saying {
            self.closing = Closing::Done;
            return transport.shut_down_write();
        }
        Ok(())
    }

    /// Sends what the session itself has to say. What the socket does not take goes out with the next try, or with the next write.
    fn speak(&mut self, transport: &impl Transport) -> io::Result<()> {
        let due = !self.patient && self.taken == 0 && (self.session.wants_write() || self.closing == Closing::Saying);
        if due { self.flush(transport) } else { Ok(()) }
    }

    /// Reads once from the socket and opens the records that are whole. `0`: the socket has ended.
    fn receive(&mut self, transport: &impl Transport) -> io::Result<usize> {
        let read = self.session.read_tls(&mut Pipe(transport))?;
        self.pulled += read as u64;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says so. A socket that does not take it now will not be asked again.
            self.flush(transport).ok();
            self.failed = Some(error);
            return Err(self.failure());
        }
        Ok(read)
    }

    /// Why nothing more can be read.
    fn failure(&self) -> io::Error {
        match &self.failed {
            Some(error) => io::Error::new(io::ErrorKind::InvalidData, error.clone()),
            None => io::ErrorKind::WouldBlock.into(),
        }
    }

    /// Bytes at hand; `0` is the end, announced or not.
    fn at_hand(&mut self) -> io::Result<usize> {
        match self.session.reader().into_first_chunk() {
            Ok(chunk) => Ok(chunk.len()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Err(_) => Err(self.failure()),
        }
    }

    /// Plaintext whose ciphertext the socket has taken for certain, of what was not reported yet.
    fn progress(&mut self) -> usize {
        let whole = self.sent.map_or(0, |sent| sent / (RECORD + OVERHEAD) * RECORD);
        let news = whole.saturating_sub(self.told).min(self.taken);
        self.told += news;
        self.taken -= news;
        news
    }
}

impl<T: Transport> Tls<T> {
    /// A session that is about to shake hands over `transport`.
    pub fn new(transport: T, session: impl Into<Connection>) -> Self {
        let mut session = session.into();
        session.set_buffer_limit(Some(MOST));
        let state = State {
            session,
            taken: 0,
            sent: None,
            told: 0,
            pushed: 0,
            pulled: 0,
            patient: false,
            closing: Closing::Open,
            silent: false,
            failed: None,
        };
        Self { transport, state: Box::new(RefCell::new(state)) }
    }

    /// What it goes over.
    pub fn below(&self) -> &T {
        &self.transport
    }

    /// Looks at the session: what was agreed, and with whom.
    pub fn with_session<R>(&self, look: impl FnOnce(&Connection) -> R) -> R {
        look(&self.state.borrow().session)
    }
}

impl<T: Transport> Transport for Tls<T> {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_with(|session| session.reader().read(buf))
    }

    fn try_read_into(&self, buf: &mut ReadBuf<'_>, most: usize) -> io::Result<usize> {
        let room = buf.remaining().min(most);
        if room == 0 {
            return Ok(0);
        }
        self.read_with(|session| {
            let mut reader = session.reader();
            let chunk = reader.fill_buf()?;
            let n = chunk.len().min(room);
            buf.put_slice(chunk.get(..n).unwrap_or_default());
            reader.consume(n);
            Ok(n)
        })
    }

    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let asked: usize = bufs.iter().map(|buf| buf.len()).sum();
        if asked == 0 {
            return Ok(0);
        }
        if state.closing != Closing::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if state.taken == 0 {
            state.sent = (!state.session.wants_write()).then_some(0);
            state.told = 0;
            state.patient = false;
            state.taken = io::Write::write_vectored(&mut state.session.writer(), bufs)?;
            if state.taken == 0 {
                // Keys that are used up (TLS 1.2) take nothing any more.
                state.flush(&self.transport)?;
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        let flushed = state.flush(&self.transport);
        if would_block(&flushed) {
            let news = state.progress();
            return if news > 0 { Ok(news) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        flushed?;
        // Never more than was asked now, whoever asks.
        let written = state.taken.min(asked);
        state.taken -= written;
        Ok(written)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        if !would_block(&state.at_hand()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_speak(&mut state, cx)?;
        drop(state);
        self.transport.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_write_ready(cx)
    }

    /// Opens records to tell data from an end, and from what is neither: a key update, a ticket.
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut state = self.state.borrow_mut();
        for _ in 0..ROUNDS {
            let at_hand = state.at_hand();
            if !would_block(&at_hand) {
                return Poll::Ready(at_hand);
            }
            match state.receive(&self.transport) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.poll_speak(&mut state, cx)?;
                    ready!(self.transport.poll_read_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn has_unread(&self) -> bool {
        self.state.borrow_mut().at_hand().is_ok_and(|n| n > 0) || self.transport.has_unread()
    }

    /// Says `close_notify`, and ends the sending side of the socket as soon as that has taken it.
    fn shut_down_write(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if state.closing != Closing::Open {
            return Ok(());
        }
        state.closing = Closing::Saying;
        state.patient = false;
        state.session.send_close_notify();
        let flushed = state.flush(&self.transport);
        if would_block(&flushed) { Ok(()) } else { flushed }
    }

    /// Of ciphertext: a part of a record counts, though nothing of it was reported as written.
    fn flow(&self, _told: u64) -> Option<Flow> {
        self.transport.flow(self.state.borrow().pushed)
    }

    fn raw_received(&self) -> u64 {
        self.state.borrow().pulled
    }

    fn raw_sent(&self) -> u64 {
        self.state.borrow().pushed
    }

    fn reset_on_close(&self) {
        self.state.borrow_mut().silent = true;
        self.transport.reset_on_close();
    }
}

impl<T: Transport> Tls<T> {
    /// Has `read` take what the session has, once it has something.
    #[inline]
    fn read_with(&self, mut read: impl FnMut(&mut Connection) -> io::Result<usize>) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        for _ in 0..ROUNDS {
            let read = read(&mut state.session);
            if !would_block(&read) {
                return read;
            }
            if state.failed.is_some() {
                return Err(state.failure());
            }
            state.receive(&self.transport)?;
            if let Err(error) = state.speak(&self.transport)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                return Err(error);
            }
        }
        // The socket is still taken for readable, so that waiting for it ends soon.
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Tries to send what the session has to say, and waits for the socket to take it beside whatever else the task waits for.
    fn poll_speak(&self, state: &mut State, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            match state.speak(&self.transport) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.transport.poll_write_ready(cx)?.is_pending() {
                return Ok(());
            }
        }
    }
}

impl<T: Transport> Drop for Tls<T> {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        if state.silent || state.closing == Closing::Done {
            return;
        }
        if !state.session.is_handshaking() {
            state.session.send_close_notify();
        }
        // What the socket does not take now is lost, as it would be with any other close.
        state.flush(&self.transport).ok();
    }
}

/// Without the session: it holds keys and data.
impl<T: Transport + fmt::Debug> fmt::Debug for Tls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("transport", &self.transport).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

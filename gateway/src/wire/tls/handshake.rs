//! The handshake, with which a session begins.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use rustls::{Connection, ProtocolVersion};

use super::{Tls, would_block};
use crate::wire::deadline::Deadline;
use crate::wire::transport::Transport;

impl<T: Transport> Tls<T> {
    /// Shakes hands.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the deadline, which the caller has armed, has passed; [`io::ErrorKind::UnexpectedEof`] when the
    /// other side left; [`io::ErrorKind::InvalidData`] around a [`rustls::Error`] when the two can not agree, after the alert that says
    /// so was sent; whatever else the socket says.
    pub async fn handshake(&self, deadline: &Deadline) -> io::Result<()> {
        poll_fn(|cx| self.poll_handshake(deadline, cx)).await
    }

    fn poll_handshake(&self, deadline: &Deadline, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        loop {
            let over = !state.session.is_handshaking();
            let tls13 = state.session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            // After its handshake a server of TLS 1.3 has only tickets left to send.
            if over && matches!(&state.session, Connection::Server(_)) && tls13 {
                state.patient = true;
                if would_block(&state.at_hand()) {
                    // Nothing that is sent now tells the client that its last words came, and one that waits for that before it sends a request
                    // (Nagle's algorithm) would wait for the kernel's delay, some 40 ms.
                    self.transport.acknowledge();
                }
                return Poll::Ready(Ok(()));
            }
            let flushed = state.flush(&self.transport);
            let full = would_block(&flushed);
            if !full {
                flushed?;
                if over {
                    return Poll::Ready(Ok(()));
                }
            }
            let mut empty = false;
            if !over && state.session.wants_read() {
                match state.receive(&self.transport) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Ok(_) => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => empty = true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let writable = full && self.transport.poll_write_ready(cx)?.is_ready();
            let readable = empty && self.transport.poll_read_ready(cx)?.is_ready();
            if !writable && !readable {
                let late = deadline.poll_expired(cx);
                return if late { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { Poll::Pending };
            }
        }
    }
}

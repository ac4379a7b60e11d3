//! A stream of an HTTP/2 connection as a transport of its own: what follows an extended CONNECT (RFC 8441), in DATA frames.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason as Code, RecvStream, SendStream};

use crate::wire::transport::Transport;

/// A stream, used as a transport.
#[derive(Debug)]
pub struct Tunnel {
    receive: RefCell<RecvStream>,
    send: RefCell<SendStream<Bytes>>,
    /// What was received and not read yet.
    part: RefCell<Bytes>,
    ended: Cell<bool>,
}

impl Tunnel {
    /// A transport over both directions of a stream.
    pub fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self { receive: receive.into(), send: send.into(), part: RefCell::default(), ended: Cell::new(false) }
    }
}

impl Transport for Tunnel {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut part = self.part.borrow_mut();
        if part.is_empty() {
            return if self.ended.get() { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let n = part.len().min(buf.len());
        if let Some(to) = buf.get_mut(..n) {
            part.copy_to_slice(to);
        }
        self.receive.borrow_mut().flow_control().release_capacity(n).map_err(broken)?;
        Ok(n)
    }

    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut send = self.send.borrow_mut();
        let Some(buf) = bufs.iter().find(|buf| !buf.is_empty()) else { return Ok(0) };
        send.reserve_capacity(buf.len());
        let n = send.capacity().min(buf.len());
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        send.send_data(Bytes::copy_from_slice(buf.get(..n).unwrap_or_default()), false).map_err(broken)?;
        Ok(n)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut part = self.part.borrow_mut();
        while part.is_empty() && !self.ended.get() {
            match ready!(self.receive.borrow_mut().poll_data(cx)) {
                Some(Ok(data)) => *part = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => self.ended.set(true),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.send.borrow_mut().poll_capacity(cx)) {
            Some(Ok(_)) => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_read_ready(cx))?;
        Poll::Ready(Ok(self.part.borrow().len()))
    }

    fn has_unread(&self) -> bool {
        !self.part.borrow().is_empty()
    }

    fn shut_down_write(&self) -> io::Result<()> {
        self.send.borrow_mut().send_data(Bytes::new(), true).map_err(broken)
    }

    fn reset_on_close(&self) {
        self.send.borrow_mut().send_reset(Code::CANCEL);
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

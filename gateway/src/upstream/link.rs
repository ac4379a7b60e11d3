//! A connection to a server, protected or not.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::unconstrained;

use crate::wire::pipe::Pipe;
use crate::wire::tls::Tls;
use crate::wire::transport::{Socket, Transport};

/// A connection to a server.
#[derive(Debug)]
pub enum Link {
    /// As the socket gives it.
    Plain(Socket),
    /// Over TLS.
    Secure(Box<Tls<Socket>>),
}

impl Link {
    /// Whether an unused connection can still be used: nothing has arrived on it, neither bytes nor an end. What TLS says to itself, a
    /// session ticket or new keys, is nothing.
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_quiet(),
            Self::Secure(tls) => {
                let mut cx = Context::from_waker(Waker::noop());
                // Outside the budget that the runtime gives a task, as with a socket.
                let mut peek = pin!(unconstrained(std::future::poll_fn(|cx| tls.poll_peek(cx))));
                peek.as_mut().poll(&mut cx).is_pending()
            }
        }
    }

    /// The same, whatever the event loop has been told: asks the kernel. What has come over TLS and was not looked at yet may be an end.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_silent(),
            Self::Secure(tls) => self.is_quiet() && tls.below().is_silent(),
        }
    }
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($link:expr, $it:ident => $call:expr) => {
        match $link {
            Link::Plain($it) => $call,
            Link::Secure($it) => $call,
        }
    };
}

impl Transport for Link {
    #[inline]
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, it => it.try_read(buf))
    }

    #[inline]
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, it => it.try_write(bufs))
    }

    fn passes(&self) -> bool {
        either!(self, it => it.passes())
    }

    fn try_fill(&self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        either!(self, it => it.try_fill(pipe, most))
    }

    #[inline]
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_read_ready(cx))
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_write_ready(cx))
    }

    #[inline]
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        either!(self, it => it.poll_peek(cx))
    }

    fn has_unread(&self) -> bool {
        either!(self, it => it.has_unread())
    }

    fn raw_sent(&self) -> u64 {
        either!(self, it => it.raw_sent())
    }

    fn shut_down_write(&self) -> io::Result<()> {
        either!(self, it => it.shut_down_write())
    }

    fn reset_on_close(&self) {
        either!(self, it => it.reset_on_close());
    }
}

//! Sockets as the workers use them: non-blocking tries, and readiness to wait for.
//!
//! All methods take `&self`, so that both directions of a connection can be driven from one task without splitting it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytes::BufMut as _;
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::piece::Piece;
use super::pipe::Pipe;
use super::progress::Flow;

/// A connected byte stream.
pub trait Transport {
    /// Reads what is there. `Ok(0)` is the end of the stream.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Reads what is there, up to `most` bytes, behind what `buf` holds already. Memory that nobody has written to is not cleared first where
    /// that can be helped: a reader that asks until nothing is there would clear it as often.
    fn try_read_into(&self, buf: &mut ReadBuf<'_>, most: usize) -> io::Result<usize> {
        let room = buf.remaining().min(most);
        let n = self.try_read(buf.initialize_unfilled_to(room))?;
        buf.advance(n);
        Ok(n)
    }
    /// Writes what fits.
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Whether bytes can pass through a [`Pipe`].
    fn passes(&self) -> bool {
        false
    }
    /// Moves up to `most` bytes of what is there into `pipe`. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// Beside those of a read: [`io::ErrorKind::Unsupported`] where bytes have to be looked at first.
    fn try_fill(&self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        let _ = (pipe, most);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Writes what fits of a piece of a file. See [`Piece::send`].
    fn try_send(&self, piece: &Piece) -> io::Result<usize> {
        let _ = piece;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Writes what fits of what is in `pipe`.
    ///
    /// # Errors
    /// Beside those of a write: [`io::ErrorKind::Unsupported`] where bytes have to be changed first.
    fn try_drain(&self, pipe: &mut Pipe) -> io::Result<usize> {
        let _ = pipe;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Waits until a read may succeed.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Waits until a write may succeed.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Waits until bytes or the end of the stream are there and says which, without taking them: `0` is the end.
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
    /// Has the other side told at once that what it sent has come, and not only with what is sent next.
    fn acknowledge(&self) {}
    /// Whether bytes have arrived that nobody has read. Asks the kernel; for the end of a connection.
    fn has_unread(&self) -> bool;
    /// Says that nothing more will be written.
    fn shut_down_write(&self) -> io::Result<()>;
    /// How far what was written has come, where somebody knows; `told`: bytes that were reported as written so far, or since any moment before.
    /// Asks the kernel.
    fn flow(&self, told: u64) -> Option<Flow> {
        let _ = told;
        None
    }
    /// Bytes that came from the kernel before they were worth anything: ciphertext of records that are not whole. Only the difference of
    /// two calls means something; always the same where bytes are bytes.
    fn raw_received(&self) -> u64 {
        0
    }
    /// Bytes that went to the kernel, also where nothing was reported as written for them: ciphertext. Only the difference of two calls means
    /// something; always the same where bytes are bytes.
    fn raw_sent(&self) -> u64 {
        0
    }
    /// Makes the coming close visible as an error to the other side (a reset instead of an end).
    fn reset_on_close(&self);
}

/// A read that did not fill its buffer has emptied the socket: forget the readiness, so that the next read waits instead of asking
/// the kernel in vain. New bytes raise the (edge-triggered) readiness again.
macro_rules! read_and_forget {
    ($stream:expr, $buf:expr) => {
        read_and_forget!($stream, $stream.try_read($buf), $buf.len())
    };
    ($stream:expr, $read:expr, $room:expr) => {{
        let room = $room;
        let n = $read?;
        if n > 0 && n < room {
            let forgotten = $stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
            debug_assert!(forgotten.is_err());
        }
        Ok(n)
    }};
}

/// Asks the kernel how many bytes of a socket the other side has not acknowledged.
pub type Unacknowledged = fn(BorrowedFd<'_>) -> io::Result<usize>;

/// Who asks. Handed in, because asking takes a call that is `unsafe`, which has its places in layers that this one does not know.
static UNACKNOWLEDGED: OnceLock<Unacknowledged> = OnceLock::new();

/// Hands in who asks the kernel, once for the process. Without, [`Transport::flow`] is not known, and progress is seen in the steps in which the
/// kernel says that there is room.
pub fn ask_with(ask: Unacknowledged) {
    UNACKNOWLEDGED.set(ask).ok();
}

/// The flow of a socket to which `told` bytes were written.
fn flow(socket: BorrowedFd<'_>, told: u64) -> Option<Flow> {
    let held = i64::try_from(UNACKNOWLEDGED.get()?(socket).ok()?).ok()?;
    let given = i64::try_from(told).ok()?;
    Some(Flow { given, taken: given - held })
}

impl Transport for TcpStream {
    #[inline]
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        read_and_forget!(self, buf)
    }

    fn try_read_into(&self, buf: &mut ReadBuf<'_>, most: usize) -> io::Result<usize> {
        let room = buf.remaining().min(most);
        read_and_forget!(self, self.try_read_buf(&mut buf.limit(room)), room)
    }

    #[inline]
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            [one] => Self::try_write(self, one),
            many => self.try_write_vectored(many),
        }
    }

    fn passes(&self) -> bool {
        true
    }

    fn try_fill(&self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        self.try_io(Interest::READABLE, || pipe.fill(self.as_fd(), most))
    }

    fn try_drain(&self, pipe: &mut Pipe) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || pipe.drain(self.as_fd()))
    }

    fn try_send(&self, piece: &Piece) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || piece.send(self.as_fd()))
    }

    #[inline]
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }

    #[inline]
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut byte = [0];
        Self::poll_peek(self, cx, &mut ReadBuf::new(&mut byte))
    }

    fn acknowledge(&self) {
        // Where it can not be had, the client waits.
        self.set_quickack(true).ok();
    }

    fn has_unread(&self) -> bool {
        socket2::SockRef::from(self).peek(&mut [std::mem::MaybeUninit::uninit()]).is_ok_and(|n| n > 0)
    }

    fn shut_down_write(&self) -> io::Result<()> {
        socket2::SockRef::from(self).shutdown(std::net::Shutdown::Write)
    }

    fn flow(&self, told: u64) -> Option<Flow> {
        flow(self.as_fd(), told)
    }

    fn reset_on_close(&self) {
        // A socket that cannot take the option closes in the ordinary way; nothing better can be done.
        socket2::SockRef::from(self).set_linger(Some(std::time::Duration::ZERO)).ok();
    }
}

/// A connection to a server, as the kernel gives it.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Connects over TCP, without Nagle's delay.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Connects to a Unix socket.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path).await?))
    }

    /// Whether an unused connection can still be used: nothing has arrived on it, neither bytes nor an end. Asks no kernel as long as
    /// the event loop has been told of nothing.
    pub fn is_quiet(&self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Outside the budget that the runtime gives a task: one that has used it up would be told "pending" about every socket.
        let mut ready = std::pin::pin!(tokio::task::coop::unconstrained(std::future::poll_fn(|cx| {
            self.poll_read_ready(cx).map(|_| ())
        })));
        if ready.as_mut().poll(&mut cx).is_pending() {
            return true;
        }
        // Whoever took the last byte there was may not have been told so, and neither was the event loop. The kernel knows; it is asked once.
        let peek = |socket: socket2::SockRef<'_>| socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
        let peeked = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || peek(stream.into())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || peek(stream.into())),
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, whatever the event loop has been told: asks the kernel.
    pub fn is_silent(&self) -> bool {
        let peek = |socket: socket2::SockRef<'_>| socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
        let peeked = match self {
            Self::Tcp(stream) => peek(stream.into()),
            Self::Unix(stream) => peek(stream.into()),
        };
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Transport for Socket {
    #[inline]
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read_and_forget!(stream, buf),
            Self::Unix(stream) => read_and_forget!(stream, buf),
        }
    }

    #[inline]
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, bufs) {
            (Self::Tcp(stream), [one]) => stream.try_write(one),
            (Self::Tcp(stream), many) => stream.try_write_vectored(many),
            (Self::Unix(stream), [one]) => stream.try_write(one),
            (Self::Unix(stream), many) => stream.try_write_vectored(many),
        }
    }

    fn passes(&self) -> bool {
        true
    }

    fn try_fill(&self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_fill(pipe, most),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || pipe.fill(stream.as_fd(), most)),
        }
    }

    #[inline]
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    #[inline]
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Transport::poll_peek(stream, cx),
            // Only clients are watched for their going, and they come over TCP.
            Self::Unix(_) => Poll::Pending,
        }
    }

    fn has_unread(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.has_unread(),
            Self::Unix(_) => false,
        }
    }

    fn shut_down_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shut_down_write(),
            Self::Unix(stream) => socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write),
        }
    }

    fn flow(&self, told: u64) -> Option<Flow> {
        match self {
            Self::Tcp(stream) => flow(stream.as_fd(), told),
            Self::Unix(stream) => flow(stream.as_fd(), told),
        }
    }

    fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            stream.reset_on_close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_of_which_the_last_byte_was_read_is_quiet_until_another_comes_or_its_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ours = Socket::Unix(ours);
        assert!(ours.is_quiet());
        for _ in 0..2 {
            assert_eq!(theirs.try_write(b"byte").unwrap(), 4);
            std::future::poll_fn(|cx| ours.poll_read_ready(cx)).await.unwrap();
            assert!(!ours.is_quiet());
            // Nothing tells that there is no fifth.
            assert_eq!(ours.try_read(&mut [0; 4]).unwrap(), 4);
            assert!(ours.is_quiet());
        }
        drop(theirs);
        std::future::poll_fn(|cx| ours.poll_read_ready(cx)).await.unwrap();
        assert!(!ours.is_quiet());
    }
}

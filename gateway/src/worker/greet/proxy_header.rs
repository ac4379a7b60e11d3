//! Takes a PROXY protocol header off the front of a connection, and not a byte more: what follows belongs to TLS or HTTP, which read from the
//! socket themselves.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use probegate_policies::proxy::{Header, Invalid, parse};
use probegate_policies::reason::Reason;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::worker::{NEWCOMER, Worker};

/// Bytes looked at in one go: nearly every header is shorter, and comes in one piece.
const LOOK: usize = 256;

/// Reads the header. `None`: the connection ended before its first byte, as those of many health checks do.
pub(super) async fn read(worker: &Worker, stream: &TcpStream, patience: Duration) -> Result<Option<Header>, Reason> {
    let deadline = worker.deadlines.slot();
    worker.deadlines.observe(Instant::now());
    // Who has sent nothing yet can be ended to make room.
    deadline.arm_idle(patience);
    let mut silent = true;
    let mut hurried = false;
    // The beginning of a header whose rest has not come. All of it belongs to the header, so it can be taken from the socket.
    let mut held = Vec::new();
    poll_fn(|cx| {
        loop {
            let mut look = [0; LOOK];
            let mut seen = ReadBuf::new(&mut look);
            match stream.poll_peek(cx, &mut seen) {
                Poll::Ready(Ok(0)) if held.is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Reason::ProxyHeaderInvalid)),
                Poll::Ready(Ok(_)) => {
                    if std::mem::take(&mut silent) {
                        deadline.arm(patience);
                    }
                }
                Poll::Ready(Err(_)) => {
                    return Poll::Ready(if held.is_empty() { Ok(None) } else { Err(Reason::ProxyHeaderInvalid) });
                }
                Poll::Pending if deadline.poll_expired(cx) => return Poll::Ready(Err(Reason::ProxyHeaderTimeout)),
                Poll::Pending => {
                    // The worker wakes all its connections when the listeners are closed.
                    if worker.state.is_closing() && !hurried {
                        hurried = true;
                        deadline.arm(NEWCOMER.min(patience));
                    }
                    return Poll::Pending;
                }
            }
            match step(stream, &mut held, seen.filled().len(), &mut look) {
                Ok(None) => {}
                Ok(Some(header)) => return Poll::Ready(Ok(Some(header))),
                Err(_) => return Poll::Ready(Err(Reason::ProxyHeaderInvalid)),
            }
        }
    })
    .await
}

/// Judges what is `held` with the first `seen` bytes of `look`, which still lie in the socket, and takes from there what belongs to the header.
fn step(stream: &TcpStream, held: &mut Vec<u8>, seen: usize, look: &mut [u8; LOOK]) -> io::Result<Option<Header>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let before = held.len();
    let bytes = look.get_mut(..seen).ok_or_else(broken)?;
    let found = if before == 0 {
        parse(bytes)
    } else {
        held.extend_from_slice(bytes);
        parse(held)
    };
    let found = found.map_err(|Invalid| broken())?;
    let take = found.map_or(seen, |(_, length)| length.saturating_sub(before));
    let bytes = bytes.get_mut(..take).ok_or_else(broken)?;
    // They are there: nobody else reads from this socket.
    if stream.try_read(bytes)? != take {
        return Err(broken());
    }
    if found.is_none() && before == 0 {
        held.extend_from_slice(bytes);
    }
    Ok(found.map(|(header, _)| header))
}

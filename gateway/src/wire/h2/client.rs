//! The app's side of one exchange in HTTP/2: the request as it goes up, the answer as it comes down.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use probegate_policies::reason::Reason;
use tokio::task::coop::consume_budget;

use super::message;
use super::session::{Failed, Stream};
use crate::wire::buffer::Buffer;
use crate::wire::deadline::Deadline;
use crate::wire::h1::{framing, trailers};
use crate::wire::head::ResponseHead;
use crate::wire::{Framing, Part, RequestSink, ResponseSource, WriteFailed};

/// Sends a request.
#[derive(Debug)]
pub struct RequestWriter<'a> {
    stream: &'a Stream,
    deadline: &'a Deadline,
    /// Time for each wait; `None`: the deadline was armed for the whole exchange.
    each: Option<Duration>,
    head: &'a [u8],
    /// A body follows the head.
    body: bool,
    /// The connection is TLS.
    secured: bool,
    send: Option<SendStream<Bytes>>,
}

impl<'a> RequestWriter<'a> {
    /// A request that begins with `head`, written as HTTP/1.1, whose body is framed as it says.
    pub fn new(
        stream: &'a Stream,
        deadline: &'a Deadline,
        each: Option<Duration>,
        head: &'a [u8],
        framing: Framing,
        secured: bool,
    ) -> Self {
        Self { stream, deadline, each, head, body: framing != Framing::None, secured, send: None }
    }

    /// The stream to send on, after the head.
    fn begun(&mut self) -> Result<&mut SendStream<Bytes>, WriteFailed> {
        if self.send.is_none() {
            let Some(request) = message::request(self.head, self.secured) else {
                // It cannot be told in HTTP/2, which is not the app's doing: as if it had refused this one request.
                self.stream.failed.set(Some(Failed::Reset));
                return Err(failed(io::ErrorKind::InvalidInput, 0));
            };
            match self.stream.send(request, !self.body) {
                Ok(send) => self.send = Some(send),
                Err(_) => {
                    // It never reached the connection.
                    self.stream.failed.set(Some(Failed::Unprocessed));
                    return Err(failed(io::ErrorKind::NotConnected, 0));
                }
            }
        }
        self.send.as_mut().ok_or_else(|| failed(io::ErrorKind::NotConnected, 0))
    }
}

fn failed(kind: io::ErrorKind, written: usize) -> WriteFailed {
    WriteFailed { error: kind.into(), written }
}

impl RequestSink for RequestWriter<'_> {
    async fn head(&mut self) -> Result<(), WriteFailed> {
        self.begun().map(|_| ())
    }

    async fn part(&mut self, data: &[u8]) -> Result<(), WriteFailed> {
        let (deadline, each, head) = (self.deadline, self.each, self.head.len());
        let send = self.begun()?;
        // The connection has taken the head.
        let failed = |kind| failed(kind, head);
        let mut left = data;
        while !left.is_empty() {
            send.reserve_capacity(left.len());
            if let Some(each) = each
                && send.capacity() == 0
            {
                deadline.arm(each);
            }
            let room = poll_fn(|cx| {
                while send.capacity() == 0 {
                    match send.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset)),
                        Poll::Pending if deadline.poll_expired(cx) => return Poll::Ready(Err(io::ErrorKind::TimedOut)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Poll::Ready(Ok(send.capacity()))
            });
            let room = room.await.map_err(failed)?;
            let (now, later) = left.split_at(room.min(left.len()));
            // A copy: the buffer it lies in is the client's, and the connection sends when the app lets it.
            send.send_data(Bytes::copy_from_slice(now), false).map_err(|_| failed(io::ErrorKind::ConnectionReset))?;
            left = later;
            consume_budget().await;
        }
        Ok(())
    }

    async fn finish(&mut self, trailers: &[u8]) -> Result<(), WriteFailed> {
        if !self.body {
            return Ok(());
        }
        let head = self.head.len();
        let send = self.begun()?;
        let sent = match message::trailers(trailers) {
            Some(trailers) => send.send_trailers(trailers),
            None => send.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| failed(io::ErrorKind::ConnectionReset, head))
    }
}

/// Receives the answer.
#[derive(Debug)]
pub struct ResponseReader<'a> {
    stream: &'a Stream,
    deadline: &'a Deadline,
    /// Time for each wait; `None`: the deadline was armed for the whole exchange.
    each: Option<Duration>,
    /// Holds the head, written as HTTP/1.1.
    buffer: &'a mut Buffer,
    head: &'a mut ResponseHead,
    body: Option<RecvStream>,
    framing: Framing,
    received: bool,
    /// The part that was given out; its room in the window is given back when it is done with.
    given: Bytes,
    /// What was found when somebody looked whether there is something.
    found: Option<Result<Found, Reason>>,
    trailers: Vec<u8>,
}

/// The next thing of a body.
#[derive(Debug)]
enum Found {
    Data(Bytes),
    End,
}

impl<'a> ResponseReader<'a> {
    /// The answer that comes on `stream`.
    pub fn new(
        stream: &'a Stream,
        deadline: &'a Deadline,
        each: Option<Duration>,
        buffer: &'a mut Buffer,
        head: &'a mut ResponseHead,
    ) -> Self {
        buffer.clear();
        Self {
            stream,
            deadline,
            each,
            buffer,
            head,
            body: None,
            framing: Framing::None,
            received: false,
            given: Bytes::new(),
            found: None,
            trailers: Vec::new(),
        }
    }

    fn arm(&self) {
        if let Some(each) = self.each {
            self.deadline.arm(each);
        }
    }

    fn failed(&self, error: &h2::Error) -> Reason {
        match self.stream.fail(error) {
            Failed::Invalid => Reason::UpstreamInvalid,
            Failed::Broken | Failed::Reset | Failed::Unprocessed => Reason::UpstreamClosed,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let mut response = self.stream.response.borrow_mut();
        let Some(response) = response.as_mut() else {
            // The request has not begun; or it never will.
            let failed = self.stream.failed.get().is_some();
            return if failed { Poll::Ready(Err(Reason::UpstreamClosed)) } else { Poll::Pending };
        };
        let found = match response.poll_informational(cx) {
            Poll::Ready(Some(Ok(interim))) => Ok((interim.into_parts().0, None)),
            Poll::Ready(Some(Err(error))) => Err(error),
            Poll::Ready(None) => match Pin::new(response).poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    let (head, body) = answer.into_parts();
                    Ok((head, Some(body)))
                }
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => return Poll::Pending,
            },
            Poll::Pending => return Poll::Pending,
        };
        let (head, body) = found.map_err(|error| self.failed(&error))?;
        self.received = true;
        self.body = body;
        Poll::Ready(message::response(head.status, &head.headers, self.buffer, self.head))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Reason>> {
        let Some(body) = self.body.as_mut().filter(|_| self.framing != Framing::None) else {
            return Poll::Ready(Ok(Found::End));
        };
        let ended = loop {
            match body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => return Poll::Ready(Ok(Found::Data(data))),
                Poll::Ready(Some(Err(error))) => break Err(error),
                Poll::Ready(None) => break Ok(()),
                Poll::Pending => return Poll::Pending,
            }
        };
        let trailers = match ended {
            Ok(()) => match body.poll_trailers(cx) {
                Poll::Ready(trailers) => trailers,
                Poll::Pending => return Poll::Pending,
            },
            Err(error) => Err(error),
        };
        match trailers {
            Ok(None) => {}
            Ok(Some(fields)) => {
                let mut section = Vec::new();
                message::write(&fields, |part| section.extend_from_slice(part));
                self.trailers = trailers::filter(&section).ok_or(Reason::UpstreamInvalid)?;
            }
            Err(error) => return Poll::Ready(Err(self.failed(&error))),
        }
        Poll::Ready(Ok(Found::End))
    }

    /// The part that was given out is done with: the app may send as much again.
    fn release(&mut self) {
        let given = std::mem::take(&mut self.given);
        if let Some(body) = &mut self.body
            && !given.is_empty()
        {
            // A stream that is over needs no window.
            body.flow_control().release_capacity(given.len()).ok();
        }
    }
}

impl ResponseSource for ResponseReader<'_> {
    async fn head(&mut self) -> Result<(), Reason> {
        self.arm();
        consume_budget().await;
        let deadline = self.deadline;
        poll_fn(|cx| match self.poll_head(cx) {
            Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(Err(Reason::UpstreamTimeout)),
            other => other,
        })
        .await
    }

    fn received(&self) -> bool {
        self.received
    }

    fn view(&self) -> (&ResponseHead, &[u8]) {
        (self.head, self.buffer.filled())
    }

    fn framing(&mut self, asked_head: bool) -> Result<Framing, Reason> {
        let framing = framing::response(self.head, self.buffer.filled(), asked_head).ok_or(Reason::UpstreamInvalid)?;
        let empty = self.body.as_ref().is_none_or(RecvStream::is_end_stream);
        Ok(match framing {
            // Without a length, the stream's own end is the end (RFC 9113 §8.1).
            Framing::UntilClose if empty => Framing::None,
            Framing::UntilClose => Framing::Chunked,
            other => other,
        })
    }

    fn begin(&mut self, framing: Framing) {
        self.framing = framing;
    }

    fn has_buffered(&mut self) -> bool {
        if self.found.is_none() {
            let mut cx = Context::from_waker(Waker::noop());
            self.found = match self.poll_body(&mut cx) {
                Poll::Ready(found) => Some(found),
                Poll::Pending => None,
            };
        }
        self.found.is_some()
    }

    async fn part(&mut self) -> Result<Part<'_>, Reason> {
        self.release();
        let found = match self.found.take() {
            Some(found) => found?,
            None => {
                self.arm();
                consume_budget().await;
                let deadline = self.deadline;
                poll_fn(|cx| match self.poll_body(cx) {
                    Poll::Pending if deadline.poll_expired(cx) => Poll::Ready(Err(Reason::UpstreamTimeout)),
                    other => other,
                })
                .await?
            }
        };
        Ok(match found {
            Found::Data(data) => {
                self.given = data;
                // Trailers may still follow, unless the stream has ended.
                let end = self.body.as_ref().is_some_and(RecvStream::is_end_stream);
                Part { data: &self.given, end: end.then_some(&[][..]) }
            }
            Found::End => Part { data: &[], end: Some(&self.trailers) },
        })
    }

    /// The connection has room for others either way.
    fn is_reusable(&self) -> bool {
        false
    }

    fn leave_rest(self) {}
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Instant;

    use tokio::net::UnixStream;

    use super::super::session;
    use super::*;
    use crate::wire::deadline::Deadlines;
    use crate::wire::transport::Socket;

    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn what_fails_behind_the_head_has_sent_the_head() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let app = async {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_reset(h2::Reason::CANCEL);
            while connection.accept().await.is_some() {}
        };
        let gateway = async {
            let (session, driver) = session::open(Socket::Unix(ours)).await.unwrap();
            let (stream, deadline) = (Rc::new(session).stream(), Deadlines::new(Instant::now()).slot());
            let request = async {
                let mut sink = RequestWriter::new(&stream, &deadline, None, HEAD, Framing::Chunked, false);
                sink.head().await.unwrap();
                let send = sink.send.as_mut().unwrap();
                poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
                assert_eq!(sink.finish(b"").await.unwrap_err().written, HEAD.len());
            };
            tokio::select! { ended = driver.run() => panic!("{ended:?}"), () = request => {} }
        };
        tokio::select! { () = app => panic!("the connection ended"), () = gateway => {} }
    }
}

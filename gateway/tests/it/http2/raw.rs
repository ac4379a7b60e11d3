//! Clients of HTTP/2 for tests: one that sends any frames, and the crate `h2`'s.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};

use crate::harness::PATIENCE;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What every request needs.
pub(super) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of `RST_STREAM` or GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Whether a head says 200.
    pub(super) fn is_ok(&self) -> bool {
        self.kind == HEADERS && self.payload[0] == 0x88
    }
}

/// A client that sends any frames.
#[derive(Debug)]
pub(super) struct Raw<S = TcpStream>(S);

impl Raw {
    /// Connects, and sends the preface with these settings.
    pub(super) fn with_settings(to: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, settings)
    }

    /// Connects, and sends the preface.
    pub(super) fn connect(to: SocketAddr) -> Self {
        Self::with_settings(to, &[])
    }

    /// A second handle, to send from another thread.
    pub(super) fn sender(&self) -> TcpStream {
        self.0.try_clone().unwrap()
    }
}

impl<S: Read + Write> Raw<S> {
    /// Sends bytes; `false`: the other side is gone.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).is_ok()
    }

    /// Sends the preface over this connection.
    pub(super) fn over(stream: S, settings: &[u8]) -> Self {
        let mut raw = Self(stream);
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        raw
    }

    /// Sends a request without a body.
    pub(super) fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(fields)))
    }

    /// The next frame; `None`: the connection ended.
    pub(super) fn next(&mut self) -> Option<Frame> {
        self.try_next().ok()
    }

    /// The next frame, or why there is none.
    pub(super) fn try_next(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The first frame that is one of these; `None`: the connection ended before.
    pub(super) fn find(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if is_it(&frame) {
                return Some(frame);
            }
        }
    }

    /// The code that the connection is ended with.
    pub(super) fn farewell(&mut self) -> Option<u32> {
        self.find(|frame| frame.kind == GOAWAY).map(|frame| frame.code())
    }

    /// Answers pings until the connection ends, and says with which codes it was told to go.
    pub(super) fn leave(&mut self) -> Vec<u32> {
        let mut codes = Vec::new();
        while let Some(got) = self.next() {
            match (got.kind, got.flags) {
                (GOAWAY, _) => codes.push(got.code()),
                (PING, 0) => assert!(self.send(&frame(PING, 1, 0, &got.payload))),
                _ => {}
            }
        }
        codes
    }
}

/// A frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that leave no trace in the table (RFC 7541 §6.2.2), for frames that stand alone.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            if text.len() < 127 {
                out.push(u8::try_from(text.len()).unwrap());
            } else {
                out.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    out.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                out.push(u8::try_from(rest).unwrap());
            }
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<HeaderMap>,
}

/// Runs `work` with a connection of the crate `h2`.
pub(super) fn with_h2<F: Future<Output = ()>>(to: SocketAddr, work: impl FnOnce(SendRequest<Bytes>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let (mut send, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(async move { connection.await.ok() });
        // The first answer comes behind the settings of the other side, which tell what it can do.
        let head = ask(&mut send, request("GET", "/healthz"), b"", None).await;
        drop(head);
        tokio::time::timeout(PATIENCE, work(send)).await.expect("it takes too long");
    });
}

/// A request for a path.
pub(super) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a.example{path}")).body(()).unwrap()
}

/// Sends a request and receives the answer; the body may break off.
pub(super) async fn ask(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
    trailers: Option<HeaderMap>,
) -> Result<Answer, h2::Error> {
    let ends = body.is_empty() && trailers.is_none();
    let mut ready = send.clone().ready().await?;
    let (response, mut stream) = ready.send_request(request, ends)?;
    let upload = async {
        let mut rest = Bytes::copy_from_slice(body);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(room)) => {
                    let part = rest.split_to(room.min(rest.len()));
                    let last = rest.is_empty() && trailers.is_none();
                    if stream.send_data(part, last).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).ok();
        }
    };
    let (answer, ()) = tokio::join!(receive(response), upload);
    answer
}

/// Receives an answer.
pub(super) async fn receive(
    response: impl Future<Output = Result<Response<h2::RecvStream>, h2::Error>>,
) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        body.extend_from_slice(&part);
        stream.flow_control().release_capacity(part.len())?;
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { head, body, trailers })
}

/// How long a test's own deadlines are: short, but no matter of luck.
pub(super) const SOON: Duration = Duration::from_millis(1500);

//! Clients: they send any bytes, and read answers strictly.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::PATIENCE;
use super::message::{Framing, Response, dechunk, framing, head_end};
use super::tls::{self, TlsStream};

/// How a body, or a connection, came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By its framing.
    Whole,
    /// The connection was closed in the ordinary way; for a body without length or chunks, that is its end.
    Closed,
    /// The connection was reset.
    Reset,
    /// TCP ended where TLS had not said so.
    Truncated,
}

/// What a connection is made of.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// A connection to the gateway.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream,
    /// Received and not yet taken.
    buffer: Vec<u8>,
    ended: Option<End>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::of(TcpStream::connect(to).unwrap())
    }

    /// Connects from another address of the loopback network, such as `[127, 0, 0, 2]`, as another client.
    pub(crate) fn connect_from(from: [u8; 4], to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::from(from)), 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Self::of(socket.into())
    }

    /// Connects with a small receive buffer, to be slow with.
    pub(crate) fn connect_narrow(to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        socket.connect(&to.into()).unwrap();
        Self::of(socket.into())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: Stream::Plain(stream), buffer: Vec::new(), ended: None }
    }

    /// Connects and shakes hands, asking for `name`.
    pub(crate) fn secure(to: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::connect(to).secured(config, name).unwrap()
    }

    /// Shakes hands over this connection, asking for `name`; tells why it failed.
    pub(crate) fn secured(self, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let Stream::Plain(stream) = self.stream else { panic!("secured twice") };
        let stream = Stream::Tls(Box::new(tls::shake(stream, config, name)?));
        Ok(Self { stream, buffer: self.buffer, ended: None })
    }

    /// The TLS session.
    pub(crate) fn session(&self) -> &ClientConnection {
        let Stream::Tls(stream) = &self.stream else { panic!("no TLS here") };
        &stream.conn
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes that nobody may take any more; `false` when nobody does.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent. Where the connection is gone already, nobody hears it.
    pub(crate) fn half_close(&self) {
        let said = self.stream.tcp().shutdown(Shutdown::Write);
        assert!(said.is_ok() || said.is_err_and(|error| error.kind() == ErrorKind::NotConnected));
    }

    /// Goes away with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(self.stream.tcp()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// A second handle of the connection, to send from another thread.
    pub(crate) fn sender(&self) -> TcpStream {
        assert!(matches!(self.stream, Stream::Plain(_)), "a TLS connection has one handle");
        self.stream.tcp().try_clone().unwrap()
    }

    /// Reads the response to a request that was not HEAD; it has to be whole.
    pub(crate) fn response(&mut self) -> Response {
        let (response, end) = self.response_and_end();
        assert_eq!(end, End::Whole, "{response:?}");
        response
    }

    /// Reads the response to a HEAD request.
    pub(crate) fn response_to_head(&mut self) -> Response {
        Response::of(&self.head())
    }

    /// Reads a response that lasts until the connection is closed, which has to happen in the ordinary way.
    pub(crate) fn response_until_closed(&mut self) -> Response {
        let (response, end) = self.response_and_end();
        assert_eq!(end, End::Closed, "{response:?}");
        response
    }

    /// Reads a response however it ends.
    pub(crate) fn response_and_end(&mut self) -> (Response, End) {
        let mut response = Response::of(&self.head());
        if matches!(response.status, 100..=199 | 204 | 304) {
            return (response, End::Whole);
        }
        let framing = framing(&response.fields);
        loop {
            match framing {
                Framing::Length(length) if self.buffer.len() >= length => {
                    response.body = self.take(length);
                    return (response, End::Whole);
                }
                Framing::Chunked => {
                    let decoded = dechunk(&self.buffer);
                    (response.body, response.chunks, response.trailers) =
                        (decoded.body, decoded.chunks, decoded.trailers);
                    if let Some(length) = decoded.length {
                        self.take(length);
                        return (response, End::Whole);
                    }
                }
                Framing::Length(_) | Framing::None => {}
            }
            if let Some(end) = self.receive() {
                if framing != Framing::Chunked {
                    response.body = std::mem::take(&mut self.buffer);
                }
                return (response, end);
            }
        }
    }

    /// Reads a response head.
    pub(crate) fn head(&mut self) -> Vec<u8> {
        loop {
            if let Some(length) = head_end(&self.buffer) {
                return self.take(length);
            }
            let ended = self.receive();
            assert_eq!(ended, None, "the connection ended in a head: {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads a response head, if one comes; an alert instead of one is none.
    pub(crate) fn try_head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = head_end(&self.buffer) {
                return Some(self.take(length));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            let ended = self.receive();
            assert_eq!(ended, None, "ended after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.take(count)
    }

    /// Everything that still comes, and how the connection ended.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.receive() {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// The other side closes, in whatever way, and sends nothing before.
    pub(crate) fn expect_closed(&mut self) {
        let (rest, _) = self.rest();
        assert_eq!(String::from_utf8_lossy(&rest), "", "unexpected bytes before the end");
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Receives once. `Some`: nothing more will come.
    fn receive(&mut self) -> Option<End> {
        if self.ended.is_some() {
            return self.ended;
        }
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.ended = Some(End::Closed),
            Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                self.ended = Some(End::Reset);
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.ended = Some(End::Truncated),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&self.buffer)),
        }
        self.ended
    }
}

/// One request on a connection of its own.
pub(crate) fn exchange(to: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect(to);
    client.send(request);
    client.response()
}

/// One GET on a connection of its own.
pub(crate) fn get(to: SocketAddr, target: &str) -> Response {
    exchange(to, format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n"))
}

/// What the admin listener at `to` answers to GET. It wants to be called by its address.
pub(crate) fn get_admin(to: SocketAddr, target: &str) -> Response {
    exchange(to, format!("GET {target} HTTP/1.1\r\nHost: {to}\r\n\r\n"))
}

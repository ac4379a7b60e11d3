//! Apps behind the gateway: scripts on real sockets that keep everything they received.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::message::{Framing, Request, dechunk, framing, head_end};
use super::{Folder, PATIENCE, eventually};

/// A plain answer with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An app.
#[derive(Debug)]
pub(crate) struct Upstream {
    place: Place,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix { path: PathBuf, _folder: Folder },
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// All bytes of each connection.
    received: Mutex<Vec<Vec<u8>>>,
    handshakes: Mutex<Vec<HandshakeKind>>,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl Upstream {
    /// Answers every request with what `answer` says. The connection is kept, unless the answer says `Connection: close`.
    pub(crate) fn answering<A: Into<Vec<u8>>>(answer: impl Fn(&Request) -> A + Send + Sync + 'static) -> Self {
        Self::scripted(move |connection| connection.serve(&answer))
    }

    /// The same at an address that is known before, and free.
    pub(crate) fn answering_at<A: Into<Vec<u8>>>(
        address: SocketAddr,
        answer: impl Fn(&Request) -> A + Send + Sync + 'static,
    ) -> Self {
        let listener = eventually("the address is free", || TcpListener::bind(address).ok());
        let accept = move || listener.accept().map(|(stream, _)| Stream::Tcp(stream));
        Self::start(Place::Tcp(address), accept, move |connection| connection.serve(&answer))
    }

    /// The same on a Unix socket.
    pub(crate) fn answering_on_unix_socket<A: Into<Vec<u8>>>(
        answer: impl Fn(&Request) -> A + Send + Sync + 'static,
    ) -> Self {
        Self::scripted_on_unix_socket(move |connection| connection.serve(&answer))
    }

    /// Runs `script` for every connection to a Unix socket.
    pub(crate) fn scripted_on_unix_socket(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let folder = Folder::new();
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let accept = move || listener.accept().map(|(stream, _)| Stream::Unix(stream));
        Self::start(Place::Unix { path, _folder: folder }, accept, script)
    }

    /// Runs `script` for every connection, in a thread of its own. The connection is closed at its end.
    pub(crate) fn scripted(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let place = Place::Tcp(listener.local_addr().unwrap());
        Self::start(place, move || listener.accept().map(|(stream, _)| Stream::Tcp(stream)), script)
    }

    /// Runs `script` for every connection, over TLS.
    pub(crate) fn scripted_over_tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let place = Place::Tcp(listener.local_addr().unwrap());
        let accept = move || {
            let (stream, _) = listener.accept()?;
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            Ok(Stream::Tls(Box::new(StreamOwned::new(session, stream))))
        };
        Self::start(place, accept, script)
    }

    /// Answers every request with what `answer` says, over TLS.
    pub(crate) fn answering_over_tls<A: Into<Vec<u8>>>(
        config: Arc<ServerConfig>,
        answer: impl Fn(&Request) -> A + Send + Sync + 'static,
    ) -> Self {
        Self::scripted_over_tls(config, move |connection| connection.serve(&answer))
    }

    /// How the handshakes went that were followed by a request, in their order.
    pub(crate) fn handshakes(&self) -> Vec<HandshakeKind> {
        self.shared.handshakes.lock().unwrap().clone()
    }

    fn start(
        place: Place,
        accept: impl Fn() -> io::Result<Stream> + Send + 'static,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let (theirs, script) = (Arc::clone(&shared), Arc::new(script));
        let acceptor = std::thread::spawn(move || {
            while let Ok(stream) = accept() {
                if theirs.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, script) = (Arc::clone(&theirs), Arc::clone(&script));
                let mut connection = Connection::new(stream, shared);
                std::thread::spawn(move || script(&mut connection));
            }
        });
        Self { place, shared, acceptor: Some(acceptor) }
    }

    /// As a configuration names it.
    pub(crate) fn server(&self) -> String {
        match &self.place {
            Place::Tcp(address) => address.to_string(),
            Place::Unix { path, .. } => format!("unix:{}", path.display()),
        }
    }

    /// Every request so far whose head has arrived.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    /// Waits for so many requests.
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        eventually("so many requests", || Some(self.requests()).filter(|requests| requests.len() >= count))
    }

    /// Targets of all requests so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.requests().iter().map(Request::target).collect()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// All bytes that a connection brought so far.
    pub(crate) fn received(&self, connection: usize) -> Vec<u8> {
        self.shared.received.lock().unwrap().get(connection).cloned().unwrap_or_default()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor up.
        match &self.place {
            Place::Tcp(address) => drop(TcpStream::connect(address)),
            Place::Unix { path, .. } => drop(UnixStream::connect(path)),
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok();
        }
    }
}

/// A connection that the gateway made to an app.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its number, from 0.
    pub(crate) number: usize,
    stream: Stream,
    /// Received and not yet taken.
    buffer: Vec<u8>,
    shared: Arc<Shared>,
    resets: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Connection {
    fn new(stream: Stream, shared: Arc<Shared>) -> Self {
        let patience = Some(PATIENCE);
        match &stream {
            Stream::Tcp(stream) => stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)),
            Stream::Unix(stream) => stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)),
            Stream::Tls(tls) => tls.sock.set_read_timeout(patience).and_then(|()| tls.sock.set_write_timeout(patience)),
        }
        .unwrap();
        shared.open.fetch_add(1, Ordering::SeqCst);
        let mut received = shared.received.lock().unwrap();
        let number = received.len();
        received.push(Vec::new());
        drop(received);
        Self { number, stream, buffer: Vec::new(), shared, resets: false }
    }

    /// Reads a request with its body. `None`: the connection has ended.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let request = self.head()?;
        self.body(request)
    }

    /// Reads a request head. `None`: the connection has ended.
    pub(crate) fn head(&mut self) -> Option<Request> {
        let length = loop {
            if let Some(length) = head_end(&self.buffer) {
                break length;
            }
            self.receive()?;
        };
        let head = self.take(length);
        let request = Request { connection: self.number, head, ..Request::default() };
        let first = !self.shared.requests.lock().unwrap().iter().any(|known| known.connection == self.number);
        if let Stream::Tls(tls) = &self.stream
            && first
        {
            self.shared.handshakes.lock().unwrap().extend(tls.conn.handshake_kind());
        }
        self.shared.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// Reads the body that belongs to `request`. `None`: it never came whole.
    pub(crate) fn body(&mut self, mut request: Request) -> Option<Request> {
        match framing(&request.fields()) {
            Framing::None => {}
            Framing::Length(length) => {
                while self.buffer.len() < length {
                    self.receive()?;
                }
                request.body = self.take(length);
            }
            Framing::Chunked => loop {
                let decoded = dechunk(&self.buffer);
                if let Some(length) = decoded.length {
                    (request.body, request.trailers) = (decoded.body, decoded.trailers);
                    self.take(length);
                    break;
                }
                self.receive()?;
            },
        }
        let mut requests = self.shared.requests.lock().unwrap();
        let number = self.number;
        if let Some(known) = requests.iter_mut().rfind(|known| known.connection == number) {
            *known = request.clone();
        }
        drop(requests);
        Some(request)
    }

    /// Reads once and gives what came. `None`: the connection has ended.
    pub(crate) fn some(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.receive()?;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Reads exactly so many bytes.
    pub(crate) fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.receive()?;
        }
        Some(self.take(count))
    }

    /// Writes bytes; `false` when the gateway does not take them.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream().write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be written.
    pub(crate) fn half_close(&mut self) {
        match &mut self.stream {
            Stream::Tls(tls) => {
                tls.conn.send_close_notify();
                tls.conn.complete_io(&mut tls.sock).and_then(|_| tls.sock.shutdown(Shutdown::Write))
            }
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .ok();
    }

    /// Takes nothing more: on a Unix socket, every write to it fails from now on, and nothing else tells the other side.
    pub(crate) fn deafen(&mut self) {
        match &self.stream {
            Stream::Unix(stream) => stream.shutdown(Shutdown::Read).unwrap(),
            Stream::Tcp(_) | Stream::Tls(_) => panic!("the kernel takes what is written over TCP"),
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        self.resets = true;
        match &self.stream {
            Stream::Tls(tls) => SockRef::from(&tls.sock).set_linger(Some(Duration::ZERO)),
            Stream::Tcp(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Stream::Unix(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
        }
        .unwrap();
    }

    /// Waits until the gateway has closed the connection; the bytes that came before.
    pub(crate) fn wait_closed(&mut self) -> Vec<u8> {
        while self.receive().is_some() {}
        std::mem::take(&mut self.buffer)
    }

    /// Answers requests until the connection ends.
    pub(crate) fn serve<A: Into<Vec<u8>>>(&mut self, answer: &impl Fn(&Request) -> A) {
        while let Some(request) = self.request() {
            let answer = answer(&request).into();
            if !self.write(&answer) || closes(&answer) {
                return;
            }
        }
    }

    fn stream(&mut self) -> &mut dyn ReadWrite {
        match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => &mut **stream,
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn receive(&mut self) -> Option<()> {
        let mut bytes = [0; 16 * 1024];
        let count = loop {
            match self.stream().read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.unwrap_or(0),
            }
        };
        let bytes = &bytes[..count];
        self.buffer.extend_from_slice(bytes);
        self.shared.received.lock().unwrap()[self.number].extend_from_slice(bytes);
        (count > 0).then_some(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The end has arrived before anybody can see the count; a reset needs the close itself.
        if !self.resets {
            self.half_close();
        }
        self.shared.open.fetch_sub(1, Ordering::SeqCst);
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Whether an answer ends its connection.
fn closes(answer: &[u8]) -> bool {
    let head = &answer[..head_end(answer).unwrap_or(answer.len())];
    String::from_utf8_lossy(head).to_ascii_lowercase().contains("\r\nconnection: close\r\n")
}

/// An address that no connection can be made to, as long as this exists.
#[derive(Debug)]
pub(crate) struct Unreachable {
    socket: Socket,
    /// Connections that keep others out.
    fillers: Vec<Socket>,
    folder: Option<Folder>,
}

impl Unreachable {
    /// A port that nobody listens on: every connection is refused.
    pub(crate) fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self { socket, fillers: Vec::new(), folder: None }
    }

    /// A port whose queue is full: connections wait.
    pub(crate) fn full() -> Self {
        let mut full = Self::refusing();
        full.fill(Domain::IPV4);
        full
    }

    /// A Unix socket whose queue is full: the kernel says "try again".
    pub(crate) fn full_unix_socket() -> Self {
        let folder = Folder::new();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(folder.path().join("app.sock")).unwrap()).unwrap();
        let mut full = Self { socket, fillers: Vec::new(), folder: Some(folder) };
        full.fill(Domain::UNIX);
        full
    }

    fn fill(&mut self, domain: Domain) {
        self.socket.listen(0).unwrap();
        let address = self.socket.local_addr().unwrap();
        for _ in 0..4 {
            let filler = Socket::new(domain, Type::STREAM, None).unwrap();
            filler.set_nonblocking(true).unwrap();
            // Those that do not fit in the queue any more wait or fail.
            filler.connect(&address).ok();
            self.fillers.push(filler);
        }
    }

    /// As a configuration names it.
    pub(crate) fn server(&self) -> String {
        match &self.folder {
            Some(folder) => format!("unix:{}", folder.path().join("app.sock").display()),
            None => self.socket.local_addr().unwrap().as_socket().unwrap().to_string(),
        }
    }
}

//! A small server for the gateway's own pages: the admin listener, and the app of `probegate demo`.
//!
//! The same strict HTTP/1 as towards clients, one thread, small requests. Answers are whole, or go on as a [`feed`].
//!
//! Invariant: whoever is slow keeps nobody out. Connections are bounded ([`crowd`]), and so is the time of a head, of an answer, and of an event.

pub mod crowd;
pub mod feed;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use self::crowd::{Counts, Crowd, Entered};
use crate::listen::Listening;
use crate::state::unix_time;
use crate::wire::buffer::Buffer;
use crate::wire::deadline::{Deadlines, TICK};
use crate::wire::h1::body::Body;
use crate::wire::h1::framing::{self, Connection};
use crate::wire::h1::io::{linger, read};
use crate::wire::h1::reply::{Client, Reply};
use crate::wire::h1::request::{HeadBounds, RequestParser};
use crate::wire::head::{FieldView, Name, RequestHead, Version};
use crate::wire::pace::Pace;
use crate::wire::transport::{self, Transport};
use crate::wire::{Answer, Framing, RequestBody, Responder};
use crate::worker::date::Date;

/// Deadline of each step of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody may take to take an answer, however they go on.
const WHOLE: Duration = Duration::from_secs(30);

/// The same, which test builds can shorten.
fn whole() -> Duration {
    #[cfg(feature = "fault-injection")]
    if let Some(ms) = std::env::var("ADMIN_ANSWER_MS").ok().and_then(|text| text.parse().ok()) {
        return Duration::from_millis(ms);
    }
    WHOLE
}

const BOUNDS: HeadBounds = HeadBounds { head: 32 * 1024, fields: 100, target: 8 * 1024 };

/// What a page is made from.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The path, without the query.
    pub path: &'a [u8],
    /// The query, without its question mark.
    pub query: &'a [u8],
    /// The fields.
    pub fields: FieldView<'a>,
    /// There is a body, which nobody reads.
    pub has_body: bool,
    /// Who asks.
    pub peer: Peer,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody at this address.
    Tcp(SocketAddr),
    /// A process of this machine, as the kernel knows it: the user that it runs as, and its number where that is known here.
    Unix {
        /// The user.
        user: u32,
        /// The process.
        process: Option<i32>,
    },
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answered {
    /// This page.
    Now(Page),
    /// A page that takes its time. Others are served meanwhile.
    Later(oneshot::Receiver<Page>),
}

impl From<Page> for Answered {
    fn from(page: Page) -> Self {
        Self::Now(page)
    }
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Further fields.
    pub fields: Vec<(&'static str, String)>,
    /// Why it was refused, in one word, for whoever writes that down.
    pub reason: Option<&'static str>,
    /// What follows the body: the answer goes on, and its end is the connection's. HEAD has none of it.
    pub feed: Option<feed::Listener>,
}

impl Page {
    /// Plain text.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
            fields: Vec::new(),
            reason: None,
            feed: None,
        }
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Socket {
    /// The address.
    pub address: SocketAddr,
    socket: TcpListener,
}

impl Socket {
    /// The first socket of a listener.
    ///
    /// # Errors
    /// There is none.
    pub fn new(listening: Listening) -> io::Result<Self> {
        let socket = listening.sockets.into_iter().next().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Self { address: listening.bound, socket })
    }
}

/// Where a local server accepts.
#[derive(Debug)]
pub enum Door {
    /// At an address.
    Tcp(Socket),
    /// At a path.
    Unix(UnixListener),
}

impl From<Socket> for Door {
    fn from(socket: Socket) -> Self {
        Self::Tcp(socket)
    }
}

/// Starts a thread that answers every request with `page`, and takes no more connections when `end` is over.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start<A: Into<Answered>>(
    name: &str,
    door: impl Into<Door>,
    counts: Arc<Counts>,
    page: impl Fn(&Request<'_>) -> A + Send + 'static,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let door = door.into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        LocalSet::new().block_on(&runtime, async move {
            let ended = tokio::select! {
                ended = accept(door, counts, Rc::new(move |request: &Request<'_>| page(request).into())) => ended,
                // What was accepted before is served to its end.
                () = end => std::future::pending().await,
            };
            if let Err(error) = ended {
                tracing::error!(%error, "a local server ended");
            }
        });
    })?;
    Ok(())
}

async fn accept(
    door: Door,
    counts: Arc<Counts>,
    page: Rc<impl Fn(&Request<'_>) -> Answered + 'static>,
) -> io::Result<()> {
    let deadlines = Deadlines::new(Instant::now());
    let ticking = Rc::clone(&deadlines);
    spawn_local(async move {
        loop {
            tokio::time::sleep(TICK).await;
            ticking.sweep(Instant::now());
        }
    });
    let (listener, crowd) = (Listener::new(door)?, Crowd::new(counts));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (page, deadlines) = (Rc::clone(&page), Rc::clone(&deadlines));
                match crowd.enter(&deadlines, unix_time()) {
                    Entered::Served(place) => spawn_local(async move {
                        let _place = place;
                        serve(&stream, peer, &*page, &deadlines).await;
                    }),
                    Entered::TurnedAway(place) => spawn_local(async move {
                        let _place = place;
                        crowd::turn_away(&stream, &deadlines.slot()).await;
                    }),
                    Entered::Dropped => continue,
                };
            }
            Err(error) => {
                tracing::warn!(%error, "a local server cannot accept a connection");
                tokio::time::sleep(TICK).await;
            }
        }
    }
}

/// A door in an event loop.
enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Listener {
    fn new(door: Door) -> io::Result<Self> {
        match door {
            Door::Tcp(socket) => tokio::net::TcpListener::from_std(socket.socket).map(Self::Tcp),
            Door::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(Self::Unix),
        }
    }

    async fn accept(&self) -> io::Result<(transport::Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((transport::Socket::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let about = stream.peer_cred()?;
                let peer = Peer::Unix { user: about.uid(), process: about.pid() };
                Ok((transport::Socket::Unix(stream), peer))
            }
        }
    }
}

async fn serve(
    stream: &impl Transport,
    peer: Peer,
    page: &impl Fn(&Request<'_>) -> Answered,
    deadlines: &Rc<Deadlines>,
) {
    let deadline = deadlines.slot();
    let mut buffer = Buffer::new(BOUNDS.head);
    let (mut rest, mut out, date) = (Buffer::new(BOUNDS.head), Vec::new(), Date::default());
    let mut head = RequestHead::default();
    loop {
        let mut parser = RequestParser::default();
        // For the whole head: a byte now and then wins no time.
        deadline.arm_idle(PATIENCE);
        let broken = loop {
            match parser.advance(buffer.filled(), &BOUNDS, &mut head) {
                Ok(true) => break false,
                Ok(false) => {}
                Err(_) => break true,
            }
            match read(stream, &mut buffer, &deadline).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        };
        deadline.arm(PATIENCE);
        date.refresh();
        let date = date.get();
        let bytes = buffer.filled();
        // One host, as RFC 9112 §3.2 demands: of two, another than the one that was judged might be meant.
        let hosts = FieldView { bytes, fields: &head.fields }.of(Name::Host).count();
        let framed = if broken || hosts > 1 || hosts == 0 && head.version == Version::Http11 {
            Err(Reason::FieldInvalid)
        } else {
            framing::request(&head, bytes)
        };
        let persists =
            framed.is_ok() && Connection::of(FieldView { bytes, fields: &head.fields }).persists(head.version);
        let method = head.method.of(bytes);
        let client = Client { version: Version::Http11, to_head: !broken && method == b"HEAD", persists };
        rest.clear();
        rest.extend(bytes.get(head.len..).unwrap_or_default());
        let has_body = !matches!(framed, Ok(Framing::None | Framing::Length(0)));
        let mut body =
            Body::new(stream, &deadline, Pace::patient(PATIENCE), &mut rest, framed.unwrap_or(Framing::None));
        let mut reply = Reply::new(stream, &deadline, Pace::patient(PATIENCE), &mut out, date, client);
        if !body.discard() {
            reply.close();
        }
        let mut target = head.target.of(bytes).splitn(2, |&byte| byte == b'?');
        let (path, query) = (target.next().unwrap_or_default(), target.next().unwrap_or_default());
        let page = if framed.is_ok() {
            let fields = FieldView { bytes, fields: &head.fields };
            match page(&Request { method, path, query, fields, has_body, peer }) {
                Answered::Now(page) => page,
                Answered::Later(page) => page.await.unwrap_or_else(|_| Page::new(500, "no answer\n")),
            }
        } else {
            Page::new(400, "bad request\n")
        };
        let mut fields = vec![("Content-Type", page.content_type.as_bytes()), ("Cache-Control", &b"no-store"[..])];
        fields.extend(page.fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        if let Some(listener) = page.feed.filter(|_| !client.to_head) {
            let head = feed::head(page.status, &date, &fields);
            return feed::follow(stream, &deadline, PATIENCE, &[head, page.body].concat(), listener).await;
        }
        let answer = Answer { status: page.status, fields: &fields, body: &page.body };
        let Ok(sent) = tokio::time::timeout(whole(), reply.answer(&answer)).await else {
            return stream.reset_on_close();
        };
        let persists = reply.persists();
        let leftover = body.leftover();
        if sent.is_err() || !persists {
            return linger(stream, leftover, &deadline).await;
        }
        buffer.clear();
        buffer.extend(leftover.filled());
    }
}

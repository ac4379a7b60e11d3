//! The wire: bytes in, bytes out, and the seam between protocols and the life of a request.
//!
//! `request` judges and exchanges without knowing which protocol it serves. It sees a [`head::RequestHead`], a
//! [`RequestBody`] it can read parts from and a [`Responder`] it can answer through. HTTP/1 implements them in [`h1`]; another
//! protocol joins by filling the same head and implementing the same two traits.
//!
//! Invariant: nothing here knows the plan, policies, logs or metrics.

pub mod buffer;
pub mod compose;
pub mod deadline;
pub mod edits;
pub mod h1;
pub mod h2;
pub mod head;
pub mod known;
pub mod own;
pub mod pace;
pub mod piece;
pub mod pipe;
pub mod progress;
pub mod text;
pub mod tls;
pub mod transport;
pub mod turn;

use std::future::poll_fn;
use std::task::{Context, Poll};

use probegate_policies::reason::Reason;

use self::edits::Edits;
pub use self::head::Framing;
use self::head::{Name, ResponseHead};
use self::known::Known;
use self::piece::Piece;
use self::pipe::{Pipe, Pipes};
use self::progress::Wait;

/// The client's side of a request body.
pub trait RequestBody {
    /// How the body ends. For a body without a known length, [`Framing::Chunked`].
    fn framing(&self) -> Framing;

    /// Whether all of the body has been read.
    fn is_complete(&self) -> bool;

    /// Whether the next part is at hand already.
    fn has_buffered(&mut self) -> bool;

    /// Bytes of the body read so far, without framing.
    fn received(&self) -> u64;

    /// Waits for the next part of the body. `None`: it is complete.
    ///
    /// # Errors
    /// The reason the request must end: the client stalled, broke the framing, sent too much or went away.
    fn read(&mut self) -> impl Future<Output = Result<Option<&[u8]>, Reason>>;

    /// At most this many bytes of body are taken; beyond it, [`Reason::BodyTooLarge`].
    fn limit(&mut self, most: u64);

    /// Throws away what is left of the body, as far as that takes no waiting. `true`: nothing of it will follow.
    fn discard(&mut self) -> bool;

    /// Whether all that is left of a body of known length is in memory already, so that reading it waits for nobody.
    fn is_at_hand(&self) -> bool {
        false
    }

    /// It will not be read again: what was kept of it may go.
    fn forget(&mut self) {}

    /// Whether it can be read again from its first byte when all of it was read.
    fn is_repeatable(&self) -> bool {
        self.framing() == Framing::None
    }

    /// Goes back to the first byte. `false`: what was read is gone.
    fn rewind(&mut self) -> bool {
        self.received() == 0
    }

    /// Trailer section that followed a complete body, as field lines with CRLF; empty if there was none.
    fn trailers(&self) -> &[u8];
}

/// The way of a request to the app.
pub trait RequestSink {
    /// Sends the head alone, because the body keeps the app waiting.
    fn head(&mut self) -> impl Future<Output = Result<(), WriteFailed>>;

    /// Sends a part of the body, with the head before it where that was not sent yet.
    fn part(&mut self, data: &[u8]) -> impl Future<Output = Result<(), WriteFailed>>;

    /// Ends the body; `trailers` are field lines with CRLF.
    fn finish(&mut self, trailers: &[u8]) -> impl Future<Output = Result<(), WriteFailed>>;
}

/// A part of a response body.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The bytes, without framing.
    pub data: &'a [u8],
    /// It is the last part, followed by these trailers (field lines with CRLF).
    pub end: Option<&'a [u8]>,
}

/// Where an answer comes from: the app, or a file.
pub trait ResponseSource {
    /// Waits for the next head, interim or final.
    ///
    /// # Errors
    /// The app stalled, closed, or sent something that is not a response.
    fn head(&mut self) -> impl Future<Output = Result<(), Reason>>;

    /// Whether a byte of an answer has come.
    fn received(&self) -> bool;

    /// The head that `head` found, and the bytes it lies in.
    fn view(&self) -> (&ResponseHead, &[u8]);

    /// How the body behind this head ends. `asked_head`: the request was HEAD.
    ///
    /// # Errors
    /// The head contradicts itself.
    fn framing(&mut self, asked_head: bool) -> Result<Framing, Reason>;

    /// The head is done with; its body follows.
    fn begin(&mut self, framing: Framing);

    /// Whether the next part is at hand already.
    fn has_buffered(&mut self) -> bool;

    /// Waits for the next part of the body. Whoever stops waiting may ask again: nothing is lost.
    ///
    /// # Errors
    /// The body will not become whole.
    fn part(&mut self) -> impl Future<Output = Result<Part<'_>, Reason>>;

    /// Bytes of the body that nobody has to look at, and none of which is in memory: they may [`Self::pass`]. 0: they may not.
    fn passable(&self) -> u64 {
        0
    }

    /// Waits for bytes of the body and moves some into a pipe; `None`: there is none to be had. Only where some are [`Self::passable`].
    ///
    /// # Errors
    /// The body will not become whole.
    fn pass(&mut self, pipes: &Pipes) -> impl Future<Output = Result<Option<Pipe>, Reason>> {
        let _ = pipes;
        std::future::ready(Ok(None))
    }

    /// Waits until the next bytes of the body are in memory, and says which piece of which file they are. `None`: the next part is no piece of a file,
    /// or not one that is worth it.
    ///
    /// # Errors
    /// The body will not become whole.
    fn piece(&mut self) -> impl Future<Output = Result<Option<Piece>, Reason>> {
        std::future::ready(Ok(None))
    }

    /// So many bytes of the piece were sent.
    fn sent(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Whether the connection to the app stands at the next request.
    fn is_reusable(&self) -> bool;

    /// Ends the answer: what came behind the head stays in the buffer, for a tunnel.
    fn leave_rest(self);
}

/// A write that did not come to its end.
#[derive(Debug)]
pub struct WriteFailed {
    /// Why.
    pub error: std::io::Error,
    /// Bytes that were handed to the kernel before.
    pub written: usize,
}

/// What a response body looks like to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFraming {
    /// No body follows the head, whatever its fields say (HEAD, 204, 304).
    None,
    /// This many bytes follow.
    Length(u64),
    /// The length is not known; the protocol's own framing shows where the body ends.
    Streamed,
}

/// How far a part of an answer was written. Only [`Responder::poll_write`] moves it.
#[derive(Debug, Default)]
pub struct Written {
    /// Bytes that the client's side has taken, framing included or not, as the protocol counts them.
    pub at: usize,
    /// The wait for the client's side, where it keeps the write waiting.
    pub wait: Option<Wait>,
}

/// Up to so many bytes of a body are put behind their head: copying them costs less than having the kernel gather them.
pub const COPIED: usize = 4096;

/// A response of the gateway's own.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// Fields besides `Date`, `Content-Length` and what the protocol needs.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The body; not sent in answer to HEAD, though its length is.
    pub body: &'a [u8],
}

/// Fields of a response that the gateway decides about, whoever answers. The default lets neither of the app's pass and adds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The app's `Server` passes.
    pub server: bool,
    /// The app's `Strict-Transport-Security` passes.
    pub transport_security: bool,
    /// The app's `X-Gateway-Error` passes.
    pub gateway_error: bool,
    /// Field lines with CRLF that the response head carries besides. An answer of the gateway's own keeps what it says itself.
    pub lines: &'a [u8],
}

impl Stamp<'_> {
    /// Whether a field of the app's passes.
    pub fn keeps(&self, known: Name) -> bool {
        match known {
            Name::Server => self.server,
            Name::StrictTransportSecurity => self.transport_security,
            Name::GatewayError => self.gateway_error,
            Name::Accel => false,
            _ => true,
        }
    }
}

/// Why an answer could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientGone {
    /// The client went away.
    Closed,
    /// It took nothing, or too little, for too long.
    Stalled,
}

impl From<ClientGone> for Reason {
    fn from(gone: ClientGone) -> Self {
        match gone {
            ClientGone::Closed => Self::ClientClosed,
            ClientGone::Stalled => Self::ClientStalled,
        }
    }
}

/// The client's side of a response.
pub trait Responder {
    /// Puts `stamp` on the response, and what the configuration changes, on the app's as on one of the gateway's own. Only before `start` and
    /// `answer`; without it, the default holds.
    fn stamp(&mut self, stamp: &Stamp<'_>, edits: Option<Edits>);

    /// Whether this answer of the app's can be told to the client. Where it can not, the app is taken for broken.
    fn accepts(&self, _head: &ResponseHead, _bytes: &[u8]) -> bool {
        true
    }

    /// Sends an interim response (1xx except 101) that the upstream sent.
    fn interim(&mut self, head: &ResponseHead, bytes: &[u8]) -> impl Future<Output = Result<(), ClientGone>>;

    /// Prepares the final response head. It is written together with the first part of the body, or by `finish`.
    fn start(&mut self, head: &ResponseHead, bytes: &[u8], framing: ClientFraming);

    /// Takes `start` back. `false`: something of the answer may have left already, or this protocol does not hold heads back.
    fn retract(&mut self) -> bool {
        false
    }

    /// Whether `start` was called: from then on nothing else can be answered.
    fn started(&self) -> bool;

    /// Tells a client that waits before it sends its body to go on (RFC 9110 §10.1.1).
    fn go_on(&mut self) -> impl Future<Output = Result<(), ClientGone>>;

    /// Sends a part of the body, with the head before it where that was not sent yet. `end`: it is the last part, followed by these
    /// trailers (field lines with CRLF).
    ///
    /// A write that is pending must be gone on with, with the same bytes (they may lie elsewhere by then) and the same `written`, before anything
    /// else is written.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
        end: Option<&[u8]>,
        written: &mut Written,
    ) -> Poll<Result<(), ClientGone>>;

    /// Sends a part of the body and waits until the client's side has taken it. See [`Self::poll_write`].
    fn write(&mut self, data: &[u8], end: Option<&[u8]>) -> impl Future<Output = Result<(), ClientGone>> {
        let mut written = Written::default();
        poll_fn(move |cx| self.poll_write(cx, data, end, &mut written))
    }

    /// Whether the next bytes of the body can come out of a pipe: nothing else has to be written before or around them.
    fn passes(&self) -> bool {
        false
    }

    /// Sends what is in the pipe, as a part of the body. Only where it [`Self::passes`]. Whoever stops waiting may write what is left of it in
    /// another way; nobody but that one looks at how long the client takes.
    ///
    /// # Errors
    /// The client is gone.
    fn poll_pass(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<(), ClientGone>> {
        let _ = (cx, pipe);
        Poll::Ready(Err(ClientGone::Closed))
    }

    /// Sends what the client takes of a piece of a file, as a part of the body, and says how much that was. Only where it [`Self::passes`]. 0: the file is shorter
    /// than that, or can not be sent this way.
    ///
    /// # Errors
    /// The client is gone.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &Piece,
        written: &mut Written,
    ) -> Poll<Result<usize, ClientGone>> {
        let _ = (cx, piece, written);
        Poll::Ready(Ok(0))
    }

    /// Answers with a response of the gateway's own. Only before `start`.
    fn answer(&mut self, answer: &Answer<'_>) -> impl Future<Output = Result<(), ClientGone>>;

    /// Prepares an answer that was given before, if that is what this client would get again. `true`: it is to be [`Self::deliver`]ed. Only before `start`.
    fn recall(&mut self, known: &Known, id: &[u8; 32]) -> bool {
        let _ = (known, id);
        false
    }

    /// Prepares an answer of the gateway's own, whole. `true`: it is to be [`Self::deliver`]ed. `false`: nothing was prepared, as it is large, or this protocol sends it in
    /// another way. Only before `start`.
    fn prepare(&mut self, answer: &Answer<'_>) -> bool {
        let _ = answer;
        false
    }

    /// Sends what was [`Self::recall`]ed or [`Self::prepare`]d.
    fn deliver(&mut self) -> impl Future<Output = Result<(), ClientGone>> {
        std::future::ready(Err(ClientGone::Closed))
    }

    /// What was [`Self::prepare`]d, in a form that can be [`Self::recall`]ed; `id`: what it says of its request. `None`: this client gets it in another one.
    fn keep(&self, id: Option<&[u8; 32]>) -> Option<Known> {
        let _ = id;
        None
    }

    /// Nothing else will be answered on this connection after this response.
    fn close(&mut self);

    /// The rest of a body that began will never come: make sure that the client can see it.
    fn truncate(&mut self);

    /// Bytes of body written so far.
    fn sent(&self) -> u64;

    /// Ready when the client has closed its side while it should wait for the answer.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

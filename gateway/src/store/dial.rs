//! Sockets to the servers of a store.
//!
//! Not those of [`crate::upstream`]: the client library drives a connection by itself, and wants streams of its own runtime.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::plan::{ServerAddress, StoreServer, UpstreamTls};

/// Bytes that a server may always say: a page of bans has a tenth of it.
const LEAST: usize = 1 << 20;

/// Bytes that it may say at the most, however much it was asked. No answer about limits is longer than its question.
const MOST: usize = 8 << 20;

/// How long what was sent may stay without a sign that it has arrived.
const UNHEARD: Duration = Duration::from_secs(5);

/// A socket.
pub(super) enum Dialled {
    Tcp(Bounded<TcpStream>),
    Unix(Bounded<UnixStream>),
    Tls(Box<Bounded<TlsStream<TcpStream>>>),
}

/// A stream that does not listen to endless answers: the client library keeps each until it is whole.
pub(super) struct Bounded<S> {
    stream: S,
    /// Bytes that the server may say until it is asked something.
    credit: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S) -> Self {
        Self { stream, credit: LEAST }
    }

    fn asked(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.credit = self.credit.saturating_add(*count).clamp(LEAST, MOST);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.credit == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without an end")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.credit = self.credit.saturating_sub(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.asked(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.asked(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects to a server.
///
/// # Errors
/// Nobody is there, or nobody who can be trusted.
pub(super) async fn dial(server: &StoreServer, tls: Option<&Arc<ClientConfig>>) -> io::Result<Dialled> {
    let stream = match &server.address {
        ServerAddress::Unix(path) => {
            return UnixStream::connect(path).await.map(|stream| Dialled::Unix(Bounded::new(stream)));
        }
        ServerAddress::Tcp(address) => TcpStream::connect(address).await?,
        ServerAddress::Name(name, port) => TcpStream::connect((&**name, *port)).await?,
    };
    // A question is one small segment, and somebody waits for its answer.
    stream.set_nodelay(true)?;
    // What lies between may have forgotten the connection, and would swallow questions for a quarter of an hour.
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNHEARD))?;
    match (tls, &server.name) {
        (Some(tls), Some(name)) => {
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream).await?;
            Ok(Dialled::Tls(Box::new(Bounded::new(stream))))
        }
        _ => Ok(Dialled::Tcp(Bounded::new(stream))),
    }
}

/// What TLS is spoken with. `None`: the plan's certificates can not be used, which was found out when it was made.
pub(super) fn config(tls: &UpstreamTls) -> Option<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(crate::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    let mut roots = RootCertStore::empty();
    // A system's store may hold what nobody can read; such an authority is not believed.
    roots.add_parsable_certificates(tls.authorities.iter().cloned());
    let builder = builder.with_root_certificates(roots);
    match &tls.certificate {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).ok(),
        None => Some(builder.with_no_client_auth()),
    }
}

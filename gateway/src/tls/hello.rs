//! The first message of a handshake, and what it decides: which certificate and which verification of clients the rest goes with.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use probegate_policies::reason::Reason;
use rustls::ServerConfig;
use rustls::server::{Accepted, Acceptor, ClientHello};

use crate::acme::challenges::{ALPN, Challenges};
use crate::wire::deadline::Deadline;
use crate::wire::tls::Pipe;
use crate::wire::transport::Transport;

/// The fatal alert `unrecognized_name` in a record of its own (RFC 6066 §3, RFC 8446 §6).
pub const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// What is said to somebody who speaks HTTP where TLS is spoken.
pub const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 45\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: write https:// here.\n";

/// A client that did not come as far as a complete first message.
#[derive(Debug)]
pub enum Unmet {
    /// It went away before it said anything: somebody who looked whether the port is open.
    Silent,
    /// The reason to log.
    Failed(Reason),
    /// It speaks HTTP without TLS; these are its first bytes.
    Plain(Box<[u8]>),
}

/// What of the first bytes is kept, to tell what they are.
const KEPT: usize = 256;

/// Reads through `Pipe` and remembers the beginning.
struct Begun<'a, T> {
    pipe: Pipe<'a, T>,
    first: Vec<u8>,
}

impl<T: Transport> io::Read for Begun<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.pipe.read(buf)?;
        let room = KEPT.saturating_sub(self.first.len()).min(n);
        self.first.extend_from_slice(buf.get(..room).unwrap_or_default());
        Ok(n)
    }
}

/// Reads the first message of a client. The caller has armed `deadline` as an idle one; the first byte arms it with `patience`.
///
/// # Errors
/// There is none; an alert that says why was sent where one is due.
pub async fn meet<T: Transport>(transport: &T, deadline: &Deadline, patience: Duration) -> Result<Accepted, Unmet> {
    let mut acceptor = Acceptor::default();
    let mut begun = Begun { pipe: Pipe(transport), first: Vec::new() };
    let mut silent = true;
    poll_fn(|cx| {
        loop {
            match acceptor.read_tls(&mut begun) {
                Ok(0) if begun.first.is_empty() => return Poll::Ready(Err(Unmet::Silent)),
                Ok(0) => return Poll::Ready(Err(Unmet::Failed(Reason::HandshakeFailed))),
                Ok(_) => {
                    // Also where all of it came at once: the rest of the handshake is not idle either.
                    if std::mem::take(&mut silent) {
                        deadline.arm(patience);
                    }
                    match acceptor.accept() {
                        Ok(None) => {}
                        Ok(Some(accepted)) => return Poll::Ready(Ok(accepted)),
                        Err(_) if is_http(&begun.first) => {
                            return Poll::Ready(Err(Unmet::Plain(std::mem::take(&mut begun.first).into())));
                        }
                        Err((error, mut alert)) => {
                            tracing::debug!(%error, "handshake failed at its first message");
                            alert.write_all(&mut Pipe(transport)).ok();
                            return Poll::Ready(Err(Unmet::Failed(Reason::HandshakeFailed)));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match transport.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Unmet::Failed(Reason::HandshakeFailed))),
                    Poll::Pending if deadline.poll_expired(cx) => {
                        return Poll::Ready(Err(Unmet::Failed(Reason::HandshakeTimeout)));
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Err(_) if begun.first.is_empty() => return Poll::Ready(Err(Unmet::Silent)),
                Err(_) => return Poll::Ready(Err(Unmet::Failed(Reason::HandshakeFailed))),
            }
        }
    })
    .await
}

/// Whether bytes look like the beginning of a request: a method and a blank.
fn is_http(first: &[u8]) -> bool {
    let method = first.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    (3..=16).contains(&method) && first.get(method) == Some(&b' ')
}

/// The answer to a challenge (`acme-tls/1`), when a first message asks for one. It is good for nothing else: the connection ends with its
/// handshake (RFC 8737 §3).
pub fn challenge(challenges: &Challenges, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
    let mut protocols = hello.alpn()?;
    if protocols.next() != Some(ALPN) || protocols.next().is_some() {
        return None;
    }
    challenges.handshake(&super::name::asked(hello)?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::wire::deadline::Deadlines;

    #[tokio::test]
    async fn a_client_whose_first_message_came_at_once_is_not_idle() {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut session = ClientConnection::new(Arc::new(config), "app.example".try_into().unwrap()).unwrap();
        let mut first = Vec::new();
        session.write_tls(&mut first).unwrap();
        let deadlines = Deadlines::new(Instant::now());
        for pieces in [1, 2] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
            let deadline = deadlines.slot();
            deadline.arm_idle(Duration::from_secs(10));
            let send = async {
                for piece in first.chunks(first.len().div_ceil(pieces)) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let ((), met) = tokio::join!(send, meet(&server, &deadline, Duration::from_secs(10)));
            met.unwrap();
            assert_eq!(deadlines.hurry_idle(1, Duration::ZERO), 0, "in {pieces}");
        }
    }

    #[test]
    fn requests_are_told_from_other_noise() {
        for (first, http) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"PROPFIND /", true),
            (b"GE", false),
            (b"\x16\x03\x01", false),
            (b"SSH-2.0-x", false),
            (b"", false),
        ] {
            assert_eq!(is_http(first), http, "{first:?}");
        }
        let text = String::from_utf8(PLAIN_HTTP.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }
}

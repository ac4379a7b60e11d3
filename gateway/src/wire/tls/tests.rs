use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::wire::buffer::Buffer;
use crate::wire::deadline::{Deadline, Deadlines};
use crate::wire::h1::client::RequestWriter;
use crate::wire::h1::io::{read, write_all};
use crate::wire::{Framing, RequestSink as _};

static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

type Secure = Tls<TcpStream>;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.unwrap() })
}

fn sessions(versions: &[&'static SupportedProtocolVersion]) -> (ServerConnection, ClientConnection) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (
        ServerConnection::new(Arc::new(server)).unwrap(),
        ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap(),
    )
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (accepted.unwrap().0, connected.unwrap())
}

async fn pair(versions: &[&'static SupportedProtocolVersion]) -> (Secure, Secure, Deadline) {
    let (accepted, connected) = sockets().await;
    let (server, client) = sessions(versions);
    let (server, client) = (Tls::new(accepted, server), Tls::new(connected, client));
    let deadlines = Deadlines::new(Instant::now());
    let (one, other) = (deadlines.slot(), deadlines.slot());
    let (a, b) = tokio::join!(server.handshake(&one), client.handshake(&other));
    a.unwrap();
    b.unwrap();
    (server, client, one)
}

async fn send(tls: &Secure, data: &[u8], deadline: &Deadline) {
    write_all(tls, &mut [IoSlice::new(data)], deadline, Duration::from_secs(60)).await.unwrap();
}

async fn receive(tls: &Secure, deadline: &Deadline) -> io::Result<Vec<u8>> {
    let mut buffer = Buffer::new(32 * 1024);
    let n = read(tls, &mut buffer, deadline).await?;
    assert_eq!(n, buffer.len());
    Ok(buffer.filled().to_vec())
}

async fn peek(tls: &Secure) -> io::Result<usize> {
    poll_fn(|cx| tls.poll_peek(cx)).await
}

#[test]
fn bytes_arrive_in_both_directions_and_versions() {
    for versions in [TLS12, TLS13] {
        block_on(async {
            let (server, client, deadline) = pair(versions).await;
            send(&client, b"ask", &deadline).await;
            assert_eq!(peek(&server).await.unwrap(), 3);
            assert!(server.has_unread());
            assert!(server.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready());
            assert_eq!(receive(&server, &deadline).await.unwrap(), b"ask");
            assert!(!server.has_unread());
            send(&server, b"answer", &deadline).await;
            assert_eq!(receive(&client, &deadline).await.unwrap(), b"answer");
        });
    }
}

#[test]
fn a_client_that_waits_for_its_handshake_to_be_acknowledged_before_it_asks_does_not_wait_for_a_timer() {
    block_on(async {
        let (server, _client, _deadline) = pair(TLS13).await;
        // The kernel does not hold acknowledgements back until there is something to send.
        assert!(server.transport.quickack().unwrap());
    });
}

#[test]
fn nothing_is_written_while_its_ciphertext_waits_and_nothing_is_written_twice() {
    for versions in [TLS12, TLS13] {
        block_on(async {
            let (server, client, deadline) = pair(versions).await;
            let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
            let mut written = 0;
            // Until the kernel's buffers are full.
            while let Ok(n) = server.try_write(&[IoSlice::new(&sent[written..])]) {
                assert!((1..=MOST).contains(&n));
                written += n;
                if written == sent.len() {
                    break;
                }
            }
            {
                let state = server.state.borrow();
                assert!(state.taken <= MOST && (state.taken == 0) != state.session.wants_write());
            }
            let rest = async {
                send(&server, &sent[written..], &deadline).await;
                server.shut_down_write().unwrap();
            };
            let other = Deadlines::new(Instant::now()).slot();
            let all = async {
                let mut all = Vec::new();
                loop {
                    let part = receive(&client, &other).await.unwrap();
                    if part.is_empty() {
                        return all;
                    }
                    all.extend(part);
                }
            };
            let ((), all) = tokio::join!(rest, all);
            assert!(all == sent);
        });
    }
}

/// A socket that breaks when it has taken so many bytes more.
#[derive(Debug)]
struct Breaking(TcpStream, std::cell::Cell<usize>);

impl Transport for Breaking {
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Transport::try_read(&self.0, buf)
    }
    fn try_write(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let left = self.1.get();
        let buf = bufs.iter().find(|buf| !buf.is_empty()).ok_or(io::ErrorKind::InvalidInput)?;
        let some = buf.get(..left.min(buf.len())).filter(|some| !some.is_empty()).ok_or(io::ErrorKind::BrokenPipe)?;
        let n = self.0.try_write(some)?;
        self.1.set(left - n);
        Ok(n)
    }
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Transport::poll_read_ready(&self.0, cx)
    }
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Transport::poll_write_ready(&self.0, cx)
    }
    fn poll_peek(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Transport::poll_peek(&self.0, cx)
    }
    fn has_unread(&self) -> bool {
        false
    }
    fn shut_down_write(&self) -> io::Result<()> {
        Ok(())
    }
    fn reset_on_close(&self) {}
}

#[test]
fn a_request_of_which_something_may_have_arrived_is_not_called_unsent() {
    block_on(async {
        for (room, sent) in [(0, false), (1, true), (30, true)] {
            let (accepted, connected) = sockets().await;
            let (server, client) = sessions(TLS13);
            let server = Tls::new(accepted, server);
            let client = Tls::new(Breaking(connected, usize::MAX.into()), client);
            let deadlines = Deadlines::new(Instant::now());
            let (one, other) = (deadlines.slot(), deadlines.slot());
            let (a, b) = tokio::join!(server.handshake(&one), client.handshake(&other));
            a.and(b).unwrap();
            client.transport.1.set(room);
            let mut request = RequestWriter::new(&client, &other, None, b"POST / HTTP/1.1\r\n\r\n", Framing::Length(4));
            let failed = request.part(b"body").await.unwrap_err();
            assert_eq!((failed.error.kind(), failed.written > 0), (io::ErrorKind::BrokenPipe, sent), "{room}");
        }
    });
}

#[test]
fn a_slow_reader_is_seen_to_make_progress_record_by_record() {
    block_on(async {
        let (server, client, deadline) = pair(TLS13).await;
        socket2::SockRef::from(&server.transport).set_send_buffer_size(16 * 1024).unwrap();
        socket2::SockRef::from(&client.transport).set_recv_buffer_size(32 * 1024).unwrap();
        let data = vec![7; 256 * 1024];
        let write = async {
            let (mut written, mut least) = (0, MOST);
            while written < data.len() {
                match server.try_write(&[IoSlice::new(&data[written..])]) {
                    Ok(n) => {
                        written += n;
                        least = least.min(n);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        poll_fn(|cx| server.poll_write_ready(cx)).await.unwrap();
                    }
                }
            }
            least
        };
        let take = async {
            let mut taken = 0;
            while taken < data.len() {
                taken += receive(&client, &deadline).await.unwrap().len();
            }
        };
        let (least, ()) = tokio::join!(write, take);
        assert!(least <= RECORD, "{least}");
    });
}

#[test]
fn an_announced_end_is_an_end_and_another_is_an_error() {
    for versions in [TLS12, TLS13] {
        block_on(async {
            let (server, client, deadline) = pair(versions).await;
            send(&server, b"last", &deadline).await;
            server.shut_down_write().unwrap();
            assert_eq!(server.try_write(&[IoSlice::new(b"x")]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(receive(&client, &deadline).await.unwrap(), b"last");
            assert_eq!(peek(&client).await.unwrap(), 0);
            assert_eq!(receive(&client, &deadline).await.unwrap(), b"");
            // The other direction still works.
            send(&client, b"too", &deadline).await;
            assert_eq!(receive(&server, &deadline).await.unwrap(), b"too");
            drop(client);
            assert_eq!(receive(&server, &deadline).await.unwrap(), b"");

            let (server, client, deadline) = pair(versions).await;
            send(&server, b"part", &deadline).await;
            server.transport.shut_down_write().unwrap();
            assert_eq!(receive(&client, &deadline).await.unwrap(), b"part");
            assert_eq!(peek(&client).await.unwrap(), 0);
            assert_eq!(receive(&client, &deadline).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
    }
}

#[test]
fn a_drop_says_goodbye_and_a_reset_does_not() {
    block_on(async {
        let (server, client, deadline) = pair(TLS13).await;
        drop(server);
        assert_eq!(receive(&client, &deadline).await.unwrap(), b"");
        let (server, client, deadline) = pair(TLS13).await;
        server.reset_on_close();
        drop(server);
        assert_eq!(receive(&client, &deadline).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn key_updates_and_tickets_are_no_data() {
    block_on(async {
        let (server, client, deadline) = pair(TLS13).await;
        // The tickets come with the first answer.
        assert!(server.state.borrow().session.wants_write());
        send(&server, b"1", &deadline).await;
        assert!(!server.state.borrow().session.wants_write());
        assert_eq!(receive(&client, &deadline).await.unwrap(), b"1");
        client.state.borrow_mut().session.refresh_traffic_keys().unwrap();
        client.state.borrow_mut().flush(&client.transport).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            assert!(server.poll_peek(&mut cx).is_pending());
            tokio::task::yield_now().await;
        }
        send(&client, b"new keys", &deadline).await;
        assert_eq!(receive(&server, &deadline).await.unwrap(), b"new keys");
        send(&server, b"new keys, too", &deadline).await;
        assert_eq!(receive(&client, &deadline).await.unwrap(), b"new keys, too");
    });
}

#[test]
fn garbage_is_answered_with_an_alert() {
    block_on(async {
        let (server, client, deadline) = pair(TLS13).await;
        client.transport.try_write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(receive(&server, &deadline).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(peek(&server).await.is_err());
        assert!(server.try_write(&[IoSlice::new(b"x")]).is_err());
        // The client reads the alert.
        assert_eq!(receive(&client, &deadline).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn a_handshake_has_an_end() {
    block_on(async {
        let (accepted, connected) = sockets().await;
        let (server, _) = sessions(TLS13);
        let server = Tls::new(accepted, server);
        let deadlines = Deadlines::new(Instant::now());
        let deadline = deadlines.slot();
        deadline.arm(Duration::from_millis(60));
        let sweep = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            deadlines.sweep(Instant::now());
            std::future::pending::<()>().await;
        };
        let late = tokio::select! { late = server.handshake(&deadline) => late, () = sweep => Ok(()) };
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(server);
        let mut buf = [0; 16];
        connected.readable().await.unwrap();
        assert_eq!(TcpStream::try_read(&connected, &mut buf).unwrap(), 0, "no alert to someone who never spoke");

        let (accepted, connected) = sockets().await;
        let (server, _) = sessions(TLS13);
        let server = Tls::new(accepted, server);
        drop(connected);
        let gone = server.handshake(&deadlines.slot()).await;
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn an_unused_connection_to_a_server_is_quiet_until_something_comes() {
    use crate::upstream::Link;
    use crate::wire::transport::Socket;
    block_on(async {
        let (accepted, connected) = sockets().await;
        let (server, client) = sessions(TLS13);
        let server = Tls::new(accepted, server);
        let deadlines = Deadlines::new(Instant::now());
        let (one, other) = (deadlines.slot(), deadlines.slot());
        let client = Tls::new(Socket::Tcp(connected), client);
        let (shaken, ()) = tokio::join!(client.handshake(&one), async {
            server.handshake(&other).await.unwrap();
            send(&server, b"x", &other).await;
        });
        shaken.unwrap();
        let client = Link::Secure(Box::new(client));
        let mut buffer = Buffer::new(64);
        assert_eq!(read(&client, &mut buffer, &one).await.unwrap(), 1);
        assert!(client.is_quiet());
        server.shut_down_write().unwrap();
        while client.is_quiet() {
            tokio::task::yield_now().await;
        }
    });
}

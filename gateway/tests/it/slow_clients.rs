//! Clients that are slow and honest: nobody ends them, whatever the kernel's buffers hold.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::harness::{Authority, Client, Config, Gateway, Upstream, ok};
use crate::tls;

const LARGE: usize = 8 << 20;

/// A fifteenth of the default, for readers thirty times as fast as 2 KiB a second: no larger a part of a buffer in the same part of the patience.
pub(crate) const TOP: &str = "timeouts: {write: 4s}";

/// What a reader takes every tenth of a second, at that pace.
pub(crate) const STEP: usize = 6 << 10;

/// How long it is slow: several times the patience.
pub(crate) const SLOW: Duration = Duration::from_secs(13);

pub(crate) fn app() -> Upstream {
    let large = "x".repeat(LARGE);
    Upstream::answering(move |_| ok(&large))
}

fn over_tls(config: &Config) -> (Gateway, Arc<ClientConfig>) {
    let authority = Authority::new("Test");
    let issued = authority.issue(&["app.example"]);
    let files = [("cert.pem", &*issued.cert), ("key.pem", &*issued.key)];
    (tls::start(config, "{certificates: [{cert: cert.pem, key: key.pem}]}", &files), Arc::new(authority.client(None)))
}

/// Takes an answer slowly, and then its rest.
fn takes_it_all(mut client: Client, gateway: &Gateway) {
    client.send("GET /large HTTP/1.1\r\nHost: app.example\r\n\r\n");
    client.head();
    let (begun, mut taken, mut steps) = (Instant::now(), 0, 0);
    while begun.elapsed() < SLOW {
        client.exactly(STEP);
        taken += STEP;
        steps += 1;
        // At this pace altogether: that a sleep takes longer than it should must not add up.
        std::thread::sleep((Duration::from_millis(100) * steps).saturating_sub(begun.elapsed()));
    }
    assert!(taken < 1 << 20, "not slow: {taken}");
    client.exactly(LARGE - taken);
    assert_eq!(gateway.access("/large")["status"], 200);
}

#[test]
fn a_slow_reader_of_a_large_answer_gets_all_of_it() {
    let app = app();
    let gateway = Gateway::start(Config::before(&app).top(TOP));
    takes_it_all(Client::connect(gateway.address()), &gateway);
}

#[test]
fn a_slow_reader_with_a_small_buffer_gets_all_of_it() {
    let app = app();
    let gateway = Gateway::start(Config::before(&app).top(TOP));
    takes_it_all(Client::connect_narrow(gateway.address()), &gateway);
}

#[test]
fn a_slow_reader_over_tls_gets_all_of_it() {
    let app = app();
    let (gateway, config) = over_tls(&Config::before(&app).top(TOP));
    takes_it_all(Client::secure(gateway.address(), &config, "app.example"), &gateway);
}

#[test]
fn who_takes_nothing_over_tls_has_stalled() {
    let app = app();
    let (gateway, config) = over_tls(&Config::before(&app).top("timeouts: {write: 500ms}"));
    let mut client = Client::secure(gateway.address(), &config, "app.example");
    let begun = Instant::now();
    client.send("GET /stalled HTTP/1.1\r\nHost: app.example\r\n\r\n");
    assert_eq!(gateway.access("/stalled")["reason"], "client_stalled");
    assert!(begun.elapsed() >= Duration::from_millis(500));
}

/// Sends a body of one whole record, `step` bytes of the ciphertext every tenth of a second; how the answer begins.
fn upload(gateway: &Gateway, config: &Arc<ClientConfig>, step: usize) -> String {
    let name = ServerName::try_from("app.example").unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    let body = vec![b'x'; 16 << 10];
    stream
        .write_all(b"POST /up HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 16384\r\n\r\n")
        .unwrap();
    stream.flush().unwrap();
    stream.conn.writer().write_all(&body).unwrap();
    let mut record = Vec::new();
    stream.conn.write_tls(&mut record).unwrap();
    assert!(record.len() > body.len(), "one record");
    for piece in record.chunks(step) {
        if stream.sock.write_all(piece).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).map_or_else(|_| String::new(), |()| String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_record_that_comes_slowly_is_progress_and_one_that_comes_too_slowly_is_not() {
    let app = Upstream::answering(|request| ok(&request.body.len().to_string()));
    let (gateway, config) = over_tls(&Config::before(&app).top("timeouts: {body: 3s}\nbounds: {body_rate: 4000}"));
    assert_eq!(upload(&gateway, &config, 1000), "HTTP/1.1 200");
    upload(&gateway, &config, 100);
    let line = gateway.wait_for_log(|line| line["reason"] == "body_too_slow");
    assert_eq!((&line["status"], &line["target"]), (&408.into(), &"/up".into()));
}

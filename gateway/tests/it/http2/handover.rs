//! Hand-overs and reloads under load, over TLS, in HTTP/1 and in HTTP/2: no request fails.
//!
//! What a client may repeat is what RFC 9113 allows: streams above the last one that a GOAWAY names (§6.8), and streams that were refused (§8.7).

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{ClientConfig, StreamOwned};

use super::raw::{DATA, END_STREAM, GET, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame};
use crate::handover::{Ask, Load, ask, begin};
use crate::harness::{
    Authority, Config, Folder, Gate, Gateway, PATIENCE, Upstream, eventually, free_address, gated, get, shake,
};

type TlsStream = StreamOwned<rustls::ClientConnection, TcpStream>;

const REFUSED_STREAM: u32 = 7;

/// Settings of a client that offers one protocol.
fn offering(authority: &Authority, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut config = authority.client(None);
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> Result<TlsStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    shake(stream, config, "a.example")
}

/// A connection of HTTP/2 over TLS.
struct Http2 {
    raw: Raw<TlsStream>,
    next: u32,
    /// The last stream that the other side takes, once it has said so.
    last: Option<u32>,
}

impl Http2 {
    fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self> {
        let stream = connect(to, config)?;
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let mut raw = Raw::over(stream, &[]);
        raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes()));
        Ok(Self { raw, next: 1, last: None })
    }

    /// Begins so many requests; their streams.
    fn begin(&mut self, count: u32, path: &str) -> BTreeMap<u32, Vec<u8>> {
        let streams: BTreeMap<_, _> = (0..count).map(|number| (self.next + 2 * number, Vec::new())).collect();
        for stream in streams.keys() {
            // Where this finds nobody, reading tells.
            self.raw.ask(*stream, &[&GET[..3], &[(":path", path)]].concat());
        }
        self.next += 2 * count;
        streams
    }

    /// Waits for the answers; how many of the requests may be repeated because nobody has looked at them.
    fn finish(&mut self, mut waiting: BTreeMap<u32, Vec<u8>>) -> Result<u32> {
        let mut again = 0;
        loop {
            if let Some(last) = self.last {
                let before = waiting.len();
                waiting.retain(|stream, _| *stream <= last);
                again += u32::try_from(before - waiting.len()).unwrap();
            }
            if waiting.is_empty() {
                return Ok(again);
            }
            let got = self.raw.try_next().map_err(|error| Error::other(format!("{error}, waiting for {waiting:?}")))?;
            match got.kind {
                HEADERS if !got.is_ok() => return Err(Error::other(format!("{got:?}"))),
                DATA => waiting.get_mut(&got.stream).expect("an open stream").extend_from_slice(&got.payload),
                SETTINGS if got.flags == 0 => drop(self.raw.send(&frame(SETTINGS, 1, 0, &[]))),
                PING if got.flags == 0 => drop(self.raw.send(&frame(PING, 1, 0, &got.payload))),
                GOAWAY if got.code() == 0 => {
                    let last = u32::from_be_bytes(got.payload[..4].try_into().unwrap());
                    assert!(self.last.is_none_or(|before| before >= last), "it takes no more than it said before");
                    self.last = Some(last);
                }
                RST_STREAM if got.code() == REFUSED_STREAM => {
                    waiting.remove(&got.stream);
                    again += 1;
                }
                GOAWAY | RST_STREAM => return Err(Error::other(format!("{got:?}, waiting for {waiting:?}"))),
                _ => {}
            }
            if matches!(got.kind, HEADERS | DATA) && got.flags & END_STREAM != 0 {
                let body = waiting.remove(&got.stream).expect("an open stream");
                if body != b"quick" {
                    return Err(Error::other(format!("{:?}", String::from_utf8_lossy(&body))));
                }
            }
        }
    }
}

/// A client that has so many requests in flight, and keeps its connection until it is told to go, or not at all.
fn client(to: SocketAddr, config: Arc<ClientConfig>, at_once: u32, keeps: bool, repeated: Arc<AtomicUsize>) -> Ask {
    let mut kept: Option<Http2> = None;
    Box::new(move || {
        let mut left = at_once;
        while left > 0 {
            let mut connection = match kept.take().filter(|connection| connection.last.is_none()) {
                Some(connection) => connection,
                None => Http2::connect(to, &config)?,
            };
            let streams = connection.begin(left, "/quick");
            left = connection.finish(streams)?;
            repeated.fetch_add(usize::try_from(left).unwrap(), Ordering::SeqCst);
            kept = Some(connection).filter(|_| keeps);
        }
        Ok(())
    })
}

struct Place {
    app: Upstream,
    gate: Arc<Gate>,
    folder: Folder,
    authority: Authority,
    listener: SocketAddr,
    admin: SocketAddr,
}

impl Place {
    fn new() -> Self {
        let (gate, app) = gated("/slow", "quick");
        let (folder, authority) = (Folder::new(), Authority::new("Test"));
        let issued = authority.issue(&["a.example"]);
        folder.write("cert.pem", &issued.cert);
        folder.write("key.pem", &issued.key);
        Self { app, gate, folder, authority, listener: free_address(), admin: free_address() }
    }

    fn config(&self, workers: usize, top: &str) -> String {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let certificate = format!("{{cert: \"{}\", key: \"{}\"}}", file("cert.pem"), file("key.pem"));
        let listener = format!("  - address: \"{}\"\n    tls: {{certificates: [{certificate}]}}\n", self.listener);
        let config = Config::before(&self.app).workers(workers).top(top).to_string();
        let changed = config.replacen("  - address: \"127.0.0.1:0\"\n", &listener, 1);
        assert_ne!(config, changed);
        changed.replace("admin: {address: \"127.0.0.1:0\"}", &format!("admin: {{address: \"{}\"}}", self.admin))
    }

    /// HTTP/1 and HTTP/2, on new connections and on kept ones, and how many requests of HTTP/2 had to be repeated.
    fn load(&self) -> (Load, Arc<AtomicUsize>) {
        let (to, repeated) = (self.listener, Arc::<AtomicUsize>::default());
        let one = offering(&self.authority, b"http/1.1");
        let two = offering(&self.authority, b"h2");
        let mut clients = Vec::new();
        for keeps in [false, true] {
            let (one, mut kept) = (Arc::clone(&one), None);
            let http1: Ask = Box::new(move || ask(|| connect(to, &one), keeps, &mut kept));
            clients.push((format!("HTTP/1, keeps {keeps}"), http1));
            let http2 = client(to, Arc::clone(&two), if keeps { 10 } else { 3 }, keeps, Arc::clone(&repeated));
            clients.push((format!("HTTP/2, keeps {keeps}"), http2));
        }
        (Load::of(clients), repeated)
    }
}

#[test]
fn hand_overs_and_reloads_under_load_over_tls_fail_no_request() {
    let place = Place::new();
    let socket = place.folder.path().join("private/upgrade.sock");
    let mut first = Gateway::with(place.config(2, "")).arg("--upgrade-socket").arg(&socket).start();
    let (load, repeated) = place.load();
    load.wait_for(50);

    // Requests that the first process has to end while others run the place.
    let mut slow = Http2::connect(place.listener, &offering(&place.authority, b"h2")).unwrap();
    let streams = slow.begin(2, "/slow");
    eventually("the app has them", || {
        (place.app.targets().iter().filter(|target| *target == "/slow").count() == 2).then_some(())
    });
    let mut old = begin(&first, &place.config(1, ""), &socket);
    first.wait_for_log(|line| line["message"] == "draining");
    for workers in [3, 1, 2] {
        load.wait_for(50);
        old.wait_for_log(|line| line["message"] == "admin listener");
        std::fs::write(old.config_path(), place.config(workers, "# again")).unwrap();
        old.signal("HUP");
        old.wait_for_log(|line| line["message"] == "configuration reloaded");
        load.wait_for(50);
        let new = begin(&old, &place.config(workers, ""), &socket);
        assert_eq!(old.wait_exit().code(), Some(0));
        for protocol in ["HTTP/1.1", "HTTP/2.0"] {
            assert!(old.access_log().iter().any(|line| line["protocol"] == protocol), "{protocol} was served");
        }
        assert!(old.access_log().iter().all(|line| line["status"] == 200 && line["reason"].is_null()));
        old = new;
    }
    assert!(first.is_running(), "what ran there still runs");
    place.gate.open();
    assert_eq!(slow.finish(streams).unwrap(), 0);
    assert_eq!(first.wait_exit().code(), Some(0));
    load.wait_for(100);
    assert_eq!(load.end(), [""; 0]);
    assert_eq!(get(place.admin, "/readyz").status, 200);
    println!("{} requests were repeated", repeated.load(Ordering::SeqCst));
}

#[test]
fn reloads_and_connections_that_are_used_up_fail_no_request_over_tls() {
    let place = Place::new();
    let top = "bounds: {requests_per_connection: 25}";
    let gateway = Gateway::start(place.config(2, top));
    let (load, _) = place.load();
    for workers in [1, 3, 2] {
        load.wait_for(100);
        assert!(crate::lifecycle::reload(&gateway, &place.config(workers, top)));
    }
    load.wait_for(200);
    assert_eq!(load.end(), [""; 0]);
    assert!(gateway.access_log().iter().all(|line| line["status"] == 200 && line["reason"].is_null()));
}

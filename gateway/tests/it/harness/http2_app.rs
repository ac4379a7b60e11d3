//! Apps that speak HTTP/2: scripts on the server of the crate `h2`, and frames by hand for what it would not send.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::sync::oneshot;

use super::eventually;

type Script = dyn Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// An app in HTTP/2 with prior knowledge.
#[derive(Debug)]
pub(crate) struct Http2App {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    open: Mutex<BTreeSet<usize>>,
    connections: AtomicUsize,
}

/// A request as the app got it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: String,
    /// Scheme, authority and path.
    pub(crate) uri: String,
    /// Its fields.
    pub(crate) fields: Vec<(String, String)>,
    /// The body as far as it was read.
    pub(crate) body: Vec<u8>,
    /// The trailers, where any were read.
    pub(crate) trailers: Option<HeaderMap>,
    /// The gateway gave it up, with this code.
    pub(crate) reset: Option<h2::Reason>,
}

impl Seen {
    /// The value of the only field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.fields.iter().filter(|(known, _)| known == name).collect();
        assert!(values.len() <= 1, "{values:?}");
        values.first().map(|(_, value)| value.clone())
    }
}

/// A request to be answered.
pub(crate) struct Call {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// Its body.
    pub(crate) body: RecvStream,
    /// The way back.
    pub(crate) reply: SendResponse<Bytes>,
    shared: Arc<Shared>,
}

impl Call {
    /// What is known of it.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap()[self.number].clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.shared.seen.lock().unwrap()[self.number]);
    }

    /// Reads one part of the body.
    pub(crate) async fn part(&mut self) -> Option<Bytes> {
        let data = self.body.data().await?.ok()?;
        self.body.flow_control().release_capacity(data.len()).unwrap();
        self.note(|seen| seen.body.extend_from_slice(&data));
        Some(data)
    }

    /// Reads the body to its end.
    pub(crate) async fn read(&mut self) {
        while self.part().await.is_some() {}
        let trailers = self.body.trailers().await.unwrap_or_default();
        self.note(|seen| seen.trailers = trailers);
    }

    /// Begins an answer.
    pub(crate) fn start(&mut self, status: u16, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.reply.send_response(head(status, fields), false).unwrap()
    }

    /// Answers with a head and nothing else.
    pub(crate) fn head(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.reply.send_response(head(status, fields), true).unwrap();
    }

    /// Answers.
    pub(crate) async fn answer(&mut self, status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) {
        let mut stream = self.start(status, fields);
        send(&mut stream, body.into(), true).await;
    }

    /// Waits until the gateway gives the request up.
    pub(crate) async fn wait_reset(&mut self) {
        let reason = std::future::poll_fn(|cx| self.reply.poll_reset(cx)).await.unwrap();
        self.note(|seen| seen.reset = Some(reason));
    }
}

pub(crate) fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let response = Response::builder().status(status);
    fields.iter().fold(response, |response, (name, value)| response.header(*name, *value)).body(()).unwrap()
}

/// Sends as the window allows. `false`: the gateway does not take it.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0 {
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => continue,
                _ => return false,
            }
        }
        let part = data.split_to(stream.capacity().min(data.len()));
        if stream.send_data(part, false).is_err() {
            return false;
        }
    }
    !end || stream.send_data(Bytes::new(), true).is_ok()
}

impl Http2App {
    /// Runs `script` for every request.
    pub(crate) fn scripted<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::with(&Builder::new(), script)
    }

    /// The same with settings of its own.
    pub(crate) fn with<F: Future<Output = ()> + Send + 'static>(
        builder: &Builder,
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::listening(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), builder, script)
    }

    /// The same on a socket that listens already.
    pub(crate) fn listening<F: Future<Output = ()> + Send + 'static>(
        listener: TcpListener,
        builder: &Builder,
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(move |call| Box::pin(script(call)));
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (theirs, builder) = (Arc::clone(&shared), builder.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(serve(stream, builder.clone(), Arc::clone(&theirs), Arc::clone(&script)));
                    }
                };
                tokio::select! { () = accept => {}, _ = stopped => {} }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// As a configuration names it.
    pub(crate) fn server(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits for so many requests.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Seen> {
        eventually("so many requests", || Some(self.seen()).filter(|seen| seen.len() >= count))
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }
}

impl Drop for Http2App {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, builder: Builder, shared: Arc<Shared>, script: Arc<Script>) {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    shared.open.lock().unwrap().insert(number);
    stream.set_nodelay(true).unwrap();
    if let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await {
        while let Some(Ok((request, reply))) = connection.accept().await {
            let call = call(request, reply, &shared);
            tokio::spawn(script(call));
        }
    }
    shared.open.lock().unwrap().remove(&number);
}

fn call(request: Request<RecvStream>, reply: SendResponse<Bytes>, shared: &Arc<Shared>) -> Call {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen = Seen {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        fields: head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        ..Seen::default()
    };
    let mut all = shared.seen.lock().unwrap();
    all.push(seen);
    Call { number: all.len() - 1, body, reply, shared: Arc::clone(shared) }
}

/// A frame (RFC 9113 §4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Takes the preface of the gateway up to its PING, and answers it: from then on requests come. `settings` is the payload of the app's own.
pub(crate) fn preface(connection: &mut super::Connection, settings: &[u8]) -> Option<()> {
    assert_eq!(connection.exactly(24)?, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    connection.write(frame(4, 0, 0, settings));
    loop {
        let (kind, flags, _, payload) = next_frame(connection)?;
        if kind == 6 && flags == 0 {
            connection.write(frame(6, 1, 0, &payload));
            return Some(());
        }
    }
}

/// Kind, flags, stream and payload of the next frame. Settings are acknowledged.
pub(crate) fn next_frame(connection: &mut super::Connection) -> Option<(u8, u8, u32, Vec<u8>)> {
    let head = connection.exactly(9)?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let payload = connection.exactly(length)?;
    if head[3] == 4 && head[4] == 0 {
        connection.write(frame(4, 1, 0, &[]));
    }
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// Waits for the head of a request; its stream.
pub(crate) fn next_head(connection: &mut super::Connection) -> Option<u32> {
    loop {
        let (kind, _, stream, _) = next_frame(connection)?;
        if kind == 1 {
            return Some(stream);
        }
    }
}

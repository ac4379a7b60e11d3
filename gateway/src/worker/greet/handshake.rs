//! The handshake on a new connection where TLS is spoken, under its deadline and bounds, and what it tells about the client.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use probegate_policies::forwarded::Scheme;
use probegate_policies::reason::Reason;
use rustls::{CipherSuite, Connection, ProtocolVersion};

use crate::connection::{Facts, Judged, Secured};
use crate::request::finish::finish_unread;
use crate::state::Active;
use crate::tls::hello::{self, PLAIN_HTTP, UNRECOGNIZED_NAME, Unmet};
use crate::tls::server::Listener;
use crate::tls::{clients, name};
use crate::wire::deadline::Deadline;
use crate::wire::tls::{Pipe, Tls};
use crate::wire::transport::Transport;
use crate::worker::Worker;

/// How long a handshake may take once the listeners are closed.
const NEWCOMER: Duration = Duration::from_secs(1);

/// How many times 4 KiB are read of what a client has sent that was refused: more than a socket has room for by default.
const DRAINED: usize = 64;

/// Shakes hands. `None`: nothing came of it, which has been counted and logged. What ALPN chose is asked of the result by
/// [`speaks_http2`]. `active` is the plan that `listener` is of.
pub(super) async fn secure<T: Transport>(
    worker: &Worker,
    active: &Active,
    transport: T,
    mut facts: Facts,
    listener: &Arc<Listener>,
) -> Option<(Tls<T>, Facts)> {
    facts.scheme = Scheme::Https;
    let deadline = worker.deadlines.slot();
    worker.deadlines.observe(Instant::now());
    // Who has sent nothing yet can be ended to make room.
    deadline.arm_idle(active.plan.timeouts.handshake);
    let mut shaking = pin!(shake(worker, active, transport, listener, &deadline));
    let mut hurried = false;
    let shaken = poll_fn(|cx| {
        // The worker wakes its connections when the listeners are closed: nobody is waited for long then.
        if worker.state.is_closing() && !std::mem::replace(&mut hurried, true) {
            deadline.arm(NEWCOMER);
        }
        shaking.as_mut().poll(cx)
    })
    .await;
    match shaken {
        Ok((tls, secured)) => {
            facts.secured = Some(Rc::new(secured));
            Some((tls, facts))
        }
        Err(Nothing(None)) => None,
        Err(Nothing(Some((reason, first)))) => {
            finish_unread(worker, active, &facts, reason, &first, &worker.request_id(), 0);
            None
        }
    }
}

/// Whether ALPN chose HTTP/2.
pub(super) fn speaks_http2<T: Transport>(tls: &Tls<T>) -> bool {
    tls.with_session(|session| session.alpn_protocol() == Some(b"h2"))
}

/// A handshake that came to nothing: why, and the first bytes where they were a request; `None` when that is not worth a word.
#[derive(Debug)]
struct Nothing(Option<(Reason, Box<[u8]>)>);

impl From<Reason> for Nothing {
    fn from(reason: Reason) -> Self {
        Self(Some((reason, Box::default())))
    }
}

async fn shake<T: Transport>(
    worker: &Worker,
    active: &Active,
    transport: T,
    listener: &Arc<Listener>,
    deadline: &Deadline,
) -> Result<(Tls<T>, Secured), Nothing> {
    let shared = &worker.state.tls;
    let accepted = match hello::meet(&transport, deadline, active.plan.timeouts.handshake).await {
        Ok(accepted) => accepted,
        Err(Unmet::Silent) => return Err(Nothing(None)),
        Err(Unmet::Failed(reason)) => return Err(reason.into()),
        Err(Unmet::Plain(first)) => {
            say(&transport, PLAIN_HTTP);
            return Err(Nothing(Some((Reason::HandshakeFailed, first))));
        }
    };
    let Some(_place) = shared.enter(active.plan.bounds.handshakes) else {
        return Err(Reason::HandshakesExceeded.into());
    };
    let name = name::asked(&accepted.client_hello());
    let challenge = hello::challenge(&worker.state.acme.challenges, &accepted.client_hello());
    let is_challenge = challenge.is_some();
    let (config, clients) = match (challenge, listener.manner(&active.plan, name.as_deref())) {
        (Some(config), _) => (config, None),
        (None, Some(manner)) => (Arc::clone(&manner.config), manner.clients.clone()),
        (None, None) => {
            say(&transport, UNRECOGNIZED_NAME);
            return Err(Reason::ServerNameUnknown.into());
        }
    };
    let shown = listener.shown(name.as_deref(), accepted.client_hello().signature_schemes()).unwrap_or_default();
    let session = match accepted.into_connection(config) {
        Ok(session) => session,
        Err((error, mut alert)) => {
            tracing::debug!(%error, "handshake refused");
            alert.write_all(&mut Pipe(&transport)).ok();
            return Err(Reason::HandshakeFailed.into());
        }
    };
    let tls = Tls::new(transport, session);
    if let Err(error) = tls.handshake(deadline).await {
        tracing::debug!(%error, "handshake failed");
        let late = error.kind() == io::ErrorKind::TimedOut;
        return Err(if late { Reason::HandshakeTimeout } else { Reason::HandshakeFailed }.into());
    }
    if is_challenge {
        // The handshake was the answer (RFC 8737 §3).
        return Err(Nothing(None));
    }
    let certificate = tls.with_session(|session| {
        shared.count(session.protocol_version(), session.handshake_kind());
        let Some(clients) = clients else { return Ok((0, None)) };
        let chain = session.peer_certificates();
        Ok((clients.judge(chain)?, chain.and_then(clients::keep)))
    });
    match certificate {
        Ok((sets, certificate)) => {
            let judged = RefCell::new(Judged { by: Arc::downgrade(listener), sets, unmet: false });
            let (version, cipher) = tls.with_session(terms);
            Ok((tls, Secured { server_name: name, shown, version, cipher, certificate, judged }))
        }
        Err(error) => {
            // A session that was resumed with a certificate that is valid no more.
            let error: rustls::CertificateError = error;
            tracing::debug!(?error, "client certificate refused");
            Err(Reason::HandshakeFailed.into())
        }
    }
}

/// Says something in one piece, as far as the socket takes it, and the end.
fn say(transport: &impl Transport, words: &[u8]) {
    if transport.try_write(&[IoSlice::new(words)]).is_ok() {
        transport.shut_down_write().ok();
    }
    // What the other side has sent and nobody read would turn the close into a reset, and the words would be lost.
    // Bounded: somebody who sends as fast as we read is not listened to for ever.
    let mut rest = [0; 4096];
    for _ in 0..DRAINED {
        if !matches!(transport.try_read(&mut rest), Ok(n) if n > 0) {
            break;
        }
    }
}

/// What was agreed on, as it is logged: the names of IANA.
fn terms(session: &Connection) -> (&'static str, &'static str) {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let cipher = match session.negotiated_cipher_suite().map(|suite| suite.suite()) {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(suite) => suite.as_str().unwrap_or_default(),
        None => "",
    };
    (version, cipher)
}

//! What happens on a new connection before its first request: who sends it (the PROXY protocol), whether its client has too many already,
//! the TLS handshake, and then the protocol that it speaks.
//!
//! Invariant: whoever is refused here learns nothing of what is behind; the log and the metrics are told. A handshake that fails ends with the
//! alert that TLS has for it, and who speaks HTTP where TLS is spoken is answered in HTTP: both say what every port of the kind would say.

#![expect(
    clippy::redundant_allocation,
    reason = "connections count their plan without touching the counter that all threads share"
)]

mod handshake;
mod proxy_header;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use probegate_policies::proxy::Header;
use probegate_policies::reason::Reason;
use tokio::net::TcpStream;

use super::Worker;
use crate::clients::Counted;
use crate::connection::{self, Facts, Protocol};
use crate::plan::Listener;
use crate::request::finish::finish_unread;
use crate::state::Active;

/// How `active` configures the listener at `address`. `None`: it has no such listener.
pub(super) fn configured(active: &Active, address: SocketAddr) -> Option<&Listener> {
    active.plan.listeners.iter().find(|known| known.address == address)
}

/// Whether connections of this listener bring plain HTTP/1 and nothing before it.
pub(super) fn is_plain(listener: &Listener) -> bool {
    listener.tls.is_none() && listener.proxy.is_none() && !listener.http2
}

/// Serves a connection of a listener that [`is_plain`], to its end.
pub(super) async fn plain(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    listener: Rc<SocketAddr>,
    active: Rc<Arc<Active>>,
) {
    let Some(known) = configured(&active, *listener) else { return };
    let mut facts = Facts::plain(peer, local, listener);
    // Counts the connection for as long as it lasts.
    let Ok(_counted) = count(worker, known, &mut facts, false) else { return };
    drop(active);
    connection::serve(worker, stream, facts).await;
}

/// Serves a connection that was accepted on the listener configured as `listener`, to its end.
///
/// `active` has that listener, and says what comes before the first request, also where a reload has taken the listener away meanwhile: what
/// a listener demands is never left out.
pub(super) async fn greet(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    listener: Rc<SocketAddr>,
    active: Rc<Arc<Active>>,
) {
    let Some(known) = configured(&active, *listener) else { return };
    let mut facts = Facts::plain(peer, local, listener);
    // Counts the connection for as long as it lasts.
    let Ok(_counted) = admit(worker, &stream, known, &mut facts).await else { return };
    let (http2, tls) = (known.http2, known.tls.is_some());
    let Some(secured) = active.secured(*facts.listener).cloned() else {
        drop(active);
        if tls {
            return;
        }
        // Without TLS, the client's first bytes tell what it speaks.
        let protocol = if http2 { Protocol::Either } else { Protocol::Http1 };
        return Box::pin(connection::begin(worker, stream, facts, protocol)).await;
    };
    // In a box: what a handshake needs is given back before the first request.
    let shaken = Box::pin(handshake::secure(worker, &active, stream, facts, &secured)).await;
    drop((active, secured));
    if let Some((tls, facts)) = shaken {
        let protocol = if handshake::speaks_http2(&tls) { Protocol::Http2 } else { Protocol::Http1 };
        Box::pin(connection::begin(worker, tls, facts, protocol)).await;
    }
}

/// The connection was refused, or ended by itself; what there was to say has been said.
struct Left;

/// Finds out whose connection it is, and counts it. `None`: it is not bound.
async fn admit<'a>(
    worker: &'a Worker,
    stream: &TcpStream,
    listener: &Listener,
    facts: &mut Facts,
) -> Result<Option<Counted<'a>>, Left> {
    let mut is_sender = false;
    if let Some(proxy) = &listener.proxy {
        if !proxy.from.contains(facts.peer) {
            return Err(refused(worker, facts, Reason::ProxySenderUnknown));
        }
        match proxy_header::read(worker, stream, proxy.timeout).await {
            Ok(Some(header)) => {
                is_sender = header == Header::Own;
                facts.relayed(&header);
            }
            Ok(None) => return Err(Left),
            Err(reason) => return Err(refused(worker, facts, reason)),
        }
    }
    count(worker, listener, facts, is_sender)
}

fn refused(worker: &Worker, facts: &Facts, reason: Reason) -> Left {
    finish_unread(worker, &worker.active(), facts, reason, b"", &worker.request_id(), 0);
    Left
}

/// Counts a connection, now that it is known whose it is: `is_sender` where a PROXY sender speaks for itself. `None`: it is not bound.
fn count<'a>(
    worker: &'a Worker,
    listener: &Listener,
    facts: &mut Facts,
    is_sender: bool,
) -> Result<Option<Counted<'a>>, Left> {
    let active = worker.active();
    let plan = &active.plan;
    (facts.redirect_https, facts.probes_only) = (listener.redirect_https, listener.probes_only);
    facts.missing = listener.missing;
    // Behind proxies there are many clients, and each of them is bound by the limits on its requests.
    if is_sender || plan.client.trusts(facts.peer) {
        return Ok(None);
    }
    let counted = worker.state.clients.enter(facts.peer, plan.bounds.connections_per_client);
    facts.counted = counted.is_some();
    counted.map(Some).ok_or_else(|| refused(worker, facts, Reason::ConnectionsExceeded))
}

//! What happens on a new connection before its first request: who sends it (the PROXY protocol), whether its client has too many already,
//! the TLS handshake, and then the protocol that it speaks.
//!
//! Invariant: whoever is refused here is told nothing; the log and the metrics are.

mod handshake;
mod proxy_header;

use std::net::SocketAddr;
use std::rc::Rc;

use probegate_policies::reason::Reason;
use tokio::net::TcpStream;

use super::Worker;
use crate::clients::Counted;
use crate::connection::{self, Facts, Protocol};
use crate::request::finish::finish_unread;

/// Whether connections of this listener bring plain HTTP/1 and nothing before it.
pub(super) fn is_plain(worker: &Worker, listener: SocketAddr) -> bool {
    let active = worker.active();
    let listener = active.plan.listeners.iter().find(|known| known.address == listener);
    listener.is_none_or(|listener| listener.tls.is_none() && listener.proxy.is_none() && !listener.http2)
}

/// Serves a connection of a listener that [`is_plain`], to its end.
pub(super) async fn plain(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    listener: SocketAddr,
) {
    let mut facts = Facts::plain(peer, local);
    // Counts the connection for as long as it lasts.
    let Ok(_counted) = count(worker, listener, &mut facts) else { return };
    connection::serve(worker, stream, facts).await;
}

/// Serves a connection that was accepted on the listener configured as `listener`, to its end.
pub(super) async fn greet(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    listener: SocketAddr,
) {
    let mut facts = Facts::plain(peer, local);
    // Counts the connection for as long as it lasts.
    let Ok(_counted) = admit(worker, &stream, listener, &mut facts).await else { return };
    let active = worker.active();
    let Some(secured) = active.secured(listener) else {
        let http2 =
            active.plan.listeners.iter().find(|known| known.address == listener).is_some_and(|known| known.http2);
        drop(active);
        // Without TLS, the client's first bytes tell what it speaks.
        let protocol = if http2 { Protocol::Either } else { Protocol::Http1 };
        return Box::pin(connection::begin(worker, stream, facts, protocol)).await;
    };
    drop(active);
    // In a box: what a handshake needs is given back before the first request.
    if let Some((tls, facts)) = Box::pin(handshake::secure(worker, stream, facts, &secured)).await {
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
    listener: SocketAddr,
    facts: &mut Facts,
) -> Result<Option<Counted<'a>>, Left> {
    let active = worker.active();
    let known = active.plan.listeners.iter().find(|known| known.address == listener);
    if let Some(proxy) = known.and_then(|listener| listener.proxy.as_ref()) {
        if !proxy.from.contains(facts.peer) {
            return Err(refused(worker, facts, Reason::ProxySenderUnknown));
        }
        match proxy_header::read(worker, stream, proxy.timeout).await {
            Ok(Some(header)) => facts.relayed(&header),
            Ok(None) => return Err(Left),
            Err(reason) => return Err(refused(worker, facts, reason)),
        }
    }
    count(worker, listener, facts)
}

fn refused(worker: &Worker, facts: &Facts, reason: Reason) -> Left {
    finish_unread(worker, &worker.active(), facts, reason, b"", &worker.request_id(), 0);
    Left
}

/// Counts a connection, now that it is known whose it is. `None`: it is not bound.
fn count<'a>(worker: &'a Worker, listener: SocketAddr, facts: &mut Facts) -> Result<Option<Counted<'a>>, Left> {
    let active = worker.active();
    let plan = &active.plan;
    // A listener that a reload has taken away still brings what had arrived on it.
    let listener = plan.listeners.iter().find(|known| known.address == listener);
    facts.redirect_https = listener.and_then(|listener| listener.redirect_https);
    let proxy = listener.and_then(|listener| listener.proxy.as_ref());
    // Behind proxies there are many clients, and each of them is bound by the limits on its requests.
    if plan.client.trusts(facts.peer) || proxy.is_some_and(|proxy| proxy.from.contains(facts.peer)) {
        return Ok(None);
    }
    let counted = worker.state.clients.enter(facts.peer, plan.bounds.connections_per_client);
    counted.map(Some).ok_or_else(|| refused(worker, facts, Reason::ConnectionsExceeded))
}

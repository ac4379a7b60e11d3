//! The admin listener: metrics, the gateway's own health, and switches. It has a thread of its own, so that it answers while the workers are busy.

mod bans;
mod control;
mod guard;
mod limits;
mod query;
mod status;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub use self::guard::FIELD;
use crate::local::{self, Page, Request, Socket};
use crate::state::State;
use crate::wire::deadline::TICK;

/// Starts to answer.
///
/// # Errors
/// The system gives no thread or no event loop.
pub fn start(socket: Socket, state: Arc<State>) -> io::Result<()> {
    tracing::info!(address = %socket.address, "admin listener");
    let watched = Arc::clone(&state);
    let replaced = async move {
        while !watched.is_handed_over() {
            tokio::time::sleep(TICK).await;
        }
    };
    let address = socket.address;
    local::start("admin", socket, move |request| page(&state, address, request), replaced)
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn page(state: &Arc<State>, address: SocketAddr, request: &Request<'_>) -> Page {
    if let Some(page) = control::page(state, address, request) {
        return page;
    }
    let (status, content_type, body) = match (request.method, request.path) {
        (b"GET" | b"HEAD", b"/metrics") => {
            (200, "text/plain; version=0.0.4; charset=utf-8", state.metrics.render(state))
        }
        // Alive: this thread answers. Nothing else may make a supervisor kill the process.
        (b"GET" | b"HEAD", b"/healthz") => (200, JSON, b"{\"status\": \"ok\"}".to_vec()),
        (b"GET" | b"HEAD", b"/readyz") if state.is_ready() => (200, JSON, b"{\"status\": \"ready\"}".to_vec()),
        (b"GET" | b"HEAD", b"/readyz") => {
            let reason = if state.is_draining() { "draining" } else { "starting" };
            (503, JSON, format!("{{\"status\": \"not_ready\", \"reason\": \"{reason}\"}}").into_bytes())
        }
        (b"GET" | b"HEAD", _) => {
            (404, TEXT, b"not found: try /metrics, /healthz, /readyz, /services or /bans\n".to_vec())
        }
        _ => (405, TEXT, b"method not allowed\n".to_vec()),
    };
    Page { status, content_type, body }
}

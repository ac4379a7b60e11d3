//! What the tests stand on: the gateway as a process, an app that can be scripted, and clients that send any bytes.
//!
//! Everything listens on loopback and on ports that the kernel chooses; everything waits with a deadline and never for a fixed time.

mod browser;
mod client;
mod config;
mod dns;
mod extra;
mod folder;
mod gateway;
mod http2_app;
mod message;
mod metronome;
pub(crate) mod pebble;
mod redis;
mod tls;
mod tls_app;
mod upstream;
mod venv;

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub(crate) use browser::Browser;
pub(crate) use client::{Client, End, exchange, get, get_admin};
pub(crate) use config::Config;
pub(crate) use dns::{Dns, Says};
pub(crate) use extra::{
    APP_TOKEN, Ended, Program, TOKEN, accepts, curl, free_address, free_port, is_waited_on, listening_on, metric,
    metrics, probegate, root, run, wait_for_metric, wait_ready,
};
pub(crate) use folder::Folder;
pub(crate) use gateway::{Builder, Gateway};
pub(crate) use http2_app::{Call, Http2App, frame, head, next_frame, next_head, preface, send};
pub(crate) use message::{Request, Response};
pub(crate) use metronome::Metronome;
pub(crate) use redis::{Redis, Reply, Resp};
pub(crate) use tls::{Authority, Issued, Wish, shake};
pub(crate) use tls_app::app_config;
pub(crate) use upstream::{Connection, Unreachable, Upstream, ok};
pub(crate) use venv::venv;

/// How long anything may take before a test gives up. Generous: it only ever passes when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Looks until `look` has found something; panics with `what` when that takes too long.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Something a script waits for until the test says go.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Lets everybody through, now and later.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    /// Waits for [`Gate::open`].
    pub(crate) fn wait(&self) {
        let open = self.open.lock().unwrap();
        let (open, _) = self.opened.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
        assert!(*open, "the gate was never opened");
    }
}

/// An app that answers with this text: requests for `path` once the gate is open, others at once.
pub(crate) fn gated(path: &'static str, answer: &'static str) -> (Arc<Gate>, Upstream) {
    let gate = Arc::new(Gate::default());
    let theirs = Arc::clone(&gate);
    let app = Upstream::answering(move |request| {
        if request.target() == path {
            theirs.wait();
        }
        ok(answer)
    });
    (gate, app)
}

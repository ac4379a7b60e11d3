//! Names of servers and their addresses, as one worker knows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long addresses are used before the name is resolved again.
const TTL: Duration = Duration::from_secs(5);

/// How much longer they are used while that is being done. Older ones may belong to somebody else by now.
const STALE: Duration = Duration::from_secs(30);

/// How long a failure is remembered, so that not every request asks a resolver that fails.
const FAILED: Duration = Duration::from_secs(1);

/// The names of one worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// By the key of the server: one name may stand for several ports.
    known: Rc<RefCell<HashMap<u64, Known>>>,
}

/// What is known about a name.
#[derive(Debug, Default)]
struct Known {
    addresses: Option<Rc<[SocketAddr]>>,
    /// When they were learnt.
    learnt: Option<Instant>,
    failed: Option<(Instant, io::ErrorKind)>,
    /// The name is being resolved; told to those who wait when it is done. Never more than once at a time.
    pending: Option<Rc<Notify>>,
}

impl Names {
    /// The addresses of a server's name. They are resolved beside the requests, which wait only where nothing usable is known; a resolver
    /// that fails or hangs changes nothing for as long as the last answer may be used, and when it fails, after that.
    pub(super) async fn resolve(&self, key: u64, name: &str, port: u16) -> io::Result<Rc<[SocketAddr]>> {
        // Twice at the most: what the wait was for is known after it.
        for _ in 0..2 {
            let now = Instant::now();
            let pending = {
                let mut names = self.known.borrow_mut();
                let known = names.entry(key).or_default();
                let age = known.learnt.map(|learnt| now.saturating_duration_since(learnt));
                let failed = known.failed.filter(|(at, _)| now.saturating_duration_since(*at) < FAILED);
                if let (Some(addresses), Some(age)) = (&known.addresses, age)
                    && age < TTL
                {
                    return Ok(Rc::clone(addresses));
                }
                if let Some((_, kind)) = failed {
                    return Err(kind.into());
                }
                let pending = Rc::clone(known.pending.get_or_insert_with(|| self.refresh(key, name, port)));
                if let (Some(addresses), Some(age)) = (&known.addresses, age)
                    && age < TTL + STALE
                {
                    return Ok(Rc::clone(addresses));
                }
                pending
            };
            pending.notified().await;
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// Nobody could be reached at the addresses: they are resolved again before they are used the next time.
    pub(super) fn distrust(&self, key: u64) {
        if let Some(known) = self.known.borrow_mut().get_mut(&key) {
            known.learnt = None;
        }
    }

    /// Resolves beside the requests.
    fn refresh(&self, key: u64, name: &str, port: u16) -> Rc<Notify> {
        let done = Rc::new(Notify::new());
        let (names, name, told) = (self.clone(), name.to_owned(), Rc::clone(&done));
        tokio::task::spawn_local(async move {
            let found = lookup(&name, port).await;
            let now = Instant::now();
            let mut known = names.known.borrow_mut();
            let known = known.entry(key).or_default();
            known.pending = None;
            match found {
                Ok(addresses) => {
                    *known = Known { addresses: Some(addresses), learnt: Some(now), failed: None, pending: None };
                }
                Err(error) => {
                    tracing::warn!(name, %error, "cannot be resolved");
                    known.failed = Some((now, error.kind()));
                    // Where there is an older answer, it is used on.
                    known.learnt = known.addresses.as_ref().map(|_| now);
                }
            }
            told.notify_waiters();
        });
        done
    }
}

async fn lookup(name: &str, port: u16) -> io::Result<Rc<[SocketAddr]>> {
    let addresses: Rc<[SocketAddr]> = tokio::net::lookup_host((name, port)).await?.collect();
    if addresses.is_empty() { Err(io::ErrorKind::AddrNotAvailable.into()) } else { Ok(addresses) }
}

//! Connections in HTTP/2, each shared by many requests.
//!
//! A connection belongs to no request: it is made beside those that wait for it, at most one at a time for each server, and lives on when
//! they have gone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use probegate_policies::proxy;
use probegate_policies::reason::Reason;
use tokio::sync::Notify;

use super::Link;
use super::dial::{Dialler, Target, until};
use crate::plan::{Server, Upstream};
use crate::wire::deadline::Deadline;
use crate::wire::h2::session::{self, Driver, Session, Stream};

/// Connections in HTTP/2 to one server from one worker. With [`session::STREAMS`] requests on each, this is the most that a worker asks of
/// a server at a time; beyond it, [`Reason::UpstreamBusy`].
pub(super) const CONNECTIONS: usize = 64;

/// Whether a connection was made for the request that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// It is new.
    Yes,
    /// It was there before.
    No,
}

type Sites = Rc<RefCell<HashMap<u64, Site, ahash::RandomState>>>;

/// The connections of one worker.
#[derive(Debug)]
pub(super) struct Shared {
    dialler: Rc<Dialler>,
    sites: Sites,
}

/// What there is for one server.
#[derive(Debug, Default)]
struct Site {
    sessions: Vec<Kept>,
    opening: Option<Rc<Opening>>,
}

#[derive(Debug)]
struct Kept {
    session: Rc<Session>,
    /// Which answer of the resolver led to the server.
    edition: u32,
    /// How long it is kept without a request.
    patience: Duration,
    /// How many are kept without a request.
    most: usize,
}

/// A connection that is being made.
#[derive(Debug, Default)]
struct Opening {
    done: Notify,
    failed: Cell<Option<Reason>>,
    session: RefCell<Option<Rc<Session>>>,
}

/// A connection that has begun to be made. Those who wait for it are told however that ends.
struct Begun {
    sites: Sites,
    key: u64,
    told: Rc<Opening>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Ok(mut sites) = self.sites.try_borrow_mut()
            && let Some(site) = sites.get_mut(&self.key)
        {
            site.opening = None;
        }
        if self.told.failed.get().is_none() && self.told.session.borrow().is_none() {
            self.told.failed.set(Some(Reason::UpstreamClosed));
        }
        self.told.done.notify_waiters();
    }
}

impl Shared {
    pub(super) fn new(dialler: Rc<Dialler>) -> Self {
        Self { dialler, sites: Rc::default() }
    }

    /// A place on a connection to `server`; without `reuse`, on a new one.
    pub(super) async fn stream(
        &self,
        upstream: &Upstream,
        server: &Server,
        reuse: bool,
        deadline: &Deadline,
    ) -> Result<(Stream, Fresh), Reason> {
        let mut fresh = Fresh::No;
        loop {
            if (reuse || fresh == Fresh::Yes)
                && let Some(stream) = self.take(server.key)
            {
                return Ok((stream, fresh));
            }
            let opening = self.opening(upstream, server)?;
            until(opening.done.notified(), deadline).await.ok_or(Reason::UpstreamConnectTimeout)?;
            if let Some(failed) = opening.failed.get() {
                return Err(failed);
            }
            fresh = Fresh::Yes;
            // The one that was made, and not an older one that may be as stale as the last.
            let made = opening.session.borrow().clone().filter(|session| session.has_room());
            if let Some(session) = made {
                return Ok((session.stream(), fresh));
            }
        }
    }

    /// The only place on a connection that ends with the request.
    pub(super) async fn exclusive(
        &self,
        upstream: &Upstream,
        server: &Server,
        preamble: Option<&proxy::Header>,
        deadline: &Deadline,
    ) -> Result<Stream, Reason> {
        let target = self.dialler.target(upstream, server).ok_or(Reason::UpstreamTlsFailed)?;
        let (session, driver, _) = open(&self.dialler, &target, preamble, deadline).await?;
        tokio::task::spawn_local(run(driver, target.label));
        let session = Rc::new(session);
        session.retire();
        Ok(session.stream())
    }

    /// Closes connections that were unused for too long; forgets those that their server has ended, and those that do not lead to it any more: what is on
    /// them goes on.
    pub(super) fn sweep(&self, now: Instant) {
        self.sites.borrow_mut().retain(|key, site| {
            let mut idle = 0;
            site.sessions.retain(|kept| {
                let late = kept.session.idle_since().is_some_and(|since| {
                    idle += 1;
                    now >= since + kept.patience || idle > kept.most
                });
                let leads_elsewhere = !self.dialler.is_known(*key, kept.edition);
                if leads_elsewhere {
                    kept.session.retire();
                }
                !late && !leads_elsewhere && kept.session.is_usable()
            });
            !site.sessions.is_empty() || site.opening.is_some()
        });
    }

    /// A place on a connection that is there. The first with room: those that are not needed fall idle, and are closed.
    fn take(&self, key: u64) -> Option<Stream> {
        let sites = self.sites.borrow();
        let found = sites.get(&key)?.sessions.iter().find(|kept| kept.session.has_room())?;
        Some(Rc::clone(&found.session).stream())
    }

    /// The connection that is being made, which is begun if there is none, unless there are enough.
    fn opening(&self, upstream: &Upstream, server: &Server) -> Result<Rc<Opening>, Reason> {
        let mut sites = self.sites.borrow_mut();
        let site = sites.entry(server.key).or_default();
        if let Some(opening) = &site.opening {
            return Ok(Rc::clone(opening));
        }
        site.sessions.retain(|kept| kept.session.is_usable());
        if site.sessions.len() >= CONNECTIONS {
            return Err(Reason::UpstreamBusy);
        }
        let target = self.dialler.target(upstream, server).ok_or(Reason::UpstreamTlsFailed)?;
        let opening = Rc::new(Opening::default());
        site.opening = Some(Rc::clone(&opening));
        let dialler = Rc::clone(&self.dialler);
        let (timeout, patience, most) = (upstream.connect_timeout, upstream.idle_timeout, upstream.max_idle);
        let begun = Begun { sites: Rc::clone(&self.sites), key: server.key, told: Rc::clone(&opening) };
        tokio::task::spawn_local(async move {
            let opened = {
                let deadline = dialler.deadlines.slot();
                deadline.arm(timeout);
                open(&dialler, &target, None, &deadline).await
            };
            let driver = {
                let mut sites = begun.sites.borrow_mut();
                let site = sites.entry(target.key).or_default();
                let opened = opened.map(|(session, driver, edition)| {
                    let session = Rc::new(session);
                    *begun.told.session.borrow_mut() = Some(Rc::clone(&session));
                    site.sessions.push(Kept { session, edition, patience, most });
                    driver
                });
                begun.told.failed.set(opened.as_ref().err().copied());
                opened
            };
            // It holds the session, which must not outlive those that keep it.
            drop(begun);
            if let Ok(driver) = driver {
                run(driver, target.label).await;
            }
        });
        Ok(opening)
    }
}

/// Connects and begins HTTP/2.
async fn open(
    dialler: &Dialler,
    target: &Target,
    preamble: Option<&proxy::Header>,
    deadline: &Deadline,
) -> Result<(Session, Driver<Link>, u32), Reason> {
    let (link, edition) = dialler.open(target, preamble, deadline).await?;
    let opened = until(session::open(link), deadline).await.ok_or(Reason::UpstreamConnectTimeout)?;
    let opened = opened.map_err(|error| {
        tracing::debug!(server = &*target.label, %error, "does not speak HTTP/2");
        if error.is_io() { Reason::UpstreamClosed } else { Reason::UpstreamInvalid }
    });
    opened.map(|(session, driver)| (session, driver, edition))
}

/// Keeps a connection alive until it ends.
async fn run(driver: Driver<Link>, server: Box<str>) {
    if let Err(error) = driver.run().await {
        tracing::debug!(server = &*server, %error, "connection ended");
    }
}

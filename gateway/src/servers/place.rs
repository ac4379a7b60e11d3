//! A place at a server, for one request, and the line of those that wait for one.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use probegate_policies::ejection::Entry;
use tokio::sync::oneshot;

use super::{Servers, Wish, lock};

/// How often those who wait look themselves: for a server that is back, and for places that a plan before this one has given back.
const LOOK: Duration = Duration::from_millis(100);

/// A request's place at a server. It is given back when it is dropped, however the request ends.
#[derive(Debug)]
pub struct Place<'a> {
    /// `None`: given back.
    servers: Option<Held<'a>>,
    index: usize,
    /// The worker that has counted it.
    worker: Option<usize>,
    /// What its outcome can mean. `None`: it failed, and nothing more can be said.
    entry: Cell<Option<Entry>>,
}

#[derive(Debug)]
enum Held<'a> {
    Borrowed(&'a Arc<Servers>),
    Shared(Arc<Servers>),
}

impl Deref for Held<'_> {
    type Target = Arc<Servers>;

    fn deref(&self) -> &Arc<Servers> {
        match self {
            Self::Borrowed(servers) => servers,
            Self::Shared(servers) => servers,
        }
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(servers: &'a Arc<Servers>, index: usize, entry: Entry) -> Self {
        Self { servers: Some(Held::Borrowed(servers)), index, worker: None, entry: Cell::new(Some(entry)) }
    }

    fn shared(servers: Arc<Servers>, index: usize, entry: Entry) -> Place<'static> {
        Place { servers: Some(Held::Shared(servers)), index, worker: None, entry: Cell::new(Some(entry)) }
    }

    /// Index of the server in its upstream.
    pub fn server(&self) -> usize {
        self.index
    }

    /// The request is sent, by this worker, which will drop the place as well.
    pub fn sent(&mut self, worker: usize) {
        if self.worker.is_none()
            && let Some(servers) = &self.servers
            && let Some(site) = servers.sites.get(self.index)
        {
            site.state.count_sent(worker);
            self.worker = Some(worker);
        }
    }

    /// The server did not do its part. Counts once.
    pub fn failed(&self) {
        if let Some(servers) = &self.servers
            && let Some(entry) = self.entry.take()
        {
            servers.failed(self.index, entry);
        }
    }

    /// The server did its part so far. It may still fail.
    pub fn succeeded(&self) {
        // Most requests change nothing.
        if let Some(entry @ (Entry::Meanwhile(_) | Entry::Trial { .. })) = self.entry.get()
            && let Some(servers) = &self.servers
        {
            self.entry.set(Some(servers.succeeded(self.index, entry)));
        }
    }

    /// Nobody will find out anything by it.
    fn release(&self, servers: &Servers) {
        if let Some(entry @ Entry::Trial { .. }) = self.entry.take()
            && let Some(site) = servers.sites.get(self.index)
        {
            site.state.left(entry, servers.now());
        }
    }

    /// The same place, for what outlives the request (a tunnel).
    pub fn keep(mut self) -> Place<'static> {
        let servers = self.servers.take().map(|held| Held::Shared(Arc::clone(&held)));
        Place { servers, index: self.index, worker: self.worker, entry: Cell::new(self.entry.take()) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(servers) = self.servers.take() else { return };
        if let Some(site) = servers.sites.get(self.index)
            && let Some(worker) = self.worker
        {
            site.state.count_ended(worker);
        }
        self.release(&servers);
        servers.leave(self.index);
    }
}

/// Those who wait, first come first.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiters: VecDeque<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    wish: Wish,
    tell: oneshot::Sender<Place<'static>>,
}

/// A request that waits. Dropped, it leaves the line, and gives back what it may just have got.
#[derive(Debug)]
pub struct Waiting {
    servers: Arc<Servers>,
    number: u64,
    told: oneshot::Receiver<Place<'static>>,
}

impl Waiting {
    /// As when its request goes, but for the line.
    #[cfg(test)]
    pub(super) fn close(&mut self) {
        self.told.close();
    }

    /// Waits for a place.
    pub async fn place(&mut self) -> Place<'static> {
        loop {
            match tokio::time::timeout(LOOK, &mut self.told).await {
                Ok(Ok(place)) => return place,
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => self.servers.look(),
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = lock(&self.servers.line);
        if let Some(at) = line.waiters.iter().position(|waiter| waiter.number == self.number) {
            line.waiters.remove(at);
        }
        self.servers.waiting.store(line.waiters.len(), Ordering::SeqCst);
        // Behind this, the lock is free, and `told` gives back a place that came too late.
    }
}

impl Line {
    /// How many wait for servers of this slot, or for any where there are none.
    pub(super) fn ahead(&self, slot: Option<u8>) -> usize {
        if slot.is_none() {
            return self.waiters.len();
        }
        self.waiters.iter().filter(|waiter| waiter.wish.slot == slot).count()
    }

    /// Puts a request at the end of the line.
    pub(super) fn join(&mut self, servers: &Arc<Servers>, wish: Wish) -> Waiting {
        let (tell, told) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.waiters.push_back(Waiter { number, wish, tell });
        servers.waiting.store(self.waiters.len(), Ordering::SeqCst);
        Waiting { servers: Arc::clone(servers), number, told }
    }

    /// Gives away what places there are.
    pub(super) fn serve(&mut self, servers: &Arc<Servers>, now: Duration) {
        let mut at = 0;
        while let Some(waiter) = self.waiters.get(at) {
            let Ok((index, entry)) = servers.find(&waiter.wish, now) else {
                if waiter.wish.tried == 0 {
                    // Whoever stands behind finds no more than this one.
                    break;
                }
                at += 1;
                continue;
            };
            let Some(waiter) = self.waiters.remove(at) else { break };
            if let Err(mut place) = waiter.tell.send(Place::shared(Arc::clone(servers), index, entry)) {
                // It has gone. Its place is not given back the usual way, which would lock the line that is locked.
                place.release(servers);
                place.servers = None;
                servers.count_out(index);
            }
        }
        servers.waiting.store(self.waiters.len(), Ordering::SeqCst);
    }
}

//! A worker's connection to the store, and the task that keeps it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout, timeout_at};

use super::client::{Client, Failed, Failure};
use super::{Store, TRIALS};

/// What connecting may take: the name, the socket, TLS, the password.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// Before connecting for the second time.
const FIRST: Duration = Duration::from_millis(100);

/// Connections in a row that broke before anybody could use them, until the next attempt waits.
const SHORT: u32 = 4;

/// Calls in a row without an answer, until the connection is made anew.
const SILENT: u32 = 5;

/// Between two attempts to connect at the longest. Each takes between a half of it and the whole, so that not all workers of all gateways come at once.
const LONGEST: Duration = Duration::from_secs(2);

/// What a trial charges its bucket with: it asks for nothing, so that it is never refused, and writes.
const TRIED: [u64; 6] = [0, 1, 1_000_000, 1_000_000, 0, 0];

/// How often it is looked whether a trial is due.
const LOOK: Duration = Duration::from_millis(50);

/// A worker's connection to a store.
pub struct Link {
    store: Arc<Store>,
    client: RefCell<Option<Rc<Counted>>>,
    /// The first attempt to connect is over, whatever became of it. Requests wait for it, but for none after it.
    tried: Cell<bool>,
    first: Notify,
    /// The connection has to be made anew.
    broken: Notify,
}

/// A connection that counts among those of all workers for as long as it lives.
struct Counted {
    client: Box<dyn Client>,
    store: Arc<Store>,
    /// Calls in a row that nobody has answered in time, and when the first of them began.
    silent: Cell<Option<(u32, Instant)>>,
}

impl Counted {
    fn new(client: Box<dyn Client>, store: &Arc<Store>) -> Self {
        store.connected.fetch_add(1, Ordering::Relaxed);
        Self { client, store: Arc::clone(store), silent: Cell::default() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.store.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::ops::Deref for Counted {
    type Target = dyn Client;

    fn deref(&self) -> &Self::Target {
        &*self.client
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("connected", &self.client.borrow().is_some()).finish_non_exhaustive()
    }
}

impl Link {
    /// A link to a store, which connects at once. It ends when it is dropped.
    pub fn new(store: Arc<Store>) -> Rc<Self> {
        let link = Rc::new(Self {
            store,
            client: RefCell::default(),
            tried: Cell::default(),
            first: Notify::new(),
            broken: Notify::new(),
        });
        spawn_local(keep(Rc::downgrade(&link)));
        link
    }

    /// The store it leads to.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Runs the script, within the deadline of the store's plan.
    ///
    /// # Errors
    /// The store does not answer, or not in time; it has been counted. Nobody is asked while the breaker is open.
    pub async fn ask(&self, keys: &[Vec<u8>], arguments: &[u64]) -> Result<Vec<i64>, Failure> {
        let began = Instant::now();
        let deadline = (began + self.store.plan.timeout).into();
        if !self.tried.get() {
            timeout_at(deadline, self.first.notified()).await.ok();
        }
        // Whoever keeps the link says when the store can not be reached, so that not every request does.
        let client = self.client.borrow().clone().ok_or(Failure::Unreachable)?;
        let mut running = client.run(keys, arguments);
        let mut answer = timeout_at(deadline, running.as_mut()).await;
        if answer.is_err() {
            // It may be this worker that is late. What has arrived meanwhile is looked at before the store is blamed.
            yield_now().await;
            answer = timeout(Duration::ZERO, running).await;
        }
        let silent = client.silent.get().map_or((1, began), |(calls, since)| (calls.saturating_add(1), since));
        client.silent.set(answer.is_err().then_some(silent));
        match answer {
            Ok(Ok(answer)) => {
                self.store.succeeded(began.elapsed());
                Ok(answer)
            }
            Ok(Err(failed)) => {
                if failed.kind == Failure::Broken && !client.mends() {
                    self.break_off(&client);
                }
                if failed.kind == Failure::Broken && !client.is_open() {
                    self.store.lost(&failed);
                } else {
                    // The server's own word, such as that it only reads, is one about the store, however many others are connected to it.
                    self.store.failed(&failed);
                }
                Err(failed.kind)
            }
            Err(_) => {
                // As many at the same time are one silence.
                let is_dead = silent.0 >= SILENT && silent.1.elapsed() >= self.store.plan.timeout * SILENT;
                if is_dead && !client.mends() {
                    // Something between here and the store may have forgotten this connection alone: nobody else would notice.
                    self.break_off(&client);
                }
                let text = format!("no answer within {} ms", self.store.plan.timeout.as_millis());
                self.store.failed(&Failed { kind: Failure::Timeout, text });
                Err(Failure::Timeout)
            }
        }
    }

    /// Gives a connection up, unless there is a new one already.
    fn break_off(&self, client: &Rc<Counted>) {
        let mut current = self.client.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, client)) {
            *current = None;
            self.broken.notify_one();
        }
    }

    /// Tries whether the store is back, with a bucket that nobody is counted in.
    async fn attempt(&self) {
        let Some(client) = self.client.borrow().clone() else {
            self.store.tried(false);
            return;
        };
        let key = [format!("{}:{{trial}}", self.store.plan.prefix).into_bytes()];
        let mut failure = Some(Failure::Timeout);
        for _ in 0..TRIALS {
            let began = Instant::now();
            // It writes: a server that only reads is of no use.
            failure = match timeout(self.store.trial(), client.run(&key, &TRIED)).await {
                Ok(Ok(_)) if began.elapsed() <= self.store.plan.timeout => None,
                // It is there, and no request would have waited for it: so much for this time, unless it was this worker that was late.
                Ok(Ok(_)) => Some(Failure::Timeout),
                Ok(Err(failed)) => {
                    self.break_off(&client);
                    Some(failed.kind)
                }
                Err(_) => {
                    // Silent, or not the right one any more: the next trial is made on another connection.
                    self.break_off(&client);
                    Some(Failure::Timeout)
                }
            };
            if failure != Some(Failure::Timeout) || self.client.borrow().is_none() {
                break;
            }
        }
        if let Some(kind) = failure {
            self.store.stats.failed(kind);
        }
        self.store.tried(failure.is_none());
    }
}

/// Connects, tries when it is due, and connects again, for as long as somebody has the link.
async fn keep(link: Weak<Link>) {
    let (mut pause, mut short) = (FIRST, 0_u32);
    loop {
        let Some(this) = link.upgrade() else { return };
        let store = Arc::clone(&this.store);
        drop(this);
        // As of now: another worker may find the store to be back while this one waits for a connection that will never be.
        let was_asked = store.is_asked();
        let connected = timeout(CONNECT, store.connect()).await;
        let Some(this) = link.upgrade() else { return };
        let connected = connected.unwrap_or_else(|_| {
            let text = format!("not connected within {} s", CONNECT.as_secs());
            Err(Failed { kind: Failure::Unreachable, text })
        });
        let is_connected = connected.is_ok();
        match connected {
            Ok(client) => {
                *this.client.borrow_mut() = Some(Rc::new(Counted::new(client, &this.store)));
                if short == 0 {
                    pause = FIRST;
                }
            }
            Err(failed) => this.store.unconnected(&failed),
        }
        this.tried.set(true);
        this.first.notify_waiters();
        drop(this);
        let began = Instant::now();
        if is_connected && !watch(&link).await {
            return;
        }
        short = if is_connected && began.elapsed() < FIRST { short + 1 } else { 0 };
        // A server that takes connections and closes them at once, again and again, is as good as gone.
        if !is_connected || short > SHORT {
            rest(&store, was_asked, pause / 2 + (pause / 2).mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

/// Waits for so long, or until another worker has found the store to be back: from then on its requests are counted there, and those of this one not yet.
/// `was_asked`: whether it counted as asked when this one began to connect.
async fn rest(store: &Store, was_asked: bool, pause: Duration) {
    let (began, mut was_asked) = (Instant::now(), was_asked);
    loop {
        let left = pause.saturating_sub(began.elapsed());
        let is_back = !was_asked && store.is_asked();
        if left.is_zero() || is_back {
            return;
        }
        was_asked = store.is_asked();
        sleep(left.min(LOOK)).await;
    }
}

/// Returns when the connection is to be made anew; `false` when nobody has the link any more.
async fn watch(link: &Weak<Link>) -> bool {
    loop {
        let Some(this) = link.upgrade() else { return false };
        let is_open = this.client.borrow().as_ref().is_some_and(|client| client.is_open());
        if !is_open {
            // Not only whoever asks finds out that the other side has closed it.
            *this.client.borrow_mut() = None;
            return true;
        }
        if this.store.is_due() {
            this.attempt().await;
            continue;
        }
        // Without holding on to the link for longer than a look.
        timeout(LOOK, this.broken.notified()).await.ok();
    }
}

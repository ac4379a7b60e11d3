//! A worker's connection to the store, and the task that keeps it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout, timeout_at};

use super::client::{Client, Failed, Failure};
use super::{Store, TRIAL, redis};

/// What connecting may take: the name, the socket, TLS, the password.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// Before connecting for the second time.
const FIRST: Duration = Duration::from_millis(100);

/// Between two attempts to connect at the longest. Each takes between a half of it and the whole, so that not all workers of all gateways come at once.
const LONGEST: Duration = Duration::from_secs(2);

/// How often it is looked whether a trial is due.
const LOOK: Duration = Duration::from_millis(50);

/// A worker's connection to a store.
pub struct Link {
    store: Arc<Store>,
    client: RefCell<Option<Rc<dyn Client>>>,
    /// The first attempt to connect is over, whatever became of it. Requests wait for it, but for none after it.
    tried: Cell<bool>,
    first: Notify,
    /// The connection has to be made anew.
    broken: Notify,
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
        match answer {
            Ok(Ok(answer)) => {
                self.store.succeeded(began.elapsed());
                Ok(answer)
            }
            Ok(Err(failed)) => {
                if failed.kind == Failure::Broken && !client.mends() {
                    self.break_off(&client);
                }
                self.store.failed(&failed);
                Err(failed.kind)
            }
            Err(_) => {
                let text = format!("no answer within {} ms", self.store.plan.timeout.as_millis());
                self.store.failed(&Failed { kind: Failure::Timeout, text });
                Err(Failure::Timeout)
            }
        }
    }

    /// Gives a connection up, unless there is a new one already.
    fn break_off(&self, client: &Rc<dyn Client>) {
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
        // It writes: a server that only reads is of no use.
        let answer = timeout(TRIAL, client.run(&key, &[1, 1_000_000, 0])).await;
        let failure = match answer {
            Ok(Ok(_)) => None,
            Ok(Err(failed)) => Some(failed.kind),
            Err(_) => Some(Failure::Timeout),
        };
        if let Some(kind) = failure {
            self.store.stats.failed(kind);
            // Silent, or not the right one any more: the next trial is made on another connection.
            self.break_off(&client);
        }
        self.store.tried(failure.is_none());
    }
}

/// Connects, tries when it is due, and connects again, for as long as somebody has the link.
async fn keep(link: Weak<Link>) {
    let mut pause = FIRST;
    loop {
        let Some(this) = link.upgrade() else { return };
        let store = Arc::clone(&this.store);
        drop(this);
        let connected = timeout(CONNECT, redis::connect(&store.plan, store.tls.as_ref(), &store.script)).await;
        let Some(this) = link.upgrade() else { return };
        let connected = connected.unwrap_or_else(|_| {
            let text = format!("not connected within {} s", CONNECT.as_secs());
            Err(Failed { kind: Failure::Unreachable, text })
        });
        let is_connected = connected.is_ok();
        match connected {
            Ok(client) => {
                *this.client.borrow_mut() = Some(client.into());
                pause = FIRST;
            }
            Err(failed) => this.store.failed(&failed),
        }
        this.tried.set(true);
        this.first.notify_waiters();
        drop(this);
        if is_connected {
            if !watch(&link).await {
                return;
            }
        } else {
            sleep(pause / 2 + (pause / 2).mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(LONGEST);
        }
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

//! Certificates by ACME (RFC 8555): ordered, renewed and kept, on a thread of their own. No start and no request waits for it.
//!
//! `schedule` says when, `order` sees one order through, `keeper` is the life of one certificate, `storage` what survives a restart. Workers
//! see the answers to challenges ([`challenges`]) and, in the store of TLS, the certificates.

mod account;
pub mod challenges;
mod client;
mod failure;
mod issued;
mod keeper;
mod order;
pub mod schedule;
mod storage;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use self::account::Authority;
use self::challenges::Challenges;
use self::issued::Issued;
use self::keeper::Keeper;
use self::storage::Folder;
use crate::plan::{self, Certificate, Plan};
use crate::state::{State, unix_time};
use crate::tls::store::Id;

/// How soon it is looked again whether a storage can be used that could not.
const AGAIN: Duration = Duration::from_secs(60);

/// What the rest of the gateway sees of ACME.
#[derive(Debug, Default)]
pub struct Acme {
    /// Answers to challenges.
    pub challenges: Arc<Challenges>,
    /// Orders that ended with a certificate.
    pub issued: AtomicU64,
    /// Orders that did not, and attempts that did not come as far as an order.
    pub failed: AtomicU64,
    /// When the last one failed, in seconds since the epoch; 0: none has.
    pub last_failure: AtomicU64,
    /// Certificates whose last attempt failed.
    pub failing: AtomicU64,
    changed: Notify,
    started: AtomicBool,
}

/// Whether the last attempt for one certificate failed, counted in [`Acme::failing`] until this is dropped.
#[derive(Debug)]
struct Failing {
    state: Arc<State>,
    is: bool,
}

impl Failing {
    fn set(&mut self, is: bool) {
        let failing = &self.state.acme.failing;
        match (self.is, is) {
            (false, true) => _ = failing.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = failing.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        self.is = is;
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Follows the plan in force; to be called whenever that has changed. The thread is started when a plan first orders certificates.
pub fn follow(state: &Arc<State>) {
    let acme = &state.acme;
    if acme.started.load(Ordering::Acquire) {
        acme.changed.notify_one();
        return;
    }
    if ordered(&state.active().plan).is_empty() || acme.started.swap(true, Ordering::AcqRel) {
        return;
    }
    let theirs = Arc::clone(state);
    let started = std::thread::Builder::new().name("acme".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => LocalSet::new().block_on(&runtime, supervise(theirs)),
            Err(error) => tracing::error!(%error, "no certificates are ordered"),
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "no certificates are ordered");
    }
}

/// Shows what is stored for `plan`, which is about to be in force, and is not shown yet. Whatever is wrong with the storage is said by the
/// thread that orders.
pub fn load(state: &State, plan: &Plan) {
    for acme in ordered(plan) {
        if state.tls.store.find(&Id::of(&Certificate::Acme(acme.clone()))).is_some() {
            continue;
        }
        let Ok(folder) = Folder::open(&plan.storage, &acme.directory) else { continue };
        if let Some(issued) = keeper::find(&folder, &acme.domains, unix_time(), true) {
            show(state, plan, acme, &issued);
        }
    }
}

/// A certificate that is kept.
struct Kept {
    key: Key,
    acme: Rc<RefCell<plan::Acme>>,
    authority: Rc<Authority>,
    task: JoinHandle<()>,
}

/// What makes two certificates the same one, whatever else is changed about them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    storage: PathBuf,
    directory: Box<str>,
    ca: Option<PathBuf>,
    domains: Vec<Box<str>>,
}

/// Keeps what the plan in force orders.
async fn supervise(state: Arc<State>) {
    let mut kept: Vec<Kept> = Vec::new();
    loop {
        let active = state.active();
        let wanted: Vec<_> = ordered(&active.plan).into_iter().map(|acme| (key(&active.plan, acme), acme)).collect();
        kept.retain(|one| {
            let stays = wanted.iter().any(|(key, _)| *key == one.key) && !one.task.is_finished();
            if !stays {
                one.task.abort();
            }
            stays
        });
        for (key, acme) in &wanted {
            if let Some(one) = kept.iter().find(|one| one.key == *key) {
                if *one.acme.borrow() != **acme {
                    *one.acme.borrow_mut() = (*acme).clone();
                }
                continue;
            }
            let shared = kept.iter().find(|one| one.key.is_from_the_same(key));
            let authority = match shared {
                Some(one) => Ok(Rc::clone(&one.authority)),
                None => Authority::open(&key.storage, &key.directory, key.ca.as_deref()).map(Rc::new),
            };
            match authority {
                Ok(authority) => {
                    tracing::info!(domains = ?key.domains, folder = %authority.folder.path().display(), "certificate kept by ACME");
                    let acme = Rc::new(RefCell::new((*acme).clone()));
                    let keeper = Keeper::new(Arc::clone(&state), Rc::clone(&acme), Rc::clone(&authority));
                    kept.push(Kept { key: key.clone(), acme, authority, task: spawn_local(keeper.keep()) });
                }
                Err(error) => tracing::error!(
                    domains = ?key.domains, %error, advice = "the folder `storage` must be writable for this process",
                    "nothing is ordered: a certificate could not be kept"
                ),
            }
        }
        for one in &kept {
            let same = wanted.iter().filter(|(key, _)| key.is_from_the_same(&one.key));
            one.authority.set_contacts(&same.filter_map(|(_, acme)| acme.email.as_deref()).collect::<Vec<_>>());
        }
        drop(wanted);
        drop(active);
        tokio::select! {
            () = state.acme.changed.notified() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

impl Key {
    fn is_from_the_same(&self, other: &Self) -> bool {
        (&self.storage, &self.directory, &self.ca) == (&other.storage, &other.directory, &other.ca)
    }
}

fn key(plan: &Plan, acme: &plan::Acme) -> Key {
    let mut domains = acme.domains.clone();
    domains.sort_unstable();
    Key { storage: plan.storage.clone(), directory: acme.directory.clone(), ca: acme.ca.clone(), domains }
}

/// What a plan orders; the same certificate on several listeners once.
fn ordered(plan: &Plan) -> Vec<&plan::Acme> {
    let mut found: Vec<&plan::Acme> = Vec::new();
    for certificate in certificates(plan) {
        if let Certificate::Acme(acme) = certificate
            && !found.iter().any(|known| key(plan, known) == key(plan, acme))
        {
            found.push(acme);
        }
    }
    found
}

/// Puts a certificate before clients, wherever `plan` names it.
fn show(state: &State, plan: &Plan, acme: &plan::Acme, issued: &Issued) {
    for certificate in certificates(plan) {
        if let Certificate::Acme(named) = certificate
            && key(plan, named) == key(plan, acme)
        {
            state.tls.store.install(&Id::of(certificate), issued.certified.clone());
        }
    }
}

/// Certificates of all listeners.
fn certificates(plan: &Plan) -> impl Iterator<Item = &Certificate> {
    plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()).flat_map(|tls| &tls.certificates)
}

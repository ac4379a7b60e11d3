//! An authority: its folder, the way to it, and the account that orders there.
//!
//! The account is made once and kept. The authority is asked for it only when something is to be ordered: a start with certificates that
//! are in order speaks to nobody.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore};

use super::client::Https;
use super::failure::Failure;
use super::schedule;
use super::storage::{Folder, StorageFailed};
use crate::durable::Lock;
use crate::state::unix_time;

/// The file of the account.
const FILE: &str = "account.json";

/// When orders were placed, over all certificates: a list of seconds since the epoch.
const ORDERS: &str = "orders.json";

/// The lock of both.
const LOCK: &str = "authority";

/// Orders at a time.
const AT_A_TIME: usize = 4;

/// How often a lock that another process holds is tried again.
const LOOK: Duration = Duration::from_millis(100);

/// How long it is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// One authority, shared by the certificates that come from it.
#[derive(Debug)]
pub(super) struct Authority {
    directory: Box<str>,
    ca: Option<PathBuf>,
    /// Its folder.
    pub(super) folder: Folder,
    /// Whom it writes to: all addresses that its certificates name, sorted.
    contacts: RefCell<Vec<String>>,
    link: Mutex<Option<Link>>,
    /// Orders in flight.
    pub(super) places: Semaphore,
}

/// The way to the authority, and who we are there.
#[derive(Clone)]
pub(super) struct Link {
    /// The account.
    pub(super) account: Account,
    /// Knows what `Retry-After` said.
    pub(super) https: Https,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("account", &self.account.id()).finish_non_exhaustive()
    }
}

/// The account as it is stored.
#[derive(Deserialize, Serialize)]
struct Stored {
    contacts: Vec<String>,
    credentials: AccountCredentials,
}

impl Authority {
    /// The authority with this directory URL, with its folder below `storage`.
    ///
    /// # Errors
    /// The folder can not be used.
    pub(super) fn open(storage: &Path, directory: &str, ca: Option<&Path>) -> Result<Self, StorageFailed> {
        Ok(Self {
            directory: directory.into(),
            ca: ca.map(Path::to_owned),
            folder: Folder::open(storage, directory)?,
            contacts: RefCell::default(),
            link: Mutex::default(),
            places: Semaphore::new(AT_A_TIME),
        })
    }

    /// Whom the authority shall write to; takes effect with the next order.
    pub(super) fn set_contacts(&self, emails: &[&str]) {
        let mut contacts: Vec<_> = emails.iter().map(|email| format!("mailto:{email}")).collect();
        contacts.sort_unstable();
        contacts.dedup();
        *self.contacts.borrow_mut() = contacts;
    }

    /// The account, from memory, from its file, or made now.
    ///
    /// # Errors
    /// There is none, and none can be made.
    pub(super) async fn link(&self) -> Result<Link, Failure> {
        let mut known = self.link.lock().await;
        if let Some(link) = &*known {
            return Ok(link.clone());
        }
        let link = self.connect().await?;
        *known = Some(link.clone());
        Ok(link)
    }

    /// The authority has changed, or does not know the account any more: the next one who asks finds out.
    pub(super) async fn forget(&self, account_gone: bool) {
        *self.link.lock().await = None;
        if account_gone {
            match self.folder.set_aside(FILE, unix_time()) {
                Ok(aside) => {
                    tracing::warn!(authority = &*self.directory, file = %aside.display(), "the authority does not know the account: a new one is made");
                }
                Err(error) => tracing::error!(%error, "the account can not be set aside"),
            }
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let _lock = self.lock().await?;
        let https = Https::new(self.ca.as_deref())
            .map_err(|error| Failure { unreached: true, ..Failure::here(error, "see `ca`") })?;
        let contacts = self.contacts.borrow().clone();
        let borrowed: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let builder = Account::builder_with_http(Box::new(https.clone()));
        if let Some(stored) = self.stored()? {
            let account = builder.from_credentials(stored.credentials).await.map_err(|error| Failure::of(&error))?;
            if stored.contacts != contacts {
                account.update_contacts(&borrowed).await.map_err(|error| Failure::of(&error))?;
                self.rewrite_contacts(&contacts)?;
            }
            return Ok(Link { account, https });
        }
        let new = NewAccount { contact: &borrowed, terms_of_service_agreed: true, only_return_existing: false };
        let created = builder.create(&new, self.directory.to_string(), None).await;
        let (account, credentials) = created.map_err(|error| Failure::of(&error))?;
        self.store(&Stored { contacts, credentials })?;
        tracing::info!(authority = &*self.directory, account = account.id(), "an ACME account was made");
        Ok(Link { account, https })
    }

    /// The stored account. What is not one is set aside.
    fn stored(&self) -> Result<Option<Stored>, Failure> {
        let content = self.folder.read(FILE).map_err(|error| storage(&error))?;
        let Some(content) = content else { return Ok(None) };
        match serde_json::from_slice(&content) {
            Ok(stored) => Ok(Some(stored)),
            // Without the text of the error, which may repeat what it could not read.
            Err(_) => {
                let aside = self.folder.set_aside(FILE, unix_time()).map_err(|error| storage(&error))?;
                tracing::error!(file = %aside.display(), "the stored ACME account is broken and was set aside: a new one is made");
                Ok(None)
            }
        }
    }

    fn store(&self, stored: &Stored) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(stored).map_err(|error| Failure::here(error.to_string(), ""))?;
        self.folder.write(FILE, &text).map_err(|error| storage(&error))
    }

    fn rewrite_contacts(&self, contacts: &[String]) -> Result<(), Failure> {
        match self.stored()? {
            Some(stored) => self.store(&Stored { contacts: contacts.to_vec(), ..stored }),
            None => Ok(()),
        }
    }

    /// Counts an order that is about to be placed, over everybody who uses the folder. `Some`: the hour is full until then.
    ///
    /// # Errors
    /// The count can not be kept, and so nothing is ordered.
    pub(super) async fn count_order(&self) -> Result<Option<u64>, Failure> {
        let _lock = self.lock().await?;
        let now = unix_time();
        let content = self.folder.read(ORDERS).map_err(|error| storage(&error))?;
        let mut orders: Vec<u64> =
            content.and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default();
        let room = schedule::room(&orders, schedule::ORDERS_OF_AN_AUTHORITY, now);
        if room > now {
            return Ok(Some(room));
        }
        orders.retain(|&at| at <= now && now - at < schedule::HOUR);
        orders.push(now);
        let text = serde_json::to_vec(&orders).map_err(|error| Failure::here(error.to_string(), ""))?;
        self.folder.write(ORDERS, &text).map_err(|error| storage(&error))?;
        Ok(None)
    }

    async fn lock(&self) -> Result<Lock, Failure> {
        let held = async {
            loop {
                match self.folder.try_lock(LOCK) {
                    Ok(Some(lock)) => return Ok(lock),
                    Ok(None) => tokio::time::sleep(LOOK).await,
                    Err(error) => return Err(storage(&error)),
                }
            }
        };
        let late = |_| Failure::here("another process holds the lock of the storage", "one that hangs must end");
        tokio::time::timeout(LOCK_PATIENCE, held).await.map_err(late)?
    }
}

/// The storage failed: nothing is ordered that could not be kept.
pub(super) fn storage(error: &StorageFailed) -> Failure {
    Failure {
        unreached: true,
        ..Failure::here(
            error.to_string(),
            "the folder `storage` must be writable for this process, and its disk not full",
        )
    }
}

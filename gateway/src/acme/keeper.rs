//! The life of one certificate: load what is stored → wait until it is due → order → store → show, and again.
//!
//! Invariant: what is shown stays until something better is stored. Nothing is ordered while a stored certificate will do, nor while
//! another process orders.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::account::{Authority, Link, storage};
use super::failure::Failure;
use super::issued::Issued;
use super::order::{self, Wanted};
use super::schedule::{self, Failures};
use super::storage::{Folder, file_stem};
use super::{Failing, show};
use crate::plan;
use crate::state::{State, unix_time};
use crate::tls::pem::moment;

/// The longest sleep: the clock may be set, and another process may store something.
const NAP: Duration = Duration::from_secs(60);

/// How soon it is looked whether another process has finished its order.
const LOOK: Duration = Duration::from_secs(1);

/// For one order, from its first request to the certificate.
const ORDER: Duration = Duration::from_secs(600);

/// One certificate that is ordered and renewed.
#[derive(Debug)]
pub(super) struct Keeper {
    state: Arc<State>,
    /// As the plan in force has it. The names do not change, the rest may.
    acme: Rc<RefCell<plan::Acme>>,
    authority: Rc<Authority>,
    domains: Vec<Box<str>>,
    stem: String,
    /// What is shown.
    shown: Option<Issued>,
    /// What could not be stored yet.
    unsaved: Option<String>,
    /// The window that the authority has named.
    window: Option<(u64, u64)>,
    /// When it is asked for the window again.
    ask_at: u64,
    /// Nothing is ordered before.
    wait_until: u64,
    unreached: u32,
    refused: u32,
    failing: Failing,
    /// The authority takes that a new certificate replaces this one.
    replaceable: bool,
}

/// What must survive a restart so that it orders nothing more often than it may.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Notes {
    /// When orders were placed.
    orders: Vec<u64>,
    /// When the authority wants to be asked again.
    not_before: u64,
}

impl Keeper {
    /// For the certificate that `acme` says.
    pub(super) fn new(state: Arc<State>, acme: Rc<RefCell<plan::Acme>>, authority: Rc<Authority>) -> Self {
        let domains = acme.borrow().domains.clone();
        let stem = file_stem(&domains);
        let failing = Failing { state: Arc::clone(&state), is: false };
        Self {
            state,
            acme,
            authority,
            domains,
            stem,
            shown: None,
            unsaved: None,
            window: None,
            ask_at: 0,
            wait_until: 0,
            unreached: 0,
            refused: 0,
            failing,
            replaceable: true,
        }
    }

    /// Keeps the certificate, until the task is ended.
    pub(super) async fn keep(mut self) {
        self.load();
        if self.shown.is_none() {
            tracing::warn!(domains = ?self.domains, "no certificate yet: handshakes for these names are refused until the first one is ordered");
        }
        loop {
            self.ask_for_window().await;
            let (now, due) = (unix_time(), self.due());
            let at = due.max(self.wait_until);
            if at > now || self.state.is_draining() {
                tokio::time::sleep(Duration::from_secs(at.saturating_sub(now)).clamp(LOOK, NAP)).await;
            } else if let Err(failure) = self.attempt().await {
                self.failed(&failure).await;
            }
            self.load();
        }
    }

    /// When it is to be renewed, or 0 where there is none of its own.
    fn due(&self) -> u64 {
        let Some(issued) = self.shown.as_ref().filter(|issued| issued.suits(&self.domains, unix_time()).is_ok()) else {
            return 0;
        };
        let window = self.window.and_then(|(start, end)| schedule::in_window(start, end, issued.life(), issued.chance));
        window.unwrap_or_else(|| schedule::two_thirds(issued.life(), issued.chance))
    }

    /// Shows what is stored, if it is better than what is shown: another process may have renewed it.
    fn load(&mut self) {
        if let Some(text) = &self.unsaved {
            match self.authority.folder.write(&format!("{}.pem", self.stem), text.as_bytes()) {
                Ok(()) => self.unsaved = None,
                Err(error) => {
                    tracing::error!(domains = ?self.domains, %error, "the new certificate can not be stored: a restart would order again");
                }
            }
        }
        // One with other names serves those it carries only until there is one of our own.
        let Some(best) = find(&self.authority.folder, &self.domains, unix_time(), self.shown.is_none()) else { return };
        if self.shown.as_ref().is_some_and(|shown| shown.is_same(&best)) {
            return;
        }
        show(&self.state, &self.state.active().plan, &self.acme.borrow(), &best);
        self.window = None;
        self.ask_at = 0;
        self.replaceable = true;
        let until = moment(best.life().not_after);
        let missing: Vec<_> = self.domains.iter().filter(|&domain| !best.certified.covers(domain)).collect();
        self.shown = Some(best);
        if missing.is_empty() {
            tracing::info!(domains = ?self.domains, valid_until = until, renewal = moment(self.due()), "certificate in force");
        } else {
            tracing::warn!(domains = ?self.domains, ?missing, valid_until = until, "an earlier certificate is in force until one with all names is ordered");
        }
    }

    /// Orders, unless another process does.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let folder = self.authority.folder.clone();
        let Some(_lock) = folder.try_lock(&self.stem).map_err(|error| storage(&error))? else {
            self.wait_until = unix_time() + 1;
            return Ok(());
        };
        self.load();
        let now = unix_time();
        if self.due() > now {
            return Ok(());
        }
        let notes_file = format!("{}.json", self.stem);
        let content = folder.read(&notes_file).map_err(|error| storage(&error))?;
        // Notes that can not be read are of no more use than none.
        let mut notes: Notes = content.and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default();
        let room = schedule::room(&notes.orders, schedule::ORDERS_OF_A_CERTIFICATE, now);
        let at = room.max(notes.not_before.min(now + NOT_BEFORE_AT_MOST));
        if at > now {
            tracing::warn!(domains = ?self.domains, next = moment(at), "too many orders of late: waiting");
            self.wait_until = at;
            return Ok(());
        }

        let authority = Rc::clone(&self.authority);
        let Ok(_place) = authority.places.acquire().await else { return Ok(()) };
        let link = authority.link().await?;
        if let Some(at) = authority.count_order().await? {
            tracing::warn!(domains = ?self.domains, next = moment(at), "the authority has had enough orders this hour: waiting");
            self.wait_until = at;
            return Ok(());
        }
        notes.orders.retain(|&at| at <= now && now - at < schedule::HOUR);
        notes.orders.push(now);
        notes.not_before = 0;
        let write = |notes: &Notes| {
            let text = serde_json::to_vec(notes).unwrap_or_default();
            folder.write(&notes_file, &text).map_err(|error| storage(&error))
        };
        write(&notes)?;
        let kinds = self.kinds();
        tracing::info!(domains = ?self.domains, challenge = ?kinds.first(), "ordering a certificate");
        match self.order(&link, kinds).await {
            Ok((text, issued)) => {
                self.state.acme.issued.fetch_add(1, Ordering::Relaxed);
                (self.unreached, self.refused, self.wait_until) = (0, 0, 0);
                self.failing.set(false);
                self.unsaved = Some(text);
                tracing::info!(domains = ?self.domains, valid_until = moment(issued.life().not_after), "a certificate was issued");
                Ok(())
            }
            Err(mut failure) => {
                if let Some(at) = link.https.take_later() {
                    failure.rest = failure.rest.max(at.saturating_sub(unix_time()));
                }
                if failure.rest > 0 {
                    notes.not_before = unix_time() + failure.rest;
                    write(&notes)?;
                }
                Err(failure)
            }
        }
    }

    async fn order(&mut self, link: &Link, kinds: Vec<plan::Challenge>) -> Result<(String, Issued), Failure> {
        let replaced = self.shown.as_ref().filter(|_| self.replaceable && self.window.is_some());
        let replaces = replaced.and_then(Issued::identifier);
        let wanted = Wanted { domains: &self.domains, kinds, replaces };
        let placed = order::place(&link.account, wanted, &self.state.acme.challenges);
        let late = |_| Failure::here("the order took too long", "it is tried again");
        tokio::time::timeout(ORDER, placed).await.map_err(late)?
    }

    /// The kinds of challenges in the order in which they are tried now: each order that fails begins with the next one.
    fn kinds(&self) -> Vec<plan::Challenge> {
        let mut kinds = self.acme.borrow().challenges.clone();
        let count = kinds.len().max(1);
        kinds.rotate_left(self.refused as usize % count);
        kinds
    }

    async fn failed(&mut self, failure: &Failure) {
        self.failing.set(true);
        let metrics = &self.state.acme;
        metrics.failed.fetch_add(1, Ordering::Relaxed);
        metrics.last_failure.store(unix_time(), Ordering::Relaxed);
        if failure.account_gone || failure.unreached {
            self.authority.forget(failure.account_gone).await;
        }
        if failure.not_replaceable {
            self.replaceable = false;
        }
        // What was in the way is out of it; the bound on orders an hour holds all the same.
        let mended = failure.account_gone || failure.not_replaceable;
        let failures = if failure.unreached {
            self.unreached = self.unreached.saturating_add(1);
            Failures::Unreached(self.unreached)
        } else {
            self.refused = self.refused.saturating_add(u32::from(!mended));
            let kinds = u32::try_from(self.acme.borrow().challenges.len()).unwrap_or(u32::MAX);
            Failures::Refused(self.refused, kinds)
        };
        let wait = if mended { 1 } else { schedule::back_off(failures, fastrand::u32(..)).max(failure.rest) };
        self.wait_until = unix_time().saturating_add(wait);
        let in_force = match &self.shown {
            Some(shown) => format!("the certificate before stays in force until {}", moment(shown.life().not_after)),
            None => "there is no certificate: handshakes for these names are refused".to_owned(),
        };
        tracing::error!(
            domains = ?self.domains, next = moment(self.wait_until), advice = failure.advice, in_force,
            "no new certificate: {}", failure.what
        );
    }

    /// Asks when the authority wants the certificate renewed (RFC 9773), where it says such things.
    async fn ask_for_window(&mut self) {
        let now = unix_time();
        if now < self.ask_at || self.state.is_draining() {
            return;
        }
        let Some(issued) = self.shown.as_ref().filter(|issued| issued.suits(&self.domains, now).is_ok()) else {
            return;
        };
        let Some(identifier) = issued.identifier() else { return };
        self.ask_at = now + schedule::HOUR;
        let asked = match self.authority.link().await {
            Ok(link) => link.account.renewal_info(&identifier).await,
            Err(failure) => {
                tracing::debug!(domains = ?self.domains, what = failure.what, "no renewal information");
                return;
            }
        };
        match asked {
            Ok((info, again)) => {
                let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                let window = &info.suggested_window;
                let found = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                self.ask_at = now + schedule::ask_again(again.as_secs());
                if self.window.replace(found) != Some(found) {
                    let renewal = moment(self.due());
                    tracing::info!(domains = ?self.domains, renewal, explanation = info.explanation_url, "the authority says when to renew");
                }
            }
            Err(instant_acme::Error::Unsupported(_)) => self.ask_at = u64::MAX,
            Err(error) => tracing::debug!(domains = ?self.domains, %error, "no renewal information"),
        }
    }
}

/// The stored certificate for these names. Where there is none and `others` will do, the one that carries most of them, from before the
/// list of names was changed.
pub(super) fn find(folder: &Folder, domains: &[Box<str>], now: u64, others: bool) -> Option<Issued> {
    let own = format!("{}.pem", file_stem(domains));
    let found = read(folder, &own).filter(|issued| issued.suits(domains, now).is_ok());
    if found.is_some() || !others {
        return found;
    }
    let others = folder.names(".pem").into_iter().filter(|name| *name != own);
    let valid = others.filter_map(|name| read(folder, &name)).filter(|issued| issued.life().holds(now));
    let carrying = valid.filter(|issued| issued.carries(domains) > 0);
    carrying.max_by_key(|issued| (issued.carries(domains), issued.life().not_after))
}

/// What a file holds; one that holds nonsense is set aside.
fn read(folder: &Folder, name: &str) -> Option<Issued> {
    let content = match folder.read(name) {
        Ok(content) => content?,
        Err(error) => {
            // It may be as good as ever.
            tracing::error!(file = name, %error, "a stored certificate can not be read");
            return None;
        }
    };
    match Issued::read(&content) {
        Ok(issued) => Some(issued),
        Err(error) => {
            let aside = folder.set_aside(name, unix_time()).map(|path| path.display().to_string());
            tracing::error!(file = name, %error, ?aside, "a stored certificate is broken: set aside");
            None
        }
    }
}

/// However long an authority wants to be left alone, a stored wish for more than this is taken for an error of some clock.
const NOT_BEFORE_AT_MOST: u64 = 7 * 24 * schedule::HOUR;

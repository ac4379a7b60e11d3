//! One policy's bans: offences, who is banned, and counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use probegate_policies::ban::{Ban, Book, Cause, Client, Clock, Doors, Escalation, Ledger, Outcome, Page};
use probegate_policies::limit::Seed;
use probegate_policies::now::Now;

use crate::plan::BanPolicy;

/// The longest ban by hand: a year, in seconds.
pub const LONGEST: u64 = 366 * 86_400;

/// Bans that are copied at once: a hundredth of a millisecond or so.
const PAGE: usize = 64;

/// How many can be banned by hand.
const BY_HAND: usize = 16_384;

/// The bans of one policy, or those by hand.
#[derive(Debug)]
pub struct Jail {
    shadow: bool,
    /// `None`: by hand.
    counting: Option<Counting>,
    /// Locked when somebody is banned, when people ask, and when the file is written; never to look a request up.
    book: Arc<Mutex<Book>>,
    doors: Arc<Doors>,
    /// What the book was made for.
    shape: (usize, u64),
    stats: Arc<JailStats>,
}

#[derive(Debug)]
struct Counting {
    ledger: Arc<Ledger>,
    /// What the ledger was made for.
    shape: (usize, u64, usize),
    escalation: Escalation,
}

/// Counters of a policy. It keeps them over reloads.
#[derive(Debug, Default)]
pub struct JailStats {
    /// Bans that were pronounced.
    pub pronounced: AtomicU64,
    /// Requests that were refused, or would have been.
    pub refused: AtomicU64,
    /// Offences that were counted.
    pub offences: AtomicU64,
}

impl Jail {
    /// Those by hand: nobody gets there alone.
    pub(super) fn by_hand(clock: &Arc<Clock>, seed: Seed) -> Self {
        let book = Book::new(BY_HAND, 0, Arc::clone(clock), seed);
        let doors = Arc::clone(book.doors());
        let (book, shape) = (Arc::new(Mutex::new(book)), (BY_HAND, 0));
        Self { shadow: false, counting: None, book, doors, shape, stats: Arc::default() }
    }

    /// For a policy. What an earlier plan has counted under its name goes on, where it was counted in the same way; its bans go on in any case.
    pub(super) fn new(
        policy: &BanPolicy,
        earlier: Option<&Self>,
        stats: Arc<JailStats>,
        clock: &Arc<Clock>,
        seed: Seed,
        now: u64,
    ) -> Self {
        let window = u64::try_from(policy.window.as_nanos()).unwrap_or(u64::MAX);
        let counts = (policy.max_offences, window, policy.max_clients);
        let counting = earlier.and_then(|jail| jail.counting.as_ref()).filter(|counting| counting.shape == counts);
        let ledger = counting.map_or_else(
            || Arc::new(Ledger::new(policy.max_offences, window, policy.max_clients, seed)),
            |counting| Arc::clone(&counting.ledger),
        );
        let counting = Some(Counting { ledger, shape: counts, escalation: policy.escalation.clone() });
        let shape = (policy.max_clients, policy.remember.as_secs());
        let same = earlier.filter(|jail| jail.shape == shape);
        let empty = || Arc::new(Mutex::new(Book::new(shape.0, shape.1, Arc::clone(clock), seed)));
        let book = same.map_or_else(empty, |jail| Arc::clone(&jail.book));
        let doors = Arc::clone(lock(&book).doors());
        let jail = Self { shadow: policy.shadow, counting, book, doors, shape, stats };
        if same.is_none()
            && let Some(earlier) = earlier
        {
            jail.restore(earlier.written(), now);
        }
        jail
    }

    /// Nobody is kept out.
    #[inline]
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Who is banned.
    #[inline]
    pub fn doors(&self) -> &Doors {
        &self.doors
    }

    /// Counters.
    pub fn stats(&self) -> &JailStats {
        &self.stats
    }

    /// Offences of a client in the window.
    pub fn offences(&self, client: Client, now: Now) -> usize {
        self.counting.as_ref().map_or(0, |counting| counting.ledger.count(client, now.nanos))
    }

    /// Clients that were forgotten although they had offended lately or were banned.
    pub fn evicted(&self) -> u64 {
        lock(&self.book).evicted() + self.counting.as_ref().map_or(0, |counting| counting.ledger.stats().evicted)
    }

    /// Offences that were not counted because others were being counted at the same moment.
    pub fn contended(&self) -> u64 {
        self.counting.as_ref().map_or(0, |counting| counting.ledger.stats().contended)
    }

    /// Counts an offence. Whether it is one too many.
    pub(super) fn offend(&self, client: Client, now: Now) -> bool {
        let Some(counting) = &self.counting else { return false };
        self.stats.offences.fetch_add(1, Ordering::Relaxed);
        counting.ledger.offend(client, now.nanos) == Outcome::TooMany
    }

    /// Bans a client for that, later than it was let in. `None`: somebody else has.
    pub(super) fn pronounce(&self, client: Client, cause: Cause, after: Option<u64>, now: u64) -> Option<Ban> {
        let counting = self.counting.as_ref()?;
        // Once in so many offences, and the lock is held for moments.
        let (mut book, now) = self.held(now);
        let ban = book.ban(client, cause, &counting.escalation, after, now)?;
        drop(book);
        self.stats.pronounced.fetch_add(1, Ordering::Relaxed);
        Some(ban)
    }

    /// Bans a client by hand, later than it was let in.
    pub(super) fn ban(&self, client: Client, cause: Cause, seconds: u64, after: Option<u64>, now: u64) -> Ban {
        let (mut book, now) = self.held(now);
        let ban = book.ban_for(client, cause, seconds.min(LONGEST), after, now);
        drop(book);
        self.stats.pronounced.fetch_add(1, Ordering::Relaxed);
        ban
    }

    /// What is known about a client.
    pub fn get(&self, client: Client) -> Option<Ban> {
        lock(&self.book).get(client)
    }

    /// Bans in force, by their end.
    pub fn list(&self, now: u64) -> Vec<(Client, Ban)> {
        let mut all = self.copy(|ban| ban.until > now);
        all.sort_unstable_by_key(|(client, ban)| (ban.until, *client));
        all
    }

    /// Everything that is to be written down.
    pub(super) fn written(&self) -> Vec<(Client, Ban)> {
        self.copy(|_| true)
    }

    /// Page by page, so that a request that leads to a new ban waits for no more than one. Who is banned or let out meanwhile may be missing.
    fn copy(&self, of: impl Fn(&Ban) -> bool) -> Vec<(Client, Ban)> {
        let (mut all, mut next) = (Vec::new(), Some(Page::default()));
        while let Some(page) = next {
            let (bans, behind) = self.page(page, PAGE);
            all.extend(bans.into_iter().filter(|(_, ban)| of(ban)));
            next = behind;
        }
        all
    }

    /// See [`Book::page`]: no more than is copied at once.
    pub(super) fn page(&self, from: Page, most: usize) -> (Vec<(Client, Ban)>, Option<Page>) {
        lock(&self.book).page(from, most.min(PAGE))
    }

    /// Takes over what another gateway has pronounced: see [`Book::merge`].
    pub(super) fn merge(&self, client: Client, ban: Ban, now: u64) -> bool {
        let (mut book, now) = self.held(now);
        book.merge(client, ban, self.longest(), now)
    }

    /// When the last ban of a client began; `None`: of anybody. 0: there is none.
    pub(super) fn latest(&self, client: Option<Client>) -> u64 {
        match client {
            Some(client) => self.get(client).map_or(0, |ban| ban.since),
            None => lock(&self.book).latest(),
        }
    }

    /// Lifts what was pronounced until then, and forgets what was counted; `None`: of everybody. How many bans were in force.
    pub(super) fn lift_before(&self, client: Option<Client>, at: u64, now: u64) -> usize {
        let is_older = |ban: &Ban| ban.since <= at;
        let clients = match client {
            Some(client) => vec![client],
            None => self.copy(is_older).into_iter().map(|(client, _)| client).collect(),
        };
        if let Some(counting) = &self.counting {
            client.map_or_else(|| counting.ledger.clear(), |client| counting.ledger.forget(client));
        }
        // One that was banned anew since it was looked at stays.
        self.lift_each(&clients, is_older, now)
    }

    /// Seconds that no ban is longer than.
    fn longest(&self) -> u64 {
        self.counting.as_ref().map_or(LONGEST, |counting| counting.escalation.longest())
    }

    pub(super) fn restore(&self, bans: impl IntoIterator<Item = (Client, Ban)>, now: u64) {
        let (longest, mut bans) = (self.longest(), bans.into_iter().peekable());
        let began = Instant::now();
        while bans.peek().is_some() {
            let (mut book, now) = self.held_since(began, now);
            for (client, ban) in bans.by_ref().take(PAGE) {
                book.restore(client, ban, longest, now);
            }
        }
    }

    /// Ends what is over.
    pub(super) fn expire(&self, now: u64) {
        let began = Instant::now();
        let is_more = || {
            let (mut book, now) = self.held_since(began, now);
            book.expire(now)
        };
        while is_more() {}
    }

    /// The book, and what the time is when it is free: whoever was waited for may have been told a later one, and would seem to have had a clock that is set back.
    fn held(&self, now: u64) -> (MutexGuard<'_, Book>, u64) {
        self.held_since(Instant::now(), now)
    }

    /// The same, where it was `now` when something began.
    fn held_since(&self, began: Instant, now: u64) -> (MutexGuard<'_, Book>, u64) {
        let book = lock(&self.book);
        (book, now.saturating_add(began.elapsed().as_secs()))
    }

    /// Lifts the bans of those who may not be banned. How many were in force.
    pub(super) fn lift_where(&self, of: impl Fn(Client) -> bool, now: u64) -> usize {
        let all = self.copy(|_| true).into_iter().map(|(client, _)| client);
        self.lift_each(&all.filter(|&client| of(client)).collect::<Vec<_>>(), |_| true, now)
    }

    /// Lifts bans of which this is true, page by page like [`Self::copy`]. How many were in force.
    fn lift_each(&self, clients: &[Client], of: impl Fn(&Ban) -> bool, now: u64) -> usize {
        let lift = |page: &[Client]| {
            let mut book = lock(&self.book);
            let lifted = page.iter().filter_map(|&client| book.lift_if(client, &of));
            lifted.filter(|ban| ban.until > now).count()
        };
        clients.chunks(PAGE).map(lift).sum()
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

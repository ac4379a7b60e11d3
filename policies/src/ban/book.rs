//! Who is banned, why and until when, and who was.
//!
//! Invariant: no more than so many clients. Where one more is to be banned, the one that has been free for longest is forgotten; with nobody free, the one
//! whose ban ends first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::{Client, Doors, Escalation, Offence};
use crate::limit::Seed;

/// One client's bans: the one in force, or the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// When it began, in seconds since the epoch.
    pub since: u64,
    /// When it ends or ended.
    pub until: u64,
    /// How many there were, with this one; at least 1.
    pub count: u32,
    /// Why.
    pub cause: Cause,
}

/// Why a client was banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The last offence; `None`: somebody has banned it by hand.
    pub offence: Option<Offence>,
    /// For people: what it asked for last, or what was said when it was banned by hand.
    pub text: Box<str>,
}

/// A place in a [`Book`]; the first one by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page {
    over: bool,
    after: Option<(u64, Client)>,
}

/// The bans of one policy.
#[derive(Debug)]
pub struct Book {
    bans: HashMap<Client, Ban, ahash::RandomState>,
    /// Those in force, by their end.
    in_force: BTreeSet<(u64, Client)>,
    /// Those that are over, by their end.
    over: BTreeSet<(u64, Client)>,
    doors: Arc<Doors>,
    most: usize,
    /// How long a ban counts after its end, in seconds.
    remember: u64,
    /// Bans in force that were forgotten to make room.
    evicted: u64,
    /// When it was looked last, in seconds since the epoch.
    seen: u64,
    /// The clock was set back, and nobody was told yet.
    was_set_back: bool,
    behind: Behind,
}

/// What is left to be done since the clock was set back.
#[derive(Debug, Default)]
struct Behind {
    /// By how much it was.
    by: u64,
    /// What it was set to.
    to: u64,
    /// Whose bans have the time of before, and whether they were over then.
    clients: BTreeMap<Client, bool>,
}

/// Seconds that a clock may differ between threads. One that goes back by more was set back.
const JITTER: u64 = 5;

/// Bans that are set back at once: whoever holds the book holds up requests that lead to new ones.
const AT_ONCE: usize = 64;

impl Book {
    /// Nobody is banned. At most `most` clients; a ban counts for so many seconds after its end when the next one is measured.
    pub fn new(most: usize, remember: u64, seed: Seed) -> Self {
        let most = most.clamp(1, 1 << 26);
        Self {
            bans: HashMap::with_hasher(seed.hasher()),
            in_force: BTreeSet::new(),
            over: BTreeSet::new(),
            doors: Arc::new(Doors::new(most, seed)),
            most,
            remember,
            evicted: 0,
            seen: 0,
            was_set_back: false,
            behind: Behind::default(),
        }
    }

    /// What requests look at.
    pub fn doors(&self) -> &Arc<Doors> {
        &self.doors
    }

    /// Bans a client from `now` on, for as long as its earlier bans ask for. `None`: it is banned already.
    pub fn ban(&mut self, client: Client, cause: Cause, escalation: &Escalation, now: u64) -> Option<&Ban> {
        self.pass(now);
        self.settle(client);
        let earlier = match self.bans.get(&client) {
            Some(ban) if ban.until > now => return None,
            Some(ban) => ban.count,
            None => 0,
        };
        let ban = Ban {
            since: now,
            until: now.saturating_add(escalation.seconds(earlier)),
            count: earlier.saturating_add(1),
            cause,
        };
        self.put(client, ban);
        self.bans.get(&client)
    }

    /// Bans a client for so many seconds, whatever was before.
    pub fn ban_for(&mut self, client: Client, cause: Cause, seconds: u64, now: u64) {
        self.pass(now);
        self.settle(client);
        let count = self.bans.get(&client).map_or(0, |ban| ban.count).saturating_add(1);
        self.put(client, Ban { since: now, until: now.saturating_add(seconds.max(1)), count, cause });
    }

    /// Takes a ban over that was written down. One that ends later, or is over and forgotten, is not touched. No ban lasts longer from now on than
    /// `longest` seconds, whatever a clock said when it was written.
    pub fn restore(&mut self, client: Client, mut ban: Ban, longest: u64, now: u64) {
        ban.until = ban.until.min(now.saturating_add(longest));
        ban.since = ban.since.min(now).min(ban.until);
        ban.count = ban.count.max(1);
        self.pass(now);
        self.settle(client);
        let forgotten = ban.until.saturating_add(self.remember) <= now;
        let newer = self.bans.get(&client).is_some_and(|known| known.until >= ban.until);
        if !forgotten && !newer {
            self.put(client, ban);
            self.pass(now);
        }
    }

    /// Takes a ban over that somebody else has pronounced, and that this book may know already: the newer one holds, and of two that began together the
    /// longer one. Whether it changed anything. What is over and forgotten is not taken; no ban lasts longer from now on than `longest` seconds.
    pub fn merge(&mut self, client: Client, mut ban: Ban, longest: u64, now: u64) -> bool {
        ban.until = ban.until.min(now.saturating_add(longest));
        ban.since = ban.since.min(ban.until);
        ban.count = ban.count.max(1);
        // First, because this one knows the right time.
        self.pass(now);
        self.settle(client);
        let is_known = self.bans.get(&client).is_some_and(|known| (known.since, known.until) >= (ban.since, ban.until));
        if is_known || ban.until.saturating_add(self.remember) <= now {
            return false;
        }
        self.put(client, ban);
        self.pass(now);
        true
    }

    /// Lifts a client's ban and forgets those before: it was a mistake. `None`: nothing is known about it.
    pub fn lift(&mut self, client: Client) -> Option<Ban> {
        self.behind.clients.remove(&client);
        let ban = self.bans.remove(&client)?;
        if self.in_force.remove(&(ban.until, client)) {
            self.doors.open(client);
        }
        self.over.remove(&(ban.until, client));
        Some(ban)
    }

    /// Ends the bans whose time is over, and forgets those that are over for long. `true`: since this was asked last, the clock was set back, which has to be
    /// written down; a ban that is over says so by itself.
    pub fn expire(&mut self, now: u64) -> bool {
        self.pass(now);
        self.behind.clients.is_empty() && std::mem::take(&mut self.was_set_back)
    }

    /// Whether bans are left that have not heard yet that the clock was set back: some more do with each call, and [`Self::expire`] tells of it after the last.
    pub fn is_behind(&self) -> bool {
        !self.behind.clients.is_empty()
    }

    fn pass(&mut self, now: u64) {
        if now.saturating_add(JITTER) < self.seen && !self.bans.is_empty() {
            // The one before this, to its end.
            self.set_back(usize::MAX);
            let in_force = self.in_force.iter().map(|&(_, client)| (client, false));
            let clients = in_force.chain(self.over.iter().map(|&(_, client)| (client, true))).collect();
            self.behind = Behind { by: self.seen - now, to: now, clients };
            self.was_set_back = true;
        }
        self.set_back(AT_ONCE);
        self.seen = now;
        while let Some(&(until, client)) = self.in_force.first().filter(|(until, _)| *until <= now) {
            self.in_force.remove(&(until, client));
            self.over.insert((until, client));
            self.doors.open(client);
        }
        while let Some(&(until, client)) =
            self.over.first().filter(|(until, _)| until.saturating_add(self.remember) <= now)
        {
            self.over.remove(&(until, client));
            self.bans.remove(&client);
        }
    }

    /// The clock was set back: each ban goes on for what was left of it, and what was over stays so. Without this, a machine that comes up with a clock a year
    /// ahead would keep clients out for a year. So many of them.
    fn set_back(&mut self, most: usize) {
        for _ in 0..most {
            let Some((&client, _)) = self.behind.clients.first_key_value() else { break };
            self.settle(client);
        }
    }

    /// The same for one.
    fn settle(&mut self, client: Client) {
        let Some(was_over) = self.behind.clients.remove(&client) else { return };
        let Some(mut ban) = self.bans.get(&client).cloned() else { return };
        let (by, to) = (self.behind.by, self.behind.to);
        ban.until = if was_over { ban.until.min(to) } else { ban.until.saturating_sub(by) };
        ban.since = ban.since.saturating_sub(if was_over { 0 } else { by }).min(ban.until);
        self.put(client, ban);
    }

    /// What is known about a client.
    pub fn get(&self, client: Client) -> Option<&Ban> {
        self.bans.get(&client)
    }

    /// Everybody that something is known about: those in force, by their end, then the others.
    pub fn iter(&self) -> impl Iterator<Item = (Client, &Ban)> {
        self.in_force.iter().chain(&self.over).filter_map(|&(_, client)| Some((client, self.bans.get(&client)?)))
    }

    /// So many of [`Self::iter`], from a place on; the next place, where there is more. What changes between two pages may be on none or on both.
    pub fn page(&self, from: Page, most: usize) -> (Vec<(Client, Ban)>, Option<Page>) {
        let list = if from.over { &self.over } else { &self.in_force };
        let behind = (from.after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let found: Vec<(u64, Client)> = list.range(behind).take(most.max(1)).copied().collect();
        let bans = found.iter().filter_map(|&(_, client)| Some((client, self.bans.get(&client)?.clone()))).collect();
        let next = match found.last() {
            Some(&last) if found.len() >= most.max(1) => Some(Page { after: Some(last), ..from }),
            _ if from.over => None,
            _ => Some(Page { over: true, after: None }),
        };
        (bans, next)
    }

    /// How many bans are in force.
    pub fn len(&self) -> usize {
        self.in_force.len()
    }

    /// Whether no ban is in force.
    pub fn is_empty(&self) -> bool {
        self.in_force.is_empty()
    }

    /// Bans in force that were forgotten to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// In force until the next [`Self::expire`] that is late enough.
    fn put(&mut self, client: Client, ban: Ban) {
        let known = self.bans.get(&client).map(|known| (known.until, client));
        if let Some(known) = known {
            // Whoever is out stays out: the door is not opened for a moment.
            self.in_force.remove(&known);
            self.over.remove(&known);
        } else if self.bans.len() >= self.most {
            let free = self.over.first().copied();
            if let Some((_, other)) = free.or_else(|| self.in_force.first().copied()) {
                self.evicted += u64::from(free.is_none());
                self.lift(other);
            }
        }
        if self.doors.close(client, ban.until) {
            self.in_force.insert((ban.until, client));
            self.bans.insert(client, ban);
        } else {
            self.bans.remove(&client);
        }
    }
}

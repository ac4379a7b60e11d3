//! Who is banned, why and until when, and who was.
//!
//! Invariant: no more than so many clients. Where one more is to be banned, the one that has been free for longest is forgotten; with nobody free, the one
//! whose ban ends first.
//!
//! What it keeps is in the time of its [`Clock`], which is never set back. What comes in and goes out is in seconds since the epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{Client, Clock, Doors, Escalation, Offence};
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
pub struct Page(Option<Client>);

/// The bans of one policy.
#[derive(Debug)]
pub struct Book {
    /// By client, so that pages miss nobody whose ban changes meanwhile.
    bans: BTreeMap<Client, Ban>,
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
    /// When the last of all began.
    latest: u64,
    clock: Arc<Clock>,
}

/// Seconds by which a ban, or a lift, may be ahead of the clock: clocks differ, and a ban that follows a lift is a second later than that. What is further ahead is
/// told by a clock that is wrong.
pub const AHEAD: u64 = 60;

/// Bans that are ended at once: whoever holds the book holds up requests that lead to new ones.
const AT_ONCE: usize = 64;

impl Book {
    /// Nobody is banned. At most `most` clients; a ban counts for so many seconds after its end when the next one is measured.
    pub fn new(most: usize, remember: u64, clock: Arc<Clock>, seed: Seed) -> Self {
        let most = most.clamp(1, 1 << 26);
        Self {
            bans: BTreeMap::new(),
            in_force: BTreeSet::new(),
            over: BTreeSet::new(),
            doors: Arc::new(Doors::new(most, Arc::clone(&clock), seed)),
            most,
            remember,
            evicted: 0,
            latest: 0,
            clock,
        }
    }

    /// What requests look at.
    pub fn doors(&self) -> &Arc<Doors> {
        &self.doors
    }

    /// Bans a client from `now` on, for as long as its earlier bans ask for. It begins later than the one before, and than `after`, when it was let in. `None`: it is banned already.
    pub fn ban(
        &mut self,
        client: Client,
        cause: Cause,
        escalation: &Escalation,
        after: Option<u64>,
        now: u64,
    ) -> Option<Ban> {
        let own = self.pass(now);
        let earlier = match self.bans.get(&client) {
            Some(ban) if ban.until > own => return None,
            Some(ban) if ban.until.saturating_add(self.remember) > own => ban.count,
            _ => 0,
        };
        Some(self.begin(client, cause, (earlier, escalation.seconds(earlier)), after, now))
    }

    /// Bans a client for so many seconds, whatever was before. It begins later than the one before, and than `after`, when it was let in.
    pub fn ban_for(&mut self, client: Client, cause: Cause, seconds: u64, after: Option<u64>, now: u64) -> Ban {
        self.pass(now);
        let earlier = self.bans.get(&client).map_or(0, |ban| ban.count);
        self.begin(client, cause, (earlier, seconds.max(1)), after, now)
    }

    fn begin(
        &mut self,
        client: Client,
        cause: Cause,
        (earlier, seconds): (u32, u64),
        after: Option<u64>,
        now: u64,
    ) -> Ban {
        let before = self.get(client).map(|ban| ban.since).max(after);
        let since = before.map_or(now, |before| now.max(before.saturating_add(1)));
        let until = now.saturating_add(seconds).max(since);
        let ban = Ban { since, until, count: earlier.saturating_add(1), cause };
        self.put(client, ban.clone());
        ban
    }

    /// Takes a ban over that was written down, in the place of what is known of its client. No ban lasts longer from now on than `longest` seconds, whatever a
    /// clock said when it was written.
    pub fn restore(&mut self, client: Client, mut ban: Ban, longest: u64, now: u64) {
        if ban.since > now.saturating_add(AHEAD) {
            ban.since = now;
        }
        ban.until = ban.until.min(now.saturating_add(longest)).max(ban.since);
        self.pass(now);
        self.take(client, ban, now);
    }

    /// Takes a ban over that somebody else has pronounced, and that this book may know already: the newer one holds, and of two that began together the
    /// longer one. Whether it changed anything. What begins later than [`AHEAD`] is not believed; no ban is longer than `longest` seconds.
    pub fn merge(&mut self, client: Client, mut ban: Ban, longest: u64, now: u64) -> bool {
        // Not from now on: told again, it would last longer.
        ban.until = ban.until.min(ban.since.saturating_add(longest)).max(ban.since);
        // First, because this one knows the right time.
        self.pass(now);
        let is_known = self.get(client).is_some_and(|known| (known.since, known.until) >= (ban.since, ban.until));
        !is_known && ban.since <= now.saturating_add(AHEAD) && self.take(client, ban, now)
    }

    /// Puts it in the place of what is known of its client. Not one that is over and forgotten, or that would be the next to make room. Whether it changed anything.
    fn take(&mut self, client: Client, mut ban: Ban, now: u64) -> bool {
        if ban.until.saturating_add(self.remember) <= now {
            return self.lift(client).is_some();
        }
        let has_room = self.bans.len() < self.most || self.bans.contains_key(&client);
        if !has_room && self.next_to_go().is_some_and(|(until, _)| until >= self.clock.own(ban.until)) {
            return false;
        }
        ban.count = ban.count.max(1);
        self.put(client, ban);
        self.pass(now);
        true
    }

    /// Who makes room for somebody else.
    fn next_to_go(&self) -> Option<(u64, Client)> {
        self.over.first().or_else(|| self.in_force.first()).copied()
    }

    /// Lifts a client's ban and forgets those before: it was a mistake. `None`: nothing is known about it.
    pub fn lift(&mut self, client: Client) -> Option<Ban> {
        self.lift_if(client, |_| true)
    }

    /// The same for a ban of which this is true, and no other.
    pub fn lift_if(&mut self, client: Client, of: impl FnOnce(&Ban) -> bool) -> Option<Ban> {
        let ban = self.get(client).filter(of)?;
        let known = self.bans.remove(&client)?;
        if self.in_force.remove(&(known.until, client)) {
            self.doors.open(client);
        }
        self.over.remove(&(known.until, client));
        Some(ban)
    }

    /// Ends bans whose time is over, and forgets those that are over for long. Some at a time: `true` while there are more.
    pub fn expire(&mut self, now: u64) -> bool {
        let own = self.pass(now);
        self.ended(own).is_some() || self.forgotten(own).is_some()
    }

    /// Goes on to `now`. The book's own time.
    fn pass(&mut self, now: u64) -> u64 {
        let own = self.clock.pass(now);
        for _ in 0..AT_ONCE {
            let Some((until, client)) = self.ended(own) else { break };
            self.in_force.remove(&(until, client));
            self.over.insert((until, client));
            self.doors.open(client);
        }
        for _ in 0..AT_ONCE {
            let Some((until, client)) = self.forgotten(own) else { break };
            self.over.remove(&(until, client));
            self.bans.remove(&client);
        }
        own
    }

    /// The first whose ban is over and still looks as if it was in force.
    fn ended(&self, own: u64) -> Option<(u64, Client)> {
        self.in_force.first().copied().filter(|(until, _)| *until <= own)
    }

    /// The first to be forgotten.
    fn forgotten(&self, own: u64) -> Option<(u64, Client)> {
        self.over.first().copied().filter(|(until, _)| until.saturating_add(self.remember) <= own)
    }

    /// What is known about a client.
    pub fn get(&self, client: Client) -> Option<Ban> {
        self.bans.get(&client).map(|ban| self.told(ban))
    }

    /// In seconds since the epoch.
    fn told(&self, ban: &Ban) -> Ban {
        let Ban { since, until, count, ref cause } = *ban;
        let (since, until) = (self.clock.told(since), self.clock.told(until));
        Ban { since, until, count, cause: cause.clone() }
    }

    /// So many of those that something is known about, from a place on; the next place, where there is more. Who is there from the first page to the last is on one of
    /// them, and on one only.
    pub fn page(&self, from: Page, most: usize) -> (Vec<(Client, Ban)>, Option<Page>) {
        let behind = (from.0.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let found = self.bans.range(behind).take(most.max(1));
        let bans: Vec<_> = found.map(|(&client, ban)| (client, self.told(ban))).collect();
        let last = bans.last().filter(|_| bans.len() >= most.max(1));
        let next = last.map(|&(client, _)| Page(Some(client)));
        (bans, next)
    }

    /// When the last of all began, whether or not it is still known; 0: there was none.
    pub fn latest(&self) -> u64 {
        self.clock.told(self.latest)
    }

    /// How many bans are in force, as of the last [`Self::expire`].
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
    fn put(&mut self, client: Client, mut ban: Ban) {
        ban.since = self.clock.own(ban.since);
        ban.until = self.clock.own(ban.until);
        self.latest = self.latest.max(ban.since);
        let known = self.bans.get(&client).map(|known| (known.until, client));
        if let Some(known) = known {
            // Whoever is out stays out: the door is not opened for a moment.
            self.in_force.remove(&known);
            self.over.remove(&known);
        } else if self.bans.len() >= self.most
            && let Some((_, other)) = self.next_to_go()
        {
            self.evicted += u64::from(self.over.is_empty());
            self.lift(other);
        }
        if self.doors.close(client, ban.until) {
            self.in_force.insert((ban.until, client));
            self.bans.insert(client, ban);
        } else {
            self.bans.remove(&client);
        }
    }
}

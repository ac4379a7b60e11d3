//! What all workers know about the servers of a service, and the choice among them.
//!
//! [`Servers`] belongs to a plan; the [`ServerState`] of each server is handed on to the next plan that names the same server in the same service
//! ([`crate::state::State::swap`]), so that a reload forgets neither failures nor what is in flight. A request asks for a place
//! ([`Servers::place`]), is sent, and says how that went ([`Place::failed`], [`Place::succeeded`]). Active checks and the admin say what they
//! know by [`Servers::set_health`] and [`Servers::set_drained`].
//!
//! Who is asked: of the servers that are eligible (not drained, not down, not left out), the ordinary ones, else the backups. Where none is
//! eligible, those that are left out: to try costs less than to refuse for sure. A server that is drained or down is never asked. A server that is left out gets one request when its time is
//! over; how that goes decides ([`probegate_policies::ejection`]).
//!
//! Those who wait for a place ([`crate::plan::Server::max_in_flight`]) stand in one line for all workers. Nobody is forgotten there: who joins
//! is counted first and looks then; who leaves a server gives its place back first and looks then whether somebody is counted. Whichever comes
//! second sees the other.
//!
//! Invariant: a service with one server and no bounds touches nothing here that two workers write to.

mod ejecting;
mod outside;
mod place;
mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use probegate_policies::balance::{self, Candidate, Smooth};
use probegate_policies::ejection::{self, Entry};
use probegate_policies::reason::Reason;
use probegate_policies::retry::Budget;

use self::place::Line;
pub use self::place::{Place, Waiting};
pub use self::state::{Health, ServerState};
use crate::plan::{Balancing, Choice, Upstream};
use crate::slots::Split;

/// Added to the time of a trial: for what is done here.
const GRACE: Duration = Duration::from_secs(1);

/// The servers of one service.
#[derive(Debug)]
pub struct Servers {
    service: Box<str>,
    sites: Box<[Site]>,
    balancing: Balancing,
    /// Somebody has to know what is in flight.
    counted: bool,
    origin: Instant,
    /// Locked for a moment by every request of a service that is served in turn: the turn is what all workers share.
    smooth: Mutex<Smooth>,
    /// Locked when a server is left out: two at a time would not see that each of them is the last. Shared with the plans before and after.
    ejecting: Arc<Mutex<()>>,
    /// How long a trial may take at a server that does nothing.
    lease: Duration,
    /// Locked when something failed.
    budget: Mutex<Budget>,
    retried: AtomicU64,
    line: Mutex<Line>,
    waiting: AtomicUsize,
    /// Which of its slots gets a request; `None`: it has none.
    split: Option<Arc<Split>>,
}

/// One server.
#[derive(Debug)]
pub struct Site {
    /// As written in the configuration.
    pub label: Box<str>,
    /// What all workers know.
    pub state: Arc<ServerState>,
    key: u64,
    id: u64,
    weight: u32,
    backup: bool,
    max_in_flight: Option<u32>,
    /// Its slot; `None`: the service has none.
    pub slot: Option<u8>,
}

/// What a request looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// What keeps it with others.
    pub key: Option<u64>,
    /// Random bits for the choice.
    pub random: u64,
    /// Servers that were asked already, as bits by index.
    pub tried: u128,
    /// The slot it is for: those of one wait for nobody of another.
    pub slot: Option<u8>,
}

/// What came of it.
#[derive(Debug)]
pub enum Placed<'a> {
    /// A place.
    At(Place<'a>),
    /// There will be one.
    Wait(Waiting),
    /// There is none: every server is drained, down, or was tried.
    Nobody,
    /// There is none, and too many wait.
    Refused(Reason),
}

/// The choice as it is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// `eligible`: it is like any other, or ready for a trial; else, there is no other.
    Server {
        index: usize,
        eligible: bool,
    },
    /// Whoever could be asked is at as many requests as it may be.
    Full,
    Nobody,
}

impl Servers {
    /// The servers of `service`; `earlier` are those that an earlier plan had for it. One that has the same key there keeps what is known about it.
    pub fn new(
        service: &str,
        upstream: &Upstream,
        earlier: Option<&Self>,
        split: Option<Arc<Split>>,
        origin: Instant,
        workers: usize,
    ) -> Arc<Self> {
        let Upstream { servers, slots, balancing, .. } = upstream;
        let known = |key: u64| {
            let site = earlier?.sites.iter().find(|site| site.key == key)?;
            Some(Arc::clone(&site.state))
        };
        let slot = |index: usize| slots.as_ref().and_then(|slots| Some(slots.of(index)?.0));
        let sites = servers.iter().enumerate().map(|(index, server)| Site {
            label: server.label.clone(),
            state: known(server.key).unwrap_or_else(|| Arc::new(ServerState::new(workers))),
            key: server.key,
            id: balance::hash(server.label.as_bytes()),
            weight: server.weight,
            backup: server.backup,
            max_in_flight: server.max_in_flight,
            slot: slot(index),
        });
        Arc::new(Self {
            service: service.into(),
            sites: sites.collect(),
            balancing: balancing.clone(),
            counted: servers.len() > 1 || servers.iter().any(|server| server.max_in_flight.is_some()),
            origin,
            smooth: Mutex::new(Smooth::new(servers.len())),
            ejecting: earlier.map(|earlier| Arc::clone(&earlier.ejecting)).unwrap_or_default(),
            lease: upstream.connect_timeout + upstream.response_timeout + GRACE,
            budget: Mutex::default(),
            retried: AtomicU64::new(0),
            line: Mutex::default(),
            waiting: AtomicUsize::new(0),
            split,
        })
    }

    /// The service they belong to.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Each of them, in the order of the plan.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Which of its slots gets a request; `None`: it has none.
    #[inline]
    pub fn split(&self) -> Option<&Arc<Split>> {
        self.split.as_ref()
    }

    /// Whether requests may have to wait for a place.
    pub fn is_bounded(&self) -> bool {
        self.sites.iter().any(|site| site.max_in_flight.is_some())
    }

    /// How many requests wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The time since the origin.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A place for a request. `now`: since the origin, and good to a tick of the clock.
    pub fn place(self: &Arc<Self>, wish: Wish, now: Duration) -> Placed<'_> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            // Others were here first.
            return self.join(wish, now);
        }
        match self.find(&wish, now) {
            Ok((index, entry)) => Placed::At(Place::new(self, index, entry)),
            Err(true) => self.join(wish, now),
            Err(false) => Placed::Nobody,
        }
    }

    /// Takes a place at the server for a request. An error: whether one will be free.
    fn find(&self, wish: &Wish, now: Duration) -> Result<(usize, Entry), bool> {
        loop {
            match self.choose(wish, now) {
                Found::Server { index, eligible } => {
                    if let Some(entry) = self.enter(index, eligible, now) {
                        return Ok((index, entry));
                    }
                    // Somebody else got the last place, or the trial, meanwhile, which the next look sees.
                }
                Found::Full => return Err(true),
                Found::Nobody => return Err(false),
            }
        }
    }

    /// Takes leave to send one more request again.
    pub fn take_retry(&self) -> bool {
        let sent: u64 = self.sites.iter().map(|site| site.state.sent()).sum();
        let mut budget = lock(&self.budget);
        let requests = sent.saturating_sub(self.retried.load(Ordering::Relaxed));
        let taken = budget.take(&self.balancing.retries.share, requests, self.now());
        if taken {
            self.retried.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn join(self: &Arc<Self>, wish: Wish, now: Duration) -> Placed<'_> {
        let mut line = lock(&self.line);
        line.serve(self, now);
        if line.ahead(wish.slot) == 0 {
            match self.find(&wish, now) {
                Ok((index, entry)) => return Placed::At(Place::new(self, index, entry)),
                Err(true) => {}
                Err(false) => return Placed::Nobody,
            }
        }
        if line.ahead(wish.slot) >= self.balancing.queue.max {
            return Placed::Refused(Reason::UpstreamQueueFull);
        }
        let waiting = line.join(self, wish);
        // A place that was given back before this one was counted told nobody.
        line.serve(self, now);
        Placed::Wait(waiting)
    }

    /// Whether a request that was sent to these could be sent to another.
    pub fn has_other(&self, tried: u128) -> bool {
        let mut sites = self.sites.iter().enumerate();
        sites.any(|(index, site)| tried >> index & 1 == 0 && site.state.may_be_asked())
    }

    /// The server for a request.
    fn choose(&self, wish: &Wish, now: Duration) -> Found {
        for (eligible, backup) in [(true, false), (true, true), (false, false), (false, true)] {
            let (mut open, mut room) = (false, 0_u128);
            for (index, site) in self.sites.iter().enumerate() {
                let bit = 1 << index;
                let fits = site.backup == backup
                    && wish.tried & bit == 0
                    && if eligible { site.state.is_eligible(now) } else { site.state.may_be_asked() };
                open |= fits;
                if fits && site.max_in_flight.is_none_or(|most| site.state.in_flight.load(Ordering::SeqCst) < most) {
                    room |= bit;
                }
            }
            if room != 0 {
                let picked = self.pick(room, wish, now);
                return picked.map_or(Found::Nobody, |index| Found::Server { index, eligible });
            }
            if open {
                return Found::Full;
            }
        }
        Found::Nobody
    }

    fn pick(&self, among: u128, wish: &Wish, now: Duration) -> Option<usize> {
        if among.is_power_of_two() {
            return usize::try_from(among.trailing_zeros()).ok();
        }
        let sites = self.sites.iter().enumerate().filter(|(index, _)| among >> index & 1 == 1);
        let candidates = sites.map(|(index, site)| Candidate {
            index,
            id: site.id,
            weight: ejection::ramp(site.weight, site.state.back_since(), self.balancing.slow_start, now),
            in_flight: site.state.in_flight.load(Ordering::Relaxed),
        });
        match (&self.balancing.choice, wish.key) {
            (Choice::RoundRobin, _) => lock(&self.smooth).turn(candidates),
            // Here, a slow start would send keys away and bring them back.
            (Choice::Hash(_), Some(key)) => {
                let weight = |candidate: &Candidate| self.sites.get(candidate.index).map_or(1, |site| site.weight);
                balance::rendezvous(
                    key,
                    candidates.map(|candidate| Candidate { weight: weight(&candidate), ..candidate }),
                )
            }
            (Choice::LeastInFlight | Choice::Hash(_), _) => balance::two_choices(candidates, wish.random),
        }
    }

    /// Takes a place at a server. `None`: the last one is gone, or others try it.
    fn enter(&self, index: usize, eligible: bool, now: Duration) -> Option<Entry> {
        let site = self.sites.get(index)?;
        let entry = site.state.enter(eligible, self.lease, now)?;
        if let Some(most) = site.max_in_flight {
            let more = |count: u32| (count < most).then_some(count + 1);
            let entered = site.state.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more);
            if entered.is_err() {
                site.state.left(entry, now);
                return None;
            }
        } else if self.counted {
            site.state.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Some(entry)
    }

    /// Gives a place back, and what is free now to whoever waits.
    fn leave(self: &Arc<Self>, index: usize) {
        self.count_out(index);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.look();
        }
    }

    /// Looks whether somebody who waits can have a place.
    fn look(self: &Arc<Self>) {
        lock(&self.line).serve(self, self.now());
    }

    fn count_out(&self, index: usize) {
        if self.counted
            && let Some(site) = self.sites.get(index)
        {
            site.state.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Nobody panics while he holds one of these, and if so, what is in it is still numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The shield before one probe: what is known of each question, and the asks that are under way.
//!
//! A question is what the app is asked beyond what the configuration says: the host, the query, and the form of the answer. There is [`Room`] for
//! some of them; one that finds none is asked for its client alone, and only so many of those at a time. A question has its place until
//! nobody has asked it for [`IDLE`], so that strangers who make up questions take nobody's place away.
//!
//! Invariant: whoever waits for an ask is told its end: a [`Flying`] that goes away without having landed says so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use probegate_policies::reason::Reason;
use probegate_policies::shield::{Known, Step, Terms};

use super::flight::{Asked, Flight, Landed};
use super::room::{Room, Singles};
use super::{Alone, Asker, Counts, Kept, Question, Source};

/// After how long a question that nobody asks gives its place to another.
const IDLE: Duration = Duration::from_secs(60);

/// After how long an app is asked again whether its answer is still too large to be kept.
const LARGE: Duration = Duration::from_secs(10);

/// What becomes of somebody who asks.
#[derive(Debug)]
pub enum Found {
    /// This answer, of this age.
    Answer(Arc<Kept>, Source, Duration),
    /// The app says nothing, for this reason.
    Silence(Reason),
    /// The app is being asked.
    Wait(Arc<Flight>),
    /// The app is to be asked.
    Ask(Flying),
    /// The app is to be asked for this client alone.
    Alone,
}

/// The shield before one probe.
#[derive(Debug)]
pub struct Shield {
    fingerprint: u64,
    /// Locked for a moment by everybody who asks: what is known is what all workers share.
    cells: Mutex<Vec<Cell>>,
    alone: Singles,
    counts: Arc<Counts>,
    origin: Instant,
}

/// One question.
#[derive(Debug)]
struct Cell {
    question: Question,
    /// Where it has its place.
    room: Room,
    known: Known,
    kept: Option<Arc<Kept>>,
    /// Why the app said nothing.
    reason: Reason,
    flight: Option<Arc<Flight>>,
    /// When it was asked last.
    used: u64,
    /// Until when nobody tries to keep the answer.
    large: u64,
    /// Until then: what is known to whoever wants no more than the status.
    said: Known,
    /// The status of the last answer that was too large to be kept.
    status: u16,
    /// How often the app's servers had been found gone when it answered.
    gone: u64,
    /// The number of the ask that has landed last.
    last: u64,
    /// How long the app took to answer it; nothing where it said nothing.
    took: Duration,
}

/// The ask that an answer belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Its number.
    pub number: u64,
    /// How long the app took; nothing where an older answer covers its silence.
    pub took: Duration,
    /// The answer serves for good, however old it is.
    pub is_latched: bool,
}

/// What becomes of somebody who wants to know no more than the status.
#[derive(Debug)]
pub enum Looked {
    /// It is this one, of this ask.
    Status(Told, u16),
    /// The app said nothing to the ask with this number, for this reason.
    Silence(u64, Reason),
    /// The app is being asked.
    Wait(Arc<Flight>),
    /// The app is to be asked.
    Ask(Flying),
    /// There is no room for the question.
    Nothing,
}

impl Shield {
    /// A shield that knows nothing.
    pub(super) fn new(fingerprint: u64, counts: Arc<Counts>, origin: Instant) -> Self {
        Self { fingerprint, cells: Mutex::default(), alone: Singles::default(), counts, origin }
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// How often which of it happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What becomes of somebody who asks. `gone`: how often the app's servers were found gone, ever: whoever was started may not be any more.
    pub fn find(self: &Arc<Self>, question: &Question, asker: Asker, terms: &Terms, gone: u64) -> Found {
        let now = self.now();
        let mut cells = self.lock();
        match cell(&mut cells, question, asker, terms, now) {
            Some(cell) if cell.large > now => {
                cell.used = now;
                Found::Alone
            }
            Some(cell) => self.step(cell, terms, gone, now),
            None => Found::Alone,
        }
    }

    /// The same for somebody who wants to know no more than the status. An answer that is too large to be kept has one too, and it serves as long as that of
    /// any other.
    pub fn look(self: &Arc<Self>, question: &Question, asker: Asker, terms: &Terms, gone: u64) -> Looked {
        let now = self.now();
        let mut cells = self.lock();
        let Some(cell) = cell(&mut cells, question, asker, terms, now) else { return Looked::Nothing };
        if cell.large <= now {
            return match self.step(cell, terms, gone, now) {
                Found::Answer(kept, source, _) => Looked::Status(cell.told(source == Source::Latched), kept.status()),
                Found::Silence(reason) => Looked::Silence(cell.last, reason),
                Found::Wait(flight) => Looked::Wait(flight),
                Found::Ask(flying) => Looked::Ask(flying),
                Found::Alone => Looked::Nothing,
            };
        }
        cell.used = now;
        if terms.latch && cell.gone != gone {
            cell.said.forget();
            cell.gone = gone;
        }
        match cell.said.step(now, terms) {
            step @ (Step::Fresh | Step::Latched | Step::Stale) => {
                Looked::Status(cell.told(step == Step::Latched), cell.status)
            }
            Step::Silent => Looked::Silence(cell.last, cell.reason),
            Step::Wait => cell.flight.as_ref().map_or(Looked::Nothing, |flight| Looked::Wait(Arc::clone(flight))),
            Step::Ask => Looked::Ask(self.fly(cell, now)),
        }
    }

    /// An ask that begins.
    fn fly(self: &Arc<Self>, cell: &mut Cell, now: u64) -> Flying {
        let flight = Arc::new(Flight { number: now, ..Flight::default() });
        cell.flight = Some(Arc::clone(&flight));
        Flying { shield: Arc::clone(self), flight }
    }

    fn step(self: &Arc<Self>, cell: &mut Cell, terms: &Terms, gone: u64, now: u64) -> Found {
        cell.used = now;
        if terms.latch && cell.gone != gone {
            cell.known.forget();
            cell.gone = gone;
        }
        let source = match cell.known.step(now, terms) {
            Step::Fresh => Source::Hit,
            Step::Latched => Source::Latched,
            Step::Stale => Source::Stale,
            Step::Silent => return Found::Silence(cell.reason),
            Step::Wait => return cell.flight.as_ref().map_or(Found::Alone, |flight| Found::Wait(Arc::clone(flight))),
            Step::Ask => return Found::Ask(self.fly(cell, now)),
        };
        match &cell.kept {
            Some(kept) => Found::Answer(Arc::clone(kept), source, cell.known.age(now)),
            None => Found::Alone,
        }
    }

    /// What covers the app's silence.
    pub fn cover(&self, question: &Question, terms: &Terms) -> Option<(Arc<Kept>, Duration)> {
        let now = self.now();
        let cells = self.lock();
        let cell = cells.iter().find(|cell| cell.question == *question)?;
        let kept = cell.kept.as_ref().filter(|_| cell.known.is_covered(now, terms))?;
        Some((Arc::clone(kept), cell.known.age(now)))
    }

    /// The status that covers the app's silence.
    pub fn covering(&self, question: &Question, terms: &Terms) -> Option<u16> {
        if let Some((kept, _)) = self.cover(question, terms) {
            return Some(kept.status());
        }
        let now = self.now();
        let cells = self.lock();
        let cell = cells.iter().find(|cell| cell.question == *question)?;
        Some(cell.status).filter(|_| cell.large > now && cell.said.is_covered(now, terms))
    }

    /// A place for a request that asks for itself alone; `None`: there is none. `known`: as in [`Asker`].
    pub fn alone(&self, known: bool) -> Option<Alone> {
        self.alone.enter(known)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    fn told(&self, is_latched: bool) -> Told {
        Told { number: self.last, took: self.took, is_latched }
    }
}

/// The place of a question; a new one where there is room.
fn cell<'a>(
    cells: &'a mut Vec<Cell>,
    question: &Question,
    asker: Asker,
    terms: &Terms,
    now: u64,
) -> Option<&'a mut Cell> {
    let at = match cells.iter().position(|cell| cell.question == *question) {
        Some(at) => at,
        None => {
            let room = asker.rooms().find(|&room| has_place(cells, room, terms, now))?;
            cells.push(Cell {
                question: question.clone(),
                room,
                known: Known::default(),
                kept: None,
                reason: Reason::UpstreamTimeout,
                flight: None,
                used: now,
                large: 0,
                said: Known::default(),
                status: 0,
                gone: 0,
                last: 0,
                took: Duration::ZERO,
            });
            cells.len() - 1
        }
    };
    cells.get_mut(at)
}

/// Whether a room has a place, perhaps one that nobody has used for a while.
fn has_place(cells: &mut Vec<Cell>, room: Room, terms: &Terms, now: u64) -> bool {
    let taken = |cells: &[Cell]| cells.iter().filter(|cell| cell.room == room).count();
    if taken(cells) < room.places() {
        return true;
    }
    let idle = u64::try_from(IDLE.as_nanos()).unwrap_or(u64::MAX);
    // What has started for good has, however rarely somebody asks; but nobody shall fill the other rooms for good.
    let stays = |cell: &Cell| room == Room::Plain && cell.known.is_latched(terms);
    cells.retain(|cell| {
        cell.room != room || cell.known.is_asking() || now.saturating_sub(cell.used) < idle || stays(cell)
    });
    taken(cells) < room.places()
}

/// The duty to tell how an ask ended.
#[derive(Debug)]
pub struct Flying {
    shield: Arc<Shield>,
    flight: Arc<Flight>,
}

impl Flying {
    /// The app is asked from here on.
    pub fn departs(&self) {
        self.shield.counts.asks_app();
    }

    /// For those who wait for it.
    pub fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }

    /// Tells how it ended. `gone`: as in [`Shield::find`], before the app was asked.
    pub fn land(self, landed: Landed, asked: Asked, gone: u64) {
        self.tell(landed, asked, gone);
    }

    /// Nobody asks the app: whoever asks next begins anew.
    pub fn cancel(self) {
        self.tell(Landed::Never, Asked::default(), 0);
    }

    fn tell(&self, landed: Landed, asked: Asked, gone: u64) {
        let now = self.shield.now();
        let took = Duration::from_nanos(now.saturating_sub(self.flight.number));
        // Before it has landed: who finds the end finds this as well.
        self.flight.took.set(took).ok();
        if self.flight.landed.set((landed.clone(), asked)).is_err() {
            return;
        }
        let mut cells = self.shield.lock();
        // It may have been taken for lost, and another one be under way.
        let mine = |cell: &&mut Cell| cell.flight.as_ref().is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        if let Some(cell) = cells.iter_mut().find(mine) {
            cell.flight = None;
            if !matches!(landed, Landed::Never) {
                cell.last = self.flight.number;
                cell.took = if matches!(landed, Landed::Silence(_)) { Duration::ZERO } else { took };
            }
            match landed {
                Landed::Answer(kept) => {
                    cell.known.answered(now, (200..300).contains(&kept.status()));
                    cell.kept = Some(kept);
                    cell.gone = gone;
                    cell.large = 0;
                }
                Landed::Silence(reason) => {
                    cell.known.silent(now, is_silence(reason));
                    cell.said.silent(now, is_silence(reason));
                    cell.reason = reason;
                }
                Landed::Never => {
                    cell.known.cancelled();
                    cell.said.cancelled();
                }
                Landed::Large => {
                    cell.known = Known::default();
                    cell.kept = None;
                    cell.status = asked.status.unwrap_or_default();
                    cell.said.answered(now, (200..300).contains(&cell.status));
                    cell.gone = gone;
                    cell.large = now.saturating_add(u64::try_from(LARGE.as_nanos()).unwrap_or(u64::MAX));
                }
            }
        }
        drop(cells);
        self.flight.told.notify_waiters();
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        // Nothing happens where it has landed.
        let reason = if std::thread::panicking() { Reason::Panicked } else { Reason::ShuttingDown };
        self.tell(Landed::Silence(reason), Asked::default(), 0);
    }
}

/// Whether the app just said nothing. What it says wrongly, and what checks and people say about its servers, is an answer.
fn is_silence(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UpstreamUnreachable
            | Reason::UpstreamClosed
            | Reason::UpstreamConnectTimeout
            | Reason::UpstreamTimeout
            | Reason::UpstreamBusy
            | Reason::UpstreamQueueFull
            | Reason::UpstreamQueueTimeout
            | Reason::Panicked
            | Reason::ShuttingDown
    )
}

#[cfg(test)]
mod tests;

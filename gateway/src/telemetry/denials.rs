//! The last requests that were refused, for people who ask why.
//!
//! Every worker writes a ring of its own: places of a fixed size, made at the start and written over. A refusal costs a copy of some 300 bytes and a lock
//! that nobody else wants but who reads, for a moment, when a person asks. So floods of refused requests allocate nothing here, wait for nobody, and push
//! out nothing but earlier refusals. Requests that are let in do not come here at all.
//!
//! Invariant: of what a client sends, the method, the host and the path are kept, each cut. Never the query, which may hold a secret.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use probegate_policies::forwarded::Scheme;
use probegate_policies::reason::Reason;

use super::access_log::Decision;

/// Refusals that one worker remembers.
pub const LENGTH: usize = 128;

/// Bytes of all texts of a place.
const TEXT: usize = 256;

/// The most bytes of the service, the policy, the method and the host. The path has what they leave.
const MOST: [usize; PARTS - 1] = [48, 48, 12, 64];

/// How many texts there are.
const PARTS: usize = 5;

/// A request that is refused, as the worker knows it.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    /// Why.
    pub reason: Reason,
    /// What that was: `deny`, `limit` or `refuse`.
    pub decision: Decision,
    /// The status that the client saw.
    pub status: u16,
    /// The client, or the peer where nobody knows the client; and which of them.
    pub client: (IpAddr, bool),
    /// The request's id.
    pub id: &'a [u8; 32],
    /// The service, where there is one.
    pub service: &'a str,
    /// What decided: its kind, its name and its line in the configuration.
    pub policy: Option<(&'static str, &'a str, u32)>,
    /// How the connection is protected, and the port of its listener, as it is configured.
    pub entrance: (Scheme, u16),
    /// The method.
    pub method: &'a [u8],
    /// The host.
    pub host: &'a [u8],
    /// The path, without the query.
    pub path: &'a [u8],
}

/// A request that was refused, for people.
#[derive(Clone, Debug)]
pub struct Denial {
    /// When, in milliseconds since the epoch.
    pub at: u64,
    /// Why.
    pub reason: Reason,
    /// What that was.
    pub decision: Decision,
    /// The status that the client saw.
    pub status: u16,
    /// The client, or the peer.
    pub client: IpAddr,
    /// It is the client.
    pub is_known: bool,
    /// The request's id.
    pub id: String,
    /// The service; empty: none.
    pub service: String,
    /// What decided: its kind and its name, and its line; an empty kind: nothing of the configuration.
    pub policy: (&'static str, String, u32),
    /// How the connection was protected, and the port of its listener, as it is configured.
    pub entrance: (Scheme, u16),
    /// The method.
    pub method: String,
    /// The host, cut.
    pub host: String,
    /// The path, cut.
    pub path: String,
    /// The host goes on.
    pub host_is_cut: bool,
    /// The path goes on.
    pub is_cut: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Since the start.
    at: Duration,
    reason: Reason,
    decision: Decision,
    status: u16,
    client: (IpAddr, bool),
    id: [u8; 32],
    policy: (&'static str, u32),
    entrance: (Scheme, u16),
    /// Behind the last end, it is what an earlier refusal left.
    text: [u8; TEXT],
    ends: [u16; PARTS],
    cut: [bool; PARTS],
}

/// One worker's. Aligned, so that no two workers write to one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ring(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    places: Vec<Place>,
    next: usize,
}

/// The rings of all workers.
#[derive(Debug)]
pub struct Denials {
    rings: Box<[Ring]>,
    origin: Instant,
}

impl Denials {
    /// Empty rings for this many workers, whose times count from `origin`.
    pub fn new(workers: usize, origin: Instant) -> Self {
        let ring = || Ring(Mutex::new(Places { places: Vec::with_capacity(LENGTH), next: 0 }));
        Self { rings: (0..workers.max(1)).map(|_| ring()).collect(), origin }
    }

    /// Remembers a refusal by `worker`, so long after the origin.
    pub fn add(&self, worker: usize, at: Duration, denied: &Denied<'_>) {
        let Some(Ring(ring)) = self.rings.get(worker).or_else(|| self.rings.first()) else { return };
        let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
        let next = ring.next;
        ring.next = (next + 1) % LENGTH;
        match ring.places.get_mut(next) {
            // In its place: no copy of it is made.
            Some(oldest) => oldest.write(at, denied),
            None => {
                let mut place = Place::empty(denied);
                place.write(at, denied);
                // There is room for it.
                ring.places.push(place);
            }
        }
    }

    /// The last refusals of all workers, the latest first, and no more than this many.
    pub fn last(&self, most: usize) -> Vec<Denial> {
        let mut all: Vec<Place> = Vec::new();
        for Ring(ring) in &self.rings {
            all.extend(ring.lock().unwrap_or_else(PoisonError::into_inner).places.iter());
        }
        all.sort_by_key(|place| std::cmp::Reverse(place.at));
        all.truncate(most);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = unix.saturating_sub(self.origin.elapsed());
        all.iter().map(|place| place.told(origin)).collect()
    }
}

impl Place {
    fn empty(denied: &Denied<'_>) -> Self {
        let Denied { reason, decision, status, client, id, entrance, .. } = *denied;
        Self {
            at: Duration::ZERO,
            reason,
            decision,
            status,
            client,
            id: *id,
            policy: ("", 0),
            entrance,
            text: [0; TEXT],
            ends: [0; PARTS],
            cut: [false; PARTS],
        }
    }

    fn write(&mut self, at: Duration, denied: &Denied<'_>) {
        let Denied { reason, decision, status, client, id, service, policy, entrance, method, host, path } = *denied;
        let (kind, name, line) = policy.unwrap_or_default();
        (self.at, self.reason, self.decision, self.status) = (at, reason, decision, status);
        (self.client, self.id, self.policy, self.entrance) = (client, *id, (kind, line), entrance);
        let mut end = 0;
        let parts = [service.as_bytes(), name.as_bytes(), method, host, path];
        let places = self.ends.iter_mut().zip(&mut self.cut);
        for ((part, (known, cut)), most) in parts.into_iter().zip(places).zip(MOST.into_iter().chain([TEXT])) {
            let length = part.len().min(most).min(TEXT - end);
            *cut = length < part.len();
            if let (Some(to), Some(from)) = (self.text.get_mut(end..end + length), part.get(..length)) {
                to.copy_from_slice(from);
            }
            end += length;
            *known = u16::try_from(end).unwrap_or_default();
        }
    }

    /// `origin`: when the rings were made, since the epoch.
    fn told(&self, origin: Duration) -> Denial {
        let [_, _, _, host_is_cut, is_cut] = self.cut;
        let mut start = 0;
        let [service, policy, method, host, path] = self.ends.map(|end| {
            let end = usize::from(end);
            let part = self.text.get(start..end).unwrap_or_default();
            start = end;
            String::from_utf8_lossy(part).into_owned()
        });
        Denial {
            at: u64::try_from((origin + self.at).as_millis()).unwrap_or(u64::MAX),
            reason: self.reason,
            decision: self.decision,
            status: self.status,
            client: self.client.0,
            is_known: self.client.1,
            id: String::from_utf8_lossy(&self.id).into_owned(),
            service,
            policy: (self.policy.0, policy, self.policy.1),
            entrance: self.entrance,
            method,
            host,
            path,
            host_is_cut,
            is_cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied<'a>(host: &'a [u8], path: &'a [u8]) -> Denied<'a> {
        Denied {
            reason: Reason::OutsideNetwork,
            decision: Decision::Deny,
            status: 403,
            client: ("203.0.113.9".parse().unwrap(), true),
            id: b"0123456789abcdef0123456789abcdef",
            service: "shop",
            policy: Some(("route", "/admin", 7)),
            entrance: (Scheme::Https, 443),
            method: b"GET",
            host,
            path,
        }
    }

    #[test]
    fn the_latest_come_first_and_push_out_the_oldest() {
        let denials = Denials::new(2, Instant::now());
        let start = Duration::ZERO;
        for number in 0..LENGTH + 3 {
            let path = format!("/{number}");
            let at = start + Duration::from_millis(number as u64);
            denials.add(0, at, &denied(b"shop.example", path.as_bytes()));
        }
        denials.add(1, start + Duration::from_secs(9), &denied(b"shop.example", b"/other"));
        let all = denials.last(usize::MAX);
        assert_eq!(all.len(), LENGTH + 1);
        let paths: Vec<_> = all.iter().take(3).map(|denial| &*denial.path).collect();
        assert_eq!(paths, ["/other", &format!("/{}", LENGTH + 2), &format!("/{}", LENGTH + 1)]);
        assert_eq!(all.last().unwrap().path, "/3");
        assert_eq!(denials.last(2).len(), 2);
    }

    #[test]
    fn texts_come_back_cut_and_in_their_places() {
        let denials = Denials::new(1, Instant::now());
        let (host, path) = (vec![b'h'; 300], vec![b'p'; 300]);
        denials.add(0, Duration::ZERO, &denied(&host, &path));
        denials.add(7, Duration::from_nanos(1), &denied(b"\xff", b""));
        let all = denials.last(9);
        let [short, long] = &*all else { panic!("{all:?}") };
        assert_eq!((&*long.service, &*long.policy.1, &*long.method, long.host.len()), ("shop", "/admin", "GET", 64));
        assert_eq!((long.path.len(), long.is_cut), (TEXT - 4 - 6 - 3 - 64, true));
        assert_eq!((long.host_is_cut, short.host_is_cut, long.entrance), (true, false, (Scheme::Https, 443)));
        assert_eq!((&*short.host, &*short.path, short.is_cut), ("\u{fffd}", "", false));
        assert!(short.at >= long.at && short.at > 1_700_000_000_000);
    }
}

//! Names of servers and their addresses, as one worker knows them.
//!
//! How long an answer is used is decided in [`probegate_policies::resolve`]. A name with several addresses is one server: new connections go to each of
//! them in turn, and those that could not be connected to a moment ago come last.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use probegate_policies::resolve::{Lease, Use};
use tokio::sync::Notify;

use super::resolver::{Resolvers, Unanswered};

/// How long an address that could not be connected to comes last.
const SHUNNED: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The key of the server: one name may stand for several ports.
    pub(super) key: u64,
    pub(super) name: Box<str>,
    pub(super) port: u16,
    /// Who is asked; `None`: as the system says.
    pub(super) resolver: Option<Arc<[SocketAddr]>>,
}

/// The names of one worker.
#[derive(Clone, Debug)]
pub(super) struct Names {
    origin: Instant,
    resolvers: Rc<Resolvers>,
    known: Rc<RefCell<HashMap<u64, Known, ahash::RandomState>>>,
}

/// What is known about a name.
#[derive(Debug, Default)]
struct Known {
    lease: Lease,
    addresses: Rc<[SocketAddr]>,
    /// Where the round over the addresses stands.
    turn: usize,
    /// Grows whenever the addresses change.
    edition: u32,
    /// What was asked for.
    question: Option<Question>,
    /// Addresses that could not be connected to, and when that was.
    failed: HashMap<SocketAddr, Duration>,
    /// The name is being asked for; told to those who wait when it is done. Never more than once at a time.
    pending: Option<Rc<Notify>>,
    /// The last problem, which is said once.
    problem: Option<String>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), resolvers: Rc::default(), known: Rc::default() }
    }

    /// The addresses of a server's name, in the order in which they are tried. They are asked for beside the requests, which wait only where nothing usable
    /// is known. With them, which answer that is.
    ///
    /// # Errors
    /// There are none.
    pub(super) async fn resolve(&self, question: Question) -> io::Result<(Vec<SocketAddr>, u32)> {
        let key = question.key;
        self.known.borrow_mut().entry(key).or_default().question = Some(question);
        // Twice at the most: what the wait was for is known after it.
        for _ in 0..2 {
            let now = self.now();
            let pending = {
                let mut names = self.known.borrow_mut();
                let known = names.entry(key).or_default();
                let what = known.lease.look(now);
                if what == Use::Refused {
                    break;
                }
                if what != Use::Fresh {
                    self.refresh(known, now);
                }
                match &known.pending {
                    Some(pending) if what == Use::Wait => Rc::clone(pending),
                    _ => return Ok((known.next(now), known.edition)),
                }
            };
            pending.notified().await;
        }
        let known = self.known.borrow();
        let problem = known.get(&key).and_then(|known| known.problem.clone());
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, problem.unwrap_or_default()))
    }

    /// Whether a connection that this answer led to still leads to a server of this name. A name whose connections are used all the time, so that none is made
    /// anew, is asked for here, too.
    pub(super) fn is_current(&self, key: u64, edition: u32) -> bool {
        let mut names = self.known.borrow_mut();
        let Some(known) = names.get_mut(&key) else { return true };
        let now = self.now();
        if matches!(known.lease.look(now), Use::Stale | Use::Wait) {
            self.refresh(known, now);
        }
        known.edition == edition
    }

    /// How it went to connect to one of the addresses.
    pub(super) fn tried(&self, key: u64, address: SocketAddr, worked: bool) {
        if let Some(known) = self.known.borrow_mut().get_mut(&key) {
            if worked {
                known.failed.remove(&address);
            } else {
                known.failed.insert(address, self.now());
            }
        }
    }

    /// Nobody could be reached at any of the addresses: they are asked for anew before they are used the next time.
    pub(super) fn distrust(&self, key: u64) {
        if let Some(known) = self.known.borrow_mut().get_mut(&key) {
            known.lease.distrust(self.now());
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Asks beside the requests.
    fn refresh(&self, known: &mut Known, now: Duration) {
        let (None, Some(question)) = (&known.pending, &known.question) else { return };
        let question = question.clone();
        known.lease.ask(now);
        let done = Rc::new(Notify::new());
        known.pending = Some(Rc::clone(&done));
        let names = self.clone();
        tokio::task::spawn_local(async move {
            let found = names.resolvers.ask(&question.name, question.resolver.as_ref()).await;
            let now = names.now();
            let mut all = names.known.borrow_mut();
            let known = all.entry(question.key).or_default();
            known.pending = None;
            let problem = match found {
                Ok(answer) => {
                    known.lease.answered(answer.life, now);
                    known.learn(answer.addresses.iter().map(|ip| SocketAddr::new(*ip, question.port)).collect());
                    None
                }
                Err(Unanswered::None(life)) => {
                    if known.lease.denied(life, now) {
                        known.learn(Vec::new());
                    }
                    Some("there is no such name, or it has no address".to_owned())
                }
                Err(Unanswered::Failed(why)) => {
                    known.lease.failed(now);
                    Some(why)
                }
            };
            if problem != known.problem {
                let kept = known.addresses.len();
                match &problem {
                    Some(problem) => tracing::warn!(name = &*question.name, problem, kept, "cannot be resolved"),
                    None => tracing::info!(name = &*question.name, "can be resolved again"),
                }
                known.problem = problem;
            }
            done.notify_waiters();
        });
    }
}

impl Known {
    fn learn(&mut self, mut addresses: Vec<SocketAddr>) {
        // Servers of names shuffle their answers; the round is ours.
        addresses.sort_unstable();
        addresses.dedup();
        if *self.addresses != *addresses {
            self.failed.retain(|address, _| addresses.contains(address));
            self.addresses = addresses.into();
            self.edition = self.edition.wrapping_add(1);
        }
    }

    /// All addresses, beginning with the one whose turn it is, and those that failed last.
    fn next(&mut self, now: Duration) -> Vec<SocketAddr> {
        let mut order: Vec<_> = self.addresses.to_vec();
        if order.len() > 1 {
            let turn = self.turn % order.len();
            order.rotate_left(turn);
            self.turn = turn + 1;
            self.failed.retain(|_, at| now < *at + SHUNNED);
            // Stable: the round goes on among the others.
            order.sort_by_key(|address| self.failed.contains_key(address));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_and_those_that_failed_come_last() {
        let address = |last: u8| SocketAddr::from(([127, 0, 0, last], 80));
        let mut known = Known::default();
        known.learn(vec![address(3), address(1), address(2), address(1)]);
        let first = |known: &mut Known, now| known.next(Duration::from_secs(now))[0];
        assert_eq!([(); 4].map(|()| first(&mut known, 0)), [1, 2, 3, 1].map(address));
        known.failed.insert(address(2), Duration::ZERO);
        let firsts = [(); 4].map(|()| first(&mut known, 1));
        assert!(!firsts.contains(&address(2)) && firsts.contains(&address(1)) && firsts.contains(&address(3)));
        assert_eq!(known.next(Duration::from_secs(1)).last(), Some(&address(2)));
        let firsts = [(); 3].map(|()| first(&mut known, 10));
        assert!(firsts.contains(&address(2)), "it is tried again: {firsts:?}");
    }
}

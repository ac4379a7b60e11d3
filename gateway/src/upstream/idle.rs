//! Connections in HTTP/1 between two requests.
//!
//! How many are unused changes from moment to moment: the answers to many requests come together, and the next requests come a moment later. So
//! a bound on unused connections is no bound on what lies here at one moment. It is one on what nobody needed from one sweep to the next;
//! a connection that is closed because others came back with it would be made anew for the next request, which costs as much as the request.
//! What can lie here is bounded all the same: by the requests that were in flight together.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::{Link, Reuse};

/// Unused connections by the key of their server.
#[derive(Debug, Default)]
pub(super) struct Idle {
    links: RefCell<HashMap<u64, Server, ahash::RandomState>>,
}

/// Those to one server.
#[derive(Debug, Default)]
struct Server {
    /// Taken from the end and put there: those in front have been unused for longest.
    unused: Vec<Unused>,
    /// So many in front were not needed since the last sweep.
    spare: usize,
}

#[derive(Debug)]
struct Unused {
    link: Link,
    /// Which answer of the resolver led to the server.
    edition: u32,
    /// As the worker's deadlines count time, which need no look at the clock.
    until: Duration,
    /// It stays although nobody needs it, where fewer than these were put there after it and are not needed either. The bound of who used it last:
    /// services with one server share its connections, and one that keeps few takes away none of another's.
    most: u32,
}

impl Idle {
    /// The connection that was used last is the one whose server has closed it least likely. `reuse`: how closely it is looked at.
    pub(super) fn take(&self, key: u64, reuse: Reuse) -> Option<(Link, u32)> {
        let mut links = self.links.borrow_mut();
        let server = links.get_mut(&key)?;
        while let Some(found) = server.unused.pop() {
            // A server that closes what it has just used is rare; one that closes what has lain for some time is not.
            let closely = reuse == Reuse::Checked && server.unused.len() < server.spare;
            server.spare = server.spare.min(server.unused.len());
            if found.link.is_quiet() && (!closely || found.link.is_silent()) {
                return Some((found.link, found.edition));
            }
        }
        None
    }

    /// Keeps a connection, with the answer of the resolver that led to its server. What `most` says holds from the next sweep on, but for none at
    /// all, which holds at once.
    pub(super) fn put(&self, key: u64, (link, edition): (Link, u32), most: usize, until: Duration) {
        let mut links = self.links.borrow_mut();
        if most > 0 {
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            links.entry(key).or_default().unused.push(Unused { link, edition, until, most });
        }
    }

    /// Closes what was unused for too long or closed by its server, and what is too many and was not needed since the last sweep.
    pub(super) fn sweep(&self, now: Duration) {
        self.links.borrow_mut().retain(|_, server| {
            let mut rest = server.spare;
            server.unused.retain(|unused| {
                let needed = rest == 0;
                rest = rest.saturating_sub(1);
                (needed || rest < unused.most as usize) && now < unused.until && unused.link.is_quiet()
            });
            server.spare = server.unused.len();
            !server.unused.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;
    use crate::wire::transport::Socket;

    struct Kept {
        idle: Idle,
        most: usize,
        now: Duration,
        servers: Vec<UnixStream>,
    }

    impl Kept {
        /// Requests at a time, one after the other.
        fn in_flight(&mut self, requests: usize) {
            let taken: Vec<_> = (0..requests).map(|_| self.idle.take(1, Reuse::Yes)).collect();
            for link in taken {
                let link = link.unwrap_or_else(|| {
                    let (ours, server) = UnixStream::pair().unwrap();
                    self.servers.push(server);
                    (Link::Plain(Socket::Unix(ours)), 0)
                });
                self.idle.put(1, link, self.most, self.now + Duration::from_secs(1));
            }
        }

        fn unused(&self) -> usize {
            self.idle.links.borrow().get(&1).map_or(0, |server| server.unused.len())
        }
    }

    fn kept(most: usize) -> Kept {
        Kept { idle: Idle::default(), most, now: Duration::ZERO, servers: Vec::new() }
    }

    #[tokio::test]
    async fn connections_that_are_needed_again_and_again_are_kept_and_those_that_nobody_needs_are_closed() {
        let mut kept = kept(2);
        for _ in 0..3 {
            kept.in_flight(10);
            kept.idle.sweep(kept.now);
        }
        assert_eq!((kept.unused(), kept.servers.len()), (10, 10), "one connection for each, made once");
        kept.in_flight(4);
        kept.idle.sweep(kept.now);
        assert_eq!(kept.unused(), 6, "two more than were needed");
        kept.in_flight(1);
        kept.idle.sweep(kept.now);
        assert_eq!(kept.unused(), 3);
        kept.idle.sweep(kept.now);
        assert_eq!(kept.unused(), 2, "as many as may be unused");
        kept.idle.sweep(kept.now + Duration::from_secs(1));
        assert_eq!(kept.unused(), 0, "for too long");
    }

    #[tokio::test]
    async fn a_service_that_keeps_few_takes_nothing_from_one_with_the_same_server_that_keeps_many() {
        let mut kept = kept(64);
        kept.in_flight(60);
        for most in [1, 0] {
            kept.most = most;
            kept.in_flight(1);
            kept.idle.sweep(kept.now);
            kept.idle.sweep(kept.now);
        }
        assert_eq!(
            (kept.unused(), kept.servers.len()),
            (59, 60),
            "all but the one that was used last by who keeps none"
        );
    }

    #[tokio::test]
    async fn what_was_closed_a_moment_ago_is_not_given_to_those_who_could_not_ask_again() {
        for (reuse, found) in [(Reuse::Yes, true), (Reuse::Checked, false)] {
            let mut kept = kept(2);
            kept.in_flight(1);
            kept.idle.sweep(kept.now);
            // Nothing is awaited meanwhile: the event loop is not told.
            kept.servers.clear();
            assert_eq!(kept.idle.take(1, reuse).is_some(), found, "{reuse:?}");
        }
        let mut kept = kept(2);
        kept.in_flight(1);
        kept.idle.sweep(kept.now);
        assert!(kept.idle.take(1, Reuse::Checked).is_some(), "one that is open");
    }

    #[tokio::test]
    async fn none_is_kept_where_none_may_be() {
        let mut kept = kept(0);
        kept.in_flight(3);
        assert_eq!(kept.unused(), 0);
    }
}

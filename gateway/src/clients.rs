//! How many connections each client has open, and how many requests at work over HTTP/2, over all workers.
//!
//! A client is an IPv4 address or 64 bits of an IPv6 one: what one household or one host controls. Invariant: a client without a connection
//! takes no place here, so the tables are bounded by [`crate::plan::Bounds::connections`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use probegate_policies::ip::group;

/// Tables, so that workers that accept at the same time seldom meet.
const SHARDS: usize = 64;

/// A table that once was large is made smaller when this many times as much room as entries is left.
const SPARE: usize = 8;

/// The clients that have connections open.
#[derive(Debug)]
pub struct Clients {
    shards: [Mutex<HashMap<IpAddr, Open>>; SHARDS],
    chooser: RandomState,
}

/// What a client has open.
#[derive(Debug, Default)]
struct Open {
    connections: usize,
    /// Made for the first connection that needs it.
    streams: Option<Streams>,
}

/// Requests at work on all HTTP/2 connections of one client.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<AtomicUsize>);

impl Streams {
    /// Counts one more. `false`: there are `most` already.
    pub fn enter(&self, most: usize) -> bool {
        let enters = self.0.fetch_add(1, Ordering::Relaxed) < most;
        if !enters {
            self.leave();
        }
        enters
    }

    /// One that was counted has ended.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is counted; dropping it ends that.
#[derive(Debug)]
pub struct Counted<'a> {
    clients: &'a Clients,
    network: IpAddr,
}

impl Default for Clients {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), chooser: RandomState::new() }
    }
}

impl Clients {
    /// Counts a connection of `client`. `None`: it has `most` already.
    pub fn enter(&self, client: IpAddr, most: usize) -> Option<Counted<'_>> {
        let network = group(client, 32, 64);
        let mut shard = self.shard(network)?;
        let open = shard.entry(network).or_default();
        if open.connections >= most {
            // Nobody is remembered for being refused: `most` is at least one, so the entry was there.
            return None;
        }
        open.connections += 1;
        Some(Counted { clients: self, network })
    }

    /// How many connections `client` has, and what counts its requests on those of HTTP/2. `None`: it is not counted. What is returned may be
    /// kept for as long as one of the connections is.
    pub fn streams(&self, client: IpAddr) -> Option<(usize, Streams)> {
        let network = group(client, 32, 64);
        let mut shard = self.shard(network)?;
        let open = shard.get_mut(&network)?;
        Some((open.connections, open.streams.get_or_insert_default().clone()))
    }

    /// Clients that have a connection.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether no client has a connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, network: IpAddr) -> Option<MutexGuard<'_, HashMap<IpAddr, Open>>> {
        let index = usize::try_from(self.chooser.hash_one(network) % SHARDS as u64).ok()?;
        // Nothing that holds the lock can panic half-way through a change.
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Some(mut shard) = self.clients.shard(self.network) else { return };
        if let Some(open) = shard.get_mut(&self.network) {
            open.connections -= 1;
            if open.connections == 0 {
                shard.remove(&self.network);
            }
        }
        if shard.capacity() > SPARE * (shard.len() + SPARE) {
            let room = 2 * shard.len();
            shard.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_so_many_connections_and_room_again_when_one_ends() {
        let clients = Clients::default();
        let first = clients.enter(ip("192.0.2.1"), 2).unwrap();
        let second = clients.enter(ip("::ffff:192.0.2.1"), 2).unwrap();
        assert!(clients.enter(ip("192.0.2.1"), 2).is_none());
        assert!(clients.enter(ip("192.0.2.2"), 2).is_some());
        drop(first);
        let third = clients.enter(ip("192.0.2.1"), 2);
        assert!(third.is_some() && clients.enter(ip("192.0.2.1"), 2).is_none());
        // A lower bound after a reload ends nothing and lets nobody in.
        assert!(clients.enter(ip("192.0.2.1"), 1).is_none());
        drop((second, third));
        assert!(clients.is_empty());
    }

    #[test]
    fn sixty_four_bits_of_ipv6_are_one_client() {
        let clients = Clients::default();
        let _one = clients.enter(ip("2001:db8::1"), 1).unwrap();
        assert!(clients.enter(ip("2001:db8::ffff:2"), 1).is_none());
        assert!(clients.enter(ip("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn the_connections_of_a_client_count_their_requests_together() {
        let clients = Clients::default();
        let _one = clients.enter(ip("192.0.2.1"), 9);
        let _two = clients.enter(ip("192.0.2.1"), 9);
        let ((connections, first), (_, second)) =
            (clients.streams(ip("192.0.2.1")).unwrap(), clients.streams(ip("192.0.2.1")).unwrap());
        assert_eq!(connections, 2);
        assert!(first.enter(2) && second.enter(2) && !first.enter(2) && !second.enter(1));
        first.leave();
        assert!(second.enter(2) && !second.enter(2));
        assert!(clients.streams(ip("192.0.2.2")).is_none(), "nobody is counted who has no connection");
    }

    #[test]
    fn many_threads_leave_nothing_behind() {
        let clients = Arc::new(Clients::default());
        let threads: Vec<_> = (0..4u32)
            .map(|thread| {
                let clients = Arc::clone(&clients);
                std::thread::spawn(move || {
                    for round in 0..50 {
                        let held: Vec<_> = (0..200u32)
                            .map(|n| {
                                let bits = n.wrapping_mul(2_654_435_761) ^ (thread & 1);
                                let wide = Ipv6Addr::from_bits(u128::from(bits) << 64).into();
                                let client = if round % 2 == 0 { IpAddr::V4(Ipv4Addr::from_bits(bits)) } else { wide };
                                clients.enter(client, 1000)
                            })
                            .collect();
                        assert!(held.iter().all(Option::is_some));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(clients.is_empty());
        let room: usize = clients.shards.iter().map(|shard| shard.lock().unwrap().capacity()).sum();
        assert!(room <= SHARDS * SPARE * SPARE, "{room}");
    }
}

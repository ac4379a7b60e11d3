//! Connections in HTTP/1 between two requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use super::Link;

/// Unused connections by the key of their server.
#[derive(Debug, Default)]
pub(super) struct Idle {
    links: RefCell<HashMap<u64, Vec<Unused>, ahash::RandomState>>,
}

#[derive(Debug)]
struct Unused {
    link: Link,
    /// Which answer of the resolver led to the server.
    edition: u32,
    until: Instant,
}

impl Idle {
    /// The connection that was used last is the one whose server has closed it least likely.
    pub(super) fn take(&self, key: u64) -> Option<(Link, u32)> {
        let mut links = self.links.borrow_mut();
        let list = links.get_mut(&key)?;
        while let Some(found) = list.pop() {
            if found.link.is_quiet() {
                return Some((found.link, found.edition));
            }
        }
        None
    }

    /// Keeps a connection, with the answer of the resolver that led to its server, unless `most` are kept already.
    pub(super) fn put(&self, key: u64, (link, edition): (Link, u32), most: usize, until: Instant) {
        let mut links = self.links.borrow_mut();
        let list = links.entry(key).or_default();
        if list.len() < most {
            list.push(Unused { link, edition, until });
        }
    }

    /// Closes what was unused for too long or closed by its server.
    pub(super) fn sweep(&self, now: Instant) {
        self.links.borrow_mut().retain(|_, list| {
            list.retain(|unused| now < unused.until && unused.link.is_quiet());
            !list.is_empty()
        });
    }
}

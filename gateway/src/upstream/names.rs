//! Names of servers and their addresses, as one worker knows them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long addresses are used before the name is resolved again.
const TTL: Duration = Duration::from_secs(5);

/// The names of one worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// By the key of the server: one name may stand for several ports.
    known: Rc<RefCell<HashMap<u64, Known>>>,
}

#[derive(Debug)]
struct Known {
    addresses: Rc<[SocketAddr]>,
    until: Instant,
}

impl Names {
    /// The addresses of a server's name. Only the first request waits for them; later ones get what is known while the name is resolved
    /// again beside them. A resolver that fails or hangs thus changes nothing.
    pub(super) async fn resolve(&self, key: u64, name: &str, port: u16) -> io::Result<Rc<[SocketAddr]>> {
        let now = Instant::now();
        if let Some(known) = self.known.borrow_mut().get_mut(&key) {
            if now >= known.until {
                // Whoever comes next must not resolve as well.
                known.until = now + TTL;
                let (names, name) = (self.clone(), name.to_owned());
                tokio::task::spawn_local(async move { names.refresh(key, &name, port).await });
            }
            return Ok(Rc::clone(&known.addresses));
        }
        let addresses = lookup(name, port).await?;
        self.learn(key, &addresses);
        Ok(addresses)
    }

    async fn refresh(&self, key: u64, name: &str, port: u16) {
        match lookup(name, port).await {
            Ok(addresses) => self.learn(key, &addresses),
            Err(error) => tracing::warn!(name, %error, "cannot be resolved again; its last addresses are used on"),
        }
    }

    fn learn(&self, key: u64, addresses: &Rc<[SocketAddr]>) {
        let known = Known { addresses: Rc::clone(addresses), until: Instant::now() + TTL };
        self.known.borrow_mut().insert(key, known);
    }
}

async fn lookup(name: &str, port: u16) -> io::Result<Rc<[SocketAddr]>> {
    let addresses: Rc<[SocketAddr]> = tokio::net::lookup_host((name, port)).await?.collect();
    if addresses.is_empty() { Err(io::ErrorKind::AddrNotAvailable.into()) } else { Ok(addresses) }
}

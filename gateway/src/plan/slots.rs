//! Slots: groups of servers of a service, of which one gets its requests, and another one the next release.

use std::fmt;
use std::time::Duration;

use probegate_policies::switch::Tolerance;

use super::HashKey;

/// The slots of a service.
#[derive(Debug)]
pub struct Slots {
    /// At least two, and [`Slots::MOST`] at the most, in the order of the file.
    pub each: Vec<Slot>,
    /// Index of the one that gets requests while nobody has switched.
    pub active: u8,
    /// How requests are moved where the command does not say it.
    pub switch: Switching,
}

impl Slots {
    /// How many there may be.
    pub const MOST: usize = 16;

    /// The index of a slot.
    pub fn index(&self, name: &str) -> Option<u8> {
        u8::try_from(self.each.iter().position(|slot| &*slot.name == name)?).ok()
    }

    /// A slot.
    pub fn get(&self, index: u8) -> Option<&Slot> {
        self.each.get(usize::from(index))
    }

    /// The servers of a slot, as bits by index.
    pub fn servers(&self, index: u8) -> u128 {
        self.get(index).map_or(0, |slot| slot.servers)
    }

    /// The slot of a server.
    pub fn of(&self, server: usize) -> Option<(u8, &Slot)> {
        let index = self.each.iter().position(|slot| slot.has(server))?;
        Some((u8::try_from(index).ok()?, self.each.get(index)?))
    }
}

/// One slot.
#[derive(Debug)]
pub struct Slot {
    /// Its name in the configuration: a log field and a metric label.
    pub name: Box<str>,
    /// Its servers, as bits by index in the upstream.
    pub servers: u128,
}

impl Slot {
    /// Whether a server is one of its own.
    pub fn has(&self, server: usize) -> bool {
        self.servers >> server & 1 == 1
    }
}

/// How requests are moved from one slot to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switching {
    /// What keeps a client in one slot while both get requests; without it, its address does.
    pub sticky: HashKey,
    /// How long the new slot is watched when it has everything.
    pub bake: Duration,
    /// When there are too many errors.
    pub tolerance: Tolerance,
    /// Requests with idempotent methods that went wrong in the new slot are sent to the old one while it is watched.
    pub retry: bool,
}

impl Default for Switching {
    fn default() -> Self {
        Self {
            sticky: HashKey::ClientIp,
            bake: Duration::from_secs(60),
            tolerance: Tolerance { percent: 5, min_requests: 50 },
            retry: true,
        }
    }
}

/// For people.
impl fmt::Display for Switching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sticky, bake, tolerance, retry } = self;
        write!(f, "watched for {bake:?}, back at more than {} % errors of at least ", tolerance.percent)?;
        write!(f, "{} requests; clients are told apart ", tolerance.min_requests)?;
        match sticky {
            HashKey::ClientIp => f.write_str("by address")?,
            HashKey::Header(name) => write!(f, "by the header {name}")?,
            HashKey::Cookie(name) => write!(f, "by the cookie {name}")?,
        }
        f.write_str(if *retry { "; requests with idempotent methods that fail are sent to the old slot" } else { "" })
    }
}

//! Which server of an upstream gets a request, which one is left out, and what is done when one fails.

use std::fmt;
use std::time::Duration;

use probegate_policies::ejection::Terms;
use probegate_policies::retry::Share;

/// How the requests of a service are shared among its servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancing {
    /// Who is chosen.
    pub choice: Choice,
    /// When a server is left out.
    pub terms: Terms,
    /// How long a server that comes back takes to get its whole share again; zero: none.
    pub slow_start: Duration,
    /// Statuses that count as failures of the server.
    pub fail_on: Vec<u16>,
    /// Requests that wait for a server with [`super::Server::max_in_flight`].
    pub queue: Queue,
    /// What is sent again.
    pub retries: Retries,
}

/// Who is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Of two that are drawn, the one with less to do.
    #[default]
    LeastInFlight,
    /// In turn.
    RoundRobin,
    /// The one that the request's key belongs to; without a key, as [`Choice::LeastInFlight`].
    Hash(HashKey),
}

/// What keeps requests together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address; of IPv6, the network of 64 bits.
    ClientIp,
    /// The value of this field.
    Header(Box<str>),
    /// The value of this cookie.
    Cookie(Box<str>),
}

/// Requests that wait for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many at the most; 0: none waits.
    pub max: usize,
    /// For how long.
    pub timeout: Duration,
}

/// What is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often one request, besides to servers that could not be connected to; 0: never.
    pub attempts: usize,
    /// How many of all.
    pub share: Share,
    /// What may be sent twice.
    pub methods: Methods,
    /// Idempotent requests that were not answered in time, too.
    pub on_timeout: bool,
    /// Idempotent requests that were answered with one of these statuses, too.
    pub on_status: Vec<u16>,
}

/// Idempotent methods (RFC 9110 §9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    /// Those there are. TRACE, which is one, never passes.
    pub const NAMES: [&'static str; 5] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"];

    /// All.
    pub const ALL: Self = Self(0b1_1111);

    /// Those that are named. `None`: one of them is none.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut bits = 0;
        for name in names {
            bits |= Self::bit(name.as_bytes())?;
        }
        Some(Self(bits))
    }

    /// Whether it is one of them.
    #[inline]
    pub fn has(self, method: &[u8]) -> bool {
        Self::bit(method).is_some_and(|bit| self.0 & bit != 0)
    }

    #[inline]
    fn bit(method: &[u8]) -> Option<u8> {
        match method {
            b"GET" => Some(1),
            b"HEAD" => Some(1 << 1),
            b"OPTIONS" => Some(1 << 2),
            b"PUT" => Some(1 << 3),
            b"DELETE" => Some(1 << 4),
            _ => None,
        }
    }
}

/// For people.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::NAMES.into_iter().filter(|name| self.has(name.as_bytes())).collect();
        f.write_str(&names.join(", "))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 100, timeout: Duration::from_secs(5) }
    }
}

impl Default for Retries {
    fn default() -> Self {
        let share = Share { percent: 20, min_per_second: 10 };
        Self { attempts: 2, share, methods: Methods::ALL, on_timeout: false, on_status: Vec::new() }
    }
}

/// For people.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeastInFlight => f.write_str("the one of two with less in flight"),
            Self::RoundRobin => f.write_str("in turn"),
            Self::Hash(HashKey::ClientIp) => f.write_str("by the client's address"),
            Self::Hash(HashKey::Header(name)) => write!(f, "by the header {name}"),
            Self::Hash(HashKey::Cookie(name)) => write!(f, "by the cookie {name}"),
        }
    }
}

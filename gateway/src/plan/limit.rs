//! Rate limits.

use std::fmt;
use std::time::Duration;

use probegate_policies::access::Origin;
use probegate_policies::fields::FieldName;
use probegate_policies::limit::{Decision, Quota, Rate};
use probegate_policies::reason::Reason;

/// One rate limit.
#[derive(Debug)]
pub struct Limit {
    /// Its name: in `RateLimit` fields, logs and metrics.
    pub name: Box<str>,
    /// The rate as it is written; `None`: it is one on requests in flight.
    pub rate: Option<Rate>,
    /// How much.
    pub quota: Quota,
    /// Who is let in out of the burst, and has to wait.
    pub delay: Delay,
    /// How many requests may be in flight, instead of a rate.
    pub in_flight: Option<InFlight>,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Only these methods count; empty: all.
    pub methods: Vec<Box<str>>,
    /// Only requests that were answered so count; `None`: all, when they come.
    pub count: Option<Counted>,
    /// It counts, and refuses nobody.
    pub shadow: bool,
    /// For how many hundredths of its keys it does more than count, where it is not in shadow mode.
    pub enforced: u32,
    /// Which answers tell a client what it has left.
    pub tells: Tells,
    /// How many keys are remembered.
    pub max_keys: usize,
    /// People who ask are told whom it counts, and not only a hash.
    pub show_keys: bool,
    /// It is counted in [`super::Plan::limit_store`], for all gateways together.
    pub shared: bool,
    /// Where it is defined.
    pub origin: Origin,
}

impl Limit {
    /// Whether requests with this method are counted.
    #[inline]
    pub fn counts(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|counted| counted.as_bytes() == method)
    }

    /// Whether it only counts those whose key is in this hundredth of all.
    #[inline]
    pub fn spares(&self, hundredth: impl FnOnce() -> u64) -> bool {
        self.shadow || self.enforced < 100 && hundredth() >= u64::from(self.enforced)
    }

    /// Whether this limit, in the place of another one, can go on with what that one has counted.
    pub fn continues(&self, other: &Self) -> bool {
        let periods = [self.quota.window(), other.quota.window()];
        let alike = self.quota.algorithm() == other.quota.algorithm()
            && (self.quota.algorithm() == probegate_policies::limit::Algorithm::Gcra || periods[0] == periods[1]);
        alike
            && self.in_flight.is_some() == other.in_flight.is_some()
            && self.name == other.name
            && self.key == other.key
            && self.max_keys == other.max_keys
    }

    /// Why it refuses a request. Where all clients together have used it up, it is not this one's doing.
    pub fn reason(&self) -> Reason {
        match self.in_flight {
            _ if !self.key.is_about_clients() => Reason::CapacityExceeded,
            None => Reason::LimitExceeded,
            Some(_) => Reason::InFlightExceeded,
        }
    }

    /// What it tells a request that counts if its answer says so, while `under_way` of its key are, this one included. `judge`: what so many at once are told.
    #[inline]
    pub fn beside(&self, under_way: u64, judge: impl Fn(u64) -> Decision) -> Decision {
        let alone = judge(1);
        if !alone.admitted || under_way <= 1 {
            return alone;
        }
        let all = judge(under_way);
        // There is room for it, but not beside all the others: their answers decide, and nobody knows when.
        if all.admitted { all } else { self.full() }
    }

    /// What it tells a request for which there is no place. When there will be one, nobody knows.
    pub fn full(&self) -> Decision {
        let seconds = if self.key.is_about_clients() { 1 } else { 5 };
        Decision { admitted: false, remaining: 0, reset: 0, retry_after: seconds * 1_000_000_000, delay: 0 }
    }
}

/// How many requests may be in flight for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// At the same time.
    pub most: u32,
    /// How many more wait for a place.
    pub queue: usize,
    /// How long one waits at the most.
    pub timeout: Duration,
}

/// Who is let in out of the burst, and has to wait until the rate would have let it through (nginx's `delay` and `nodelay`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Nobody.
    None,
    /// Whoever comes after this many beyond the rate.
    After(u32),
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::After(0) => f.write_str("all"),
            Self::After(count) => write!(f, "{count}"),
        }
    }
}

/// Which answers make a request count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Those with one of these statuses.
    pub status: Vec<u16>,
}

/// Which answers tell a client what it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tells {
    /// In `RateLimit` and `RateLimit-Policy`.
    pub when: Telling,
    /// In `X-RateLimit-Limit`, `-Remaining` and `-Reset` as well.
    pub legacy: bool,
}

/// When a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Never.
    Never,
    /// When it is refused.
    Refused,
    /// With every answer.
    Always,
}

/// Whose requests are counted together: those that have all of these in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitKey {
    /// What they have in common, at least one thing.
    pub parts: Box<[LimitPart]>,
    /// Leading bits of an IPv4 address that tell clients apart.
    pub v4_prefix: u8,
    /// Leading bits of an IPv6 address that tell clients apart.
    pub v6_prefix: u8,
}

impl LimitKey {
    /// Whether it tells clients apart, or what belongs to them: else, all of them are counted together.
    pub fn is_about_clients(&self) -> bool {
        let is_about = |part: &LimitPart| {
            !matches!(
                part,
                LimitPart::Path | LimitPart::Method | LimitPart::Host | LimitPart::Service | LimitPart::Route
            )
        };
        self.parts.iter().any(is_about)
    }
}

impl LimitKey {
    /// Whether only the client itself, by its address, can have used up what it counts. A header, a cookie or a token is shared by whoever sends it,
    /// and a wider network by neighbours.
    pub fn is_one_client(&self) -> bool {
        self.parts.contains(&LimitPart::ClientIp) && self.v4_prefix >= 32 && self.v6_prefix >= 64
    }
}

/// What requests may have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitPart {
    /// The client's address.
    ClientIp,
    /// The values of a header.
    Header(FieldName),
    /// The values of a cookie.
    Cookie(Box<str>),
    /// The values of a parameter in the query.
    Query(Box<str>),
    /// The path.
    Path,
    /// The method.
    Method,
    /// The host.
    Host,
    /// The service.
    Service,
    /// The route, with its service.
    Route,
    /// The token that let it in.
    Token,
    /// The client's certificate.
    ClientCertificate,
}

impl fmt::Display for LimitPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query {name}"),
            Self::Path => f.write_str("path"),
            Self::Method => f.write_str("method"),
            Self::Host => f.write_str("host"),
            Self::Service => f.write_str("service"),
            Self::Route => f.write_str("route"),
            Self::Token => f.write_str("token"),
            Self::ClientCertificate => f.write_str("client_certificate"),
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{part}")?;
        }
        if self.parts.contains(&LimitPart::ClientIp) {
            write!(f, " (/{}, /{})", self.v4_prefix, self.v6_prefix)?;
        }
        Ok(())
    }
}

//! Bans: who is kept out for what, and for how long.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use probegate_policies::access::Origin;
use probegate_policies::ban::{Escalation, Offence};
use probegate_policies::ip::IpSet;
use probegate_policies::route::PathPrefix;

use super::Deny;

/// What bans are called that no policy has pronounced, but people.
pub const BY_HAND: &str = "by_hand";

/// Clients that offend too often are kept out for a while.
#[derive(Debug)]
pub struct BanPolicy {
    /// Its name in the configuration: a log field and a metric label.
    pub name: Box<str>,
    /// What counts.
    pub offences: Offences,
    /// Only requests with these methods count; empty: all of them.
    pub methods: Vec<Box<str>>,
    /// Only requests for these paths count; empty: all of them.
    pub paths: Vec<PathPrefix>,
    /// The services that count and keep out, as indices; `None`: all of them, and what belongs to none counts as well.
    pub services: Option<Vec<usize>>,
    /// Offences that are too many.
    pub max_offences: usize,
    /// The time they are counted in.
    pub window: Duration,
    /// How long clients are kept out.
    pub escalation: Escalation,
    /// How long a ban counts after its end when the next one is measured.
    pub remember: Duration,
    /// Nobody is kept out: what would happen is counted and logged.
    pub shadow: bool,
    /// What those who are kept out see.
    pub deny: Deny,
    /// How many clients are remembered at most, as offenders and as banned.
    pub max_clients: usize,
    /// Networks that are never banned, by name. The first is `internal`.
    pub except: Vec<(Box<str>, Arc<IpSet>)>,
    /// Where it is defined.
    pub origin: Origin,
}

/// What counts against a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offences {
    /// A rule has refused it, for whatever reason.
    pub denied: bool,
    /// It has presented a wrong token.
    pub wrong_token: bool,
    /// A limit has refused it.
    pub limited: bool,
    /// What it sent is not HTTP.
    pub invalid: bool,
    /// It has asked for a host that is not here.
    pub unknown_host: bool,
    /// The app, or a file, has answered with one of these.
    pub statuses: Vec<u16>,
}

impl Offences {
    /// Whether this one counts.
    pub fn contains(&self, offence: Offence) -> bool {
        match offence {
            Offence::Denied => self.denied,
            Offence::WrongToken => self.denied || self.wrong_token,
            Offence::Limited => self.limited,
            Offence::Invalid => self.invalid,
            Offence::UnknownHost => self.unknown_host,
            Offence::Status(status) => self.statuses.contains(&status),
        }
    }
}

impl BanPolicy {
    /// Whether requests of the service (`None`: of none) have to do with it.
    #[inline]
    pub fn covers(&self, service: Option<usize>) -> bool {
        match (&self.services, service) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(services), Some(service)) => services.contains(&service),
        }
    }
}

/// The words of the configuration.
impl fmt::Display for Offences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.denied, "denied"),
            (self.wrong_token, "wrong_token"),
            (self.limited, "limited"),
            (self.invalid, "invalid"),
            (self.unknown_host, "unknown_host"),
        ];
        let words = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word.to_owned());
        let statuses = self.statuses.iter().map(|status| format!("status {status}"));
        f.write_str(&words.chain(statuses).collect::<Vec<_>>().join(", "))
    }
}

//! Active checks of servers.

use std::fmt;
use std::time::Duration;

use probegate_policies::health::Terms;

use super::AppToken;

/// How the servers of an upstream are checked.
#[derive(Debug)]
pub struct HealthCheck {
    /// What they are asked; `None`: a connection is enough.
    pub ask: Option<HealthRequest>,
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// For a whole check.
    pub timeout: Duration,
    /// How many in a row it takes.
    pub terms: Terms,
    /// Stands for all of the above, the token included.
    pub fingerprint: u64,
}

/// What a server is asked.
#[derive(Debug)]
pub struct HealthRequest {
    /// The path.
    pub path: Box<str>,
    /// `Host`; `None`: the server's own address.
    pub host: Option<Box<str>>,
    /// A token that the app wants to see.
    pub token: Option<AppToken>,
    /// The statuses that pass; empty: any 2xx.
    pub statuses: Vec<u16>,
}

/// For people.
impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ask {
            Some(ask) => {
                write!(f, "servers are asked for `{}`", ask.path)?;
                if let Some(host) = &ask.host {
                    write!(f, " of {host}")?;
                }
            }
            None => f.write_str("servers are connected to")?,
        }
        let Terms { fall, rise } = self.terms;
        write!(f, " every {:?}: down after {fall} failures in a row, up after {rise} passes", self.interval)
    }
}

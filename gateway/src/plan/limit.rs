//! Rate limits.

use std::fmt;

use probegate_policies::access::Origin;
use probegate_policies::limit::{Quota, Rate};

/// One rate limit.
#[derive(Debug)]
pub struct Limit {
    /// Its name: in `RateLimit` fields, logs and metrics.
    pub name: Box<str>,
    /// The rate as it is written.
    pub rate: Rate,
    /// How much.
    pub quota: Quota,
    /// Who is let in out of the burst, and has to wait.
    pub delay: Delay,
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// Only these methods count; empty: all.
    pub methods: Vec<Box<str>>,
    /// How many keys are remembered.
    pub max_keys: usize,
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

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKey {
    /// The client's address, with this many leading bits.
    ClientIp {
        /// For IPv4, 32 by default.
        v4_prefix: u8,
        /// For IPv6, 64 by default: one customer's network.
        v6_prefix: u8,
    },
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp { v4_prefix, v6_prefix } => write!(f, "client_ip (/{v4_prefix}, /{v6_prefix})"),
        }
    }
}

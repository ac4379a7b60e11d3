//! Keys about how often clients may come.

use probegate_policies::limit::Rate;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::shape::List;
use crate::config::value::{Count, DelayWord, Flag, Leaf, LimitKeyWord, Method};

/// A rate limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{rate: 10/s, burst: 20}`")]
pub(in crate::config) struct Limit {
    /// Whose requests are counted together. Default: `client_ip`.
    pub(in crate::config) key: Option<Leaf<LimitKeyWord>>,
    /// How many requests in which time, such as `10/s`.
    #[schemars(required)]
    pub(in crate::config) rate: Option<Leaf<Rate>>,
    /// How many requests may come at once on top of the first. Default: the rate's count less one, so that `5/m` allows five
    /// at once and then one every 12 seconds. 0 spaces requests strictly.
    pub(in crate::config) burst: Option<Leaf<Count>>,
    /// Who is let in out of the burst, and waits until the rate would have let it through: `none`, `all`, or a number of requests that do not have to. Default:
    /// `none`.
    pub(in crate::config) delay: Option<Leaf<DelayWord>>,
    /// Only these methods count. Default: all.
    pub(in crate::config) methods: Option<List<Leaf<Method>>>,
    /// Bits of an IPv4 address that tell clients apart. Default: 32.
    pub(in crate::config) ipv4_prefix: Option<Leaf<Count>>,
    /// Bits of an IPv6 address that tell clients apart. Default: 64, one customer's network.
    pub(in crate::config) ipv6_prefix: Option<Leaf<Count>>,
    /// Counted in `limit_store`, for all gateways together. Default: `false`.
    pub(in crate::config) shared: Option<Leaf<Flag>>,
    /// How many clients are remembered. Default: 262144.
    pub(in crate::config) max_keys: Option<Leaf<Count>>,
}

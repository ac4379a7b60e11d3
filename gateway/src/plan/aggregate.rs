//! Aggregates: one answer from what several services say.

use std::time::Duration;

use probegate_policies::access::{Origin, Rule};
use probegate_policies::aggregate::{Need, Terms};
use probegate_policies::host::HostTable;
use probegate_policies::probe::ProbeKind;

use super::Deny;

/// One answer from what several services say.
#[derive(Debug)]
pub struct Aggregate {
    /// Its name in the configuration: a log field and a metric label.
    pub name: Box<str>,
    /// The canonical path it is found at.
    pub path: Box<str>,
    /// Where it is found besides the listeners that serve probes: these hosts, all of them with index 0.
    pub hosts: HostTable,
    /// Whose answer it is; no two are the same service.
    pub members: Vec<AggregateMember>,
    /// Where it comes from.
    pub source: AggregateSource,
    /// In whose words it is given.
    pub kind: ProbeKind,
    /// Indices of services of whose servers all have to run one version.
    pub one_version: Vec<usize>,
    /// It fails while the gateway itself is not ready.
    pub gateway: bool,
    /// Who may ask.
    pub allow: Rule,
    /// What strangers see.
    pub deny: Deny,
    /// Who sees the names of services, and what is wrong with them; `None`: nobody.
    pub details: Option<Rule>,
    /// Where it is defined.
    pub origin: Origin,
}

impl Aggregate {
    /// The name of the gateway itself among the services in an answer.
    pub const GATEWAY: &str = "gateway";
}

/// When the gateway itself is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Indices of services of which one server at least has to be neither down nor drained.
    pub services: Vec<usize>,
}

/// A service of an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateMember {
    /// Index into the plan's services.
    pub service: usize,
    /// Index into its probes: which of them it is asked for.
    pub probe: usize,
    /// Whether all fails with it.
    pub need: Need,
}

/// Where the answer of an aggregate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateSource {
    /// The probes of its services, each from behind its shield.
    Probes {
        /// For all of them together.
        timeout: Duration,
        /// How many answers in a row it takes.
        terms: Terms,
    },
    /// The checks of their servers: nobody is asked.
    Checks {
        /// So many hundredths of the servers of a service have to be up; 0: one of them.
        up: u32,
    },
}

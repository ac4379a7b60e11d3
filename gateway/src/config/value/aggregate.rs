//! Words about aggregates.

use probegate_policies::probe::ProbeKind;
use schemars::{Schema, json_schema};

use super::choice::choice;
use super::{Invalid, Word};
use crate::config::suggest;

/// Where the answer of an aggregate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggregateSourceWord {
    /// Probes.
    Probes,
    /// Checks of servers.
    Checks,
}

choice!(AggregateSourceWord, "`probes` or `checks`", "probes" => Self::Probes, "checks" => Self::Checks);

/// Which probe services are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AggregateKindWord(pub(crate) ProbeKind);

choice!(
    AggregateKindWord, "`readyz`, `healthz` or `startupz`",
    "readyz" => Self(ProbeKind::Readyz), "healthz" => Self(ProbeKind::Healthz), "startupz" => Self(ProbeKind::Startupz),
);

//! Keys about aggregates.

use std::borrow::Cow;
use std::fmt;

use probegate_policies::host::HostPattern;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer as _, MapAccess, Visitor};

use super::Allow;
use crate::config::shape::List;
use crate::config::value::{
    AggregateKindWord, AggregateSourceWord, Count, DenyWord, ExactPath, Flag, Invalid, Leaf, Name, Percent, Seconds,
};

/// One answer from what several services say.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{path: /readyz}`")]
pub(in crate::config) struct Aggregate {
    /// Where clients ask.
    #[schemars(required)]
    pub(in crate::config) path: Option<Leaf<ExactPath>>,
    /// Hosts at which it is found, also where they belong to a service. Default: none. Listeners with `serve: probes` have it for every host.
    pub(in crate::config) hosts: Option<List<Leaf<HostPattern>>>,
    /// Which services. Default: all that have an app, and all of them are required.
    pub(in crate::config) services: Option<AggregateServices>,
    /// Where the answer comes from: `probes` (default) has the services asked, `checks` knows what the checks of their servers found.
    pub(in crate::config) from: Option<Leaf<AggregateSourceWord>>,
    /// Which probe the services are asked for: `readyz` (default), `healthz` or `startupz`.
    pub(in crate::config) probe: Option<Leaf<AggregateKindWord>>,
    /// For all questions together. Default: `800ms`, below the second after which Kubernetes gives up.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
    /// After how many failures in a row a service that passed fails. Default: 1.
    pub(in crate::config) fall: Option<Leaf<Count>>,
    /// After how many passes in a row a service that failed passes. Default: 1.
    pub(in crate::config) rise: Option<Leaf<Count>>,
    /// With `from: checks`: how much of a service's servers has to be up, such as `50%`. Default: one server.
    pub(in crate::config) up: Option<Leaf<Percent>>,
    /// Services of whose servers all have to run one version, as far as they get requests. Default: none.
    pub(in crate::config) one_version: Option<List<Leaf<Name>>>,
    /// Whether it fails while the gateway itself is not ready. Default: `true` for `readyz`, `false` for others.
    pub(in crate::config) gateway: Option<Leaf<Flag>>,
    /// Who may ask. Default: the network `internal`.
    pub(in crate::config) allow: Option<Allow>,
    /// What others see: 403 (default), 404, or `close` for no answer at all.
    pub(in crate::config) deny: Option<Leaf<DenyWord>>,
    /// Who sees the names of services, and what is wrong with them, among those who may ask; `off`: nobody. Default: the network `internal`.
    pub(in crate::config) details: Option<AggregateDetails>,
}

/// The services of an aggregate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{required: [shop], optional: [blog]}`")]
pub(in crate::config) struct AggregateServices {
    /// Those without which it fails.
    pub(in crate::config) required: Option<List<Leaf<Name>>>,
    /// Those of which it only tells.
    pub(in crate::config) optional: Option<List<Leaf<Name>>>,
}

/// Who sees what stands behind an answer.
#[derive(Debug)]
pub(in crate::config) enum AggregateDetails {
    /// Nobody.
    Off,
    /// Whom this lets in.
    To(Allow),
}

impl<'de> Deserialize<'de> for AggregateDetails {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DetailsVisitor)
    }
}

struct DetailsVisitor;

impl<'de> Visitor<'de> for DetailsVisitor {
    type Value = AggregateDetails;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`off`, `anyone` or a condition such as `{network: internal}`")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<AggregateDetails, E> {
        let hint = if value { "write `anyone`, or who" } else { "write `off`" };
        let wanted = "`off`, `anyone` or a condition such as `{network: internal}`";
        Err(E::custom(Invalid::found(wanted, &format!("`{value}`")).hint(hint)))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<AggregateDetails, E> {
        if word == "off" {
            return Ok(AggregateDetails::Off);
        }
        Allow::deserialize(word.into_deserializer()).map(AggregateDetails::To)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AggregateDetails, A::Error> {
        Allow::deserialize(MapAccessDeserializer::new(map)).map(AggregateDetails::To)
    }
}

impl JsonSchema for AggregateDetails {
    fn schema_name() -> Cow<'static, str> {
        "AggregateDetails".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"const": "off"}, generator.subschema_for::<Allow>()]})
    }
}

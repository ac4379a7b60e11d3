//! Keys about the store that limits are shared in.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use crate::config::shape::List;
use crate::config::value::{
    Count, DomainName, FilePath, Flag, Leaf, Name, OnFailureWord, Seconds, SecretText, StoreUrl, Text, Variable,
    Word as _,
};

/// Where limits with `shared: true` are counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{redis: \"redis://redis.internal:6379\", replicas: 3}`")]
pub(in crate::config) struct LimitStore {
    /// The Redis or Valkey server: `redis://HOST:PORT/DATABASE`, `rediss://…` for TLS, or `unix:/run/redis.sock`. A list of them for a cluster, or of sentinels.
    #[schemars(required)]
    pub(in crate::config) redis: Option<StoreUrls>,
    /// The servers belong to a cluster. Default: `false`.
    pub(in crate::config) cluster: Option<Leaf<Flag>>,
    /// The servers are sentinels, which are asked for the master.
    pub(in crate::config) sentinel: Option<Sentinel>,
    /// The user (ACL) on the server. Default: the server's own default user.
    pub(in crate::config) user: Option<Leaf<Text>>,
    /// The password on the server.
    pub(in crate::config) password: Option<Secret>,
    /// TLS, for `rediss://`.
    pub(in crate::config) tls: Option<StoreTls>,
    /// What every key in the store begins with. Default: `probegate`. Gateways that are to count apart need different ones.
    pub(in crate::config) prefix: Option<Leaf<Name>>,
    /// What keys are hashed with, the same on every gateway. Default: derived from the password.
    pub(in crate::config) secret: Option<Secret>,
    /// How long a request waits for the store. Default: `20ms`.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
    /// How many gateways share the store: each has its part of a limit while the store is gone. Default: 1.
    pub(in crate::config) replicas: Option<Leaf<Count>>,
    /// While the store is gone: `local` (default) counts on each gateway with its part of the limit, `open` lets everything pass, `closed` refuses with 503.
    pub(in crate::config) on_failure: Option<Leaf<OnFailureWord>>,
    /// Whether gateways tell each other of bans through it. Default: `true` where there are `bans`.
    pub(in crate::config) bans: Option<Leaf<Flag>>,
}

/// How sentinels are asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{master: mymaster}`")]
pub(in crate::config) struct Sentinel {
    /// The name that the sentinels have for the master.
    #[schemars(required)]
    pub(in crate::config) master: Option<Leaf<Text>>,
    /// The user on the sentinels. Default: their own default user.
    pub(in crate::config) user: Option<Leaf<Text>>,
    /// The password on the sentinels.
    pub(in crate::config) password: Option<Secret>,
}

/// Something that nobody else may know. Exactly one of `env`, `file` and `value` says what it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{env: REDIS_PASSWORD}`")]
pub(in crate::config) struct Secret {
    /// The environment variable that holds it.
    pub(in crate::config) env: Option<Leaf<Variable>>,
    /// The file that holds it; a line break at its end does not belong to it. Relative to the configuration file.
    pub(in crate::config) file: Option<Leaf<FilePath>>,
    /// The secret in clear text. For experiments.
    pub(in crate::config) value: Option<Leaf<SecretText>>,
}

/// TLS to the servers of a store.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{ca: internal-ca.pem}`")]
pub(in crate::config) struct StoreTls {
    /// The authorities to believe, in PEM. Default: the system's.
    pub(in crate::config) ca: Option<Leaf<FilePath>>,
    /// The gateway's own certificate in PEM, for servers that ask for one.
    pub(in crate::config) cert: Option<Leaf<FilePath>>,
    /// Its key in PEM.
    pub(in crate::config) key: Option<Leaf<FilePath>>,
    /// The name that the servers' certificates carry. Default: the host they are reached at.
    pub(in crate::config) server_name: Option<Leaf<DomainName>>,
}

/// One server, or several.
#[derive(Debug)]
pub(in crate::config) enum StoreUrls {
    /// One.
    One(Leaf<StoreUrl>),
    /// A list.
    Several(List<Leaf<StoreUrl>>),
}

impl<'de> Deserialize<'de> for StoreUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlsVisitor)
    }
}

struct UrlsVisitor;

impl<'de> Visitor<'de> for UrlsVisitor {
    type Value = StoreUrls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(StoreUrl::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StoreUrls, E> {
        StoreUrl::from_text(text).map(|url| StoreUrls::One(Leaf(url))).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<StoreUrls, A::Error> {
        List::deserialize(SeqAccessDeserializer::new(list)).map(StoreUrls::Several)
    }
}

impl JsonSchema for StoreUrls {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StoreUrls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [generator.subschema_for::<Leaf<StoreUrl>>(), generator.subschema_for::<List<Leaf<StoreUrl>>>()],
        })
    }
}

//! Keys about how often clients may come.

use std::borrow::Cow;
use std::fmt;

use probegate_policies::limit::Rate;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::config::shape::List;
use crate::config::value::{
    AlgorithmWord, CookieName, Count, DelayWord, FieldText, Flag, Leaf, LimitPartWord, Method, MethodsWord, ModeWord,
    Percent, Seconds, Status, TellingWord, Text, Word,
};

/// A limit on how often, or on how many at a time. Exactly one of `rate` and `max_in_flight`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{rate: 10/s, burst: 20}`")]
pub(in crate::config) struct Limit {
    /// What requests have in common that are counted together: one thing, or a list. Default: `client_ip`.
    pub(in crate::config) key: Option<LimitKey>,
    /// How many requests in which time, such as `10/s`.
    pub(in crate::config) rate: Option<Leaf<Rate>>,
    /// How many requests may come at once on top of the first. Default: the rate's count less one, so that `5/m` allows five
    /// at once and then one every 12 seconds. 0 spaces requests strictly.
    pub(in crate::config) burst: Option<Leaf<Count>>,
    /// Who is let in out of the burst, and waits until the rate would have let it through: `none`, `all`, or a number of requests that do not have to. Default:
    /// `none`.
    pub(in crate::config) delay: Option<Leaf<DelayWord>>,
    /// How requests are counted: `gcra`, exactly, or `fixed_window`, as django-ratelimit counts. Default: `gcra`.
    pub(in crate::config) algorithm: Option<Leaf<AlgorithmWord>>,
    /// Only these methods count: `ALL`, `UNSAFE` (DELETE, PATCH, POST and PUT), or a list. Default: `ALL`.
    pub(in crate::config) methods: Option<Methods>,
    /// Only requests that are answered so count. Default: all, when they come.
    pub(in crate::config) count: Option<Counted>,
    /// `enforce`, or `shadow`: it counts, and tells in logs and metrics whom it would have refused. Default: `enforce`.
    pub(in crate::config) mode: Option<Leaf<ModeWord>>,
    /// For which share of its keys it refuses, such as `10%`: the others are counted as in shadow mode. Default: `100%`.
    pub(in crate::config) enforce: Option<Leaf<Percent>>,
    /// Which answers say in `RateLimit` what is left: `refused`, `always` or `never`. Default: `refused`.
    pub(in crate::config) headers: Option<Leaf<TellingWord>>,
    /// Whether these answers have `X-RateLimit-Limit`, `-Remaining` and `-Reset` as well. Default: `false`.
    pub(in crate::config) legacy_headers: Option<Leaf<Flag>>,
    /// How many requests may be in flight at the same time, instead of a rate: from when they are let in until they are answered, tunnels until they end.
    pub(in crate::config) max_in_flight: Option<Leaf<Count>>,
    /// How many more requests of a key wait for one of `max_in_flight` places. Default: 0.
    pub(in crate::config) queue: Option<Leaf<Count>>,
    /// How long one waits there at the most. Default: `5s`.
    pub(in crate::config) queue_timeout: Option<Leaf<Seconds>>,
    /// Bits of an IPv4 address that tell clients apart. Default: 32.
    pub(in crate::config) ipv4_prefix: Option<Leaf<Count>>,
    /// Bits of an IPv6 address that tell clients apart. Default: 64, one customer's network.
    pub(in crate::config) ipv6_prefix: Option<Leaf<Count>>,
    /// Counted in `limit_store`, for all gateways together. Default: `false`.
    pub(in crate::config) shared: Option<Leaf<Flag>>,
    /// Whether `probegate top limits` tells whom it counts, such as addresses of clients, and not only a hash. Default: `false`.
    pub(in crate::config) show_keys: Option<Leaf<Flag>>,
    /// How many keys are remembered. Default: 262144; with `max_in_flight`, 65536 that have requests in flight.
    pub(in crate::config) max_keys: Option<Leaf<Count>>,
}

/// Which requests count. At least one key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{status: [401, 403]}`")]
pub(in crate::config) struct Counted {
    /// Statuses of answers that make their requests count.
    #[schemars(required)]
    pub(in crate::config) status: Option<List<Leaf<Status>>>,
}

/// What requests have in common.
#[derive(Debug)]
pub(in crate::config) enum LimitKey {
    /// One thing.
    One(LimitPart),
    /// All of these.
    Several(List<LimitPart>),
}

/// One thing that requests may have in common.
#[derive(Debug)]
pub(in crate::config) enum LimitPart {
    /// Something that every request has, or may have.
    Word(LimitPartWord),
    /// Something with a name.
    Named(LimitName),
}

/// A header, a cookie or a parameter. Exactly one of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{header: X-Tenant}`")]
pub(in crate::config) struct LimitName {
    /// The header whose values are counted apart.
    pub(in crate::config) header: Option<Leaf<FieldText>>,
    /// The cookie whose values are counted apart.
    pub(in crate::config) cookie: Option<Leaf<CookieName>>,
    /// The parameter of the query whose values are counted apart.
    pub(in crate::config) query: Option<Leaf<Text>>,
}

/// Which methods count.
#[derive(Debug)]
pub(in crate::config) enum Methods {
    /// A group.
    Word(MethodsWord),
    /// These.
    List(List<Leaf<Method>>),
}

impl<'de> Deserialize<'de> for LimitKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = LimitKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, or a list of such", LimitPartWord::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<LimitKey, E> {
                LimitPartWord::from_text(text).map(LimitPart::Word).map(LimitKey::One).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitKey, A::Error> {
                let name = LimitName::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LimitKey::One(LimitPart::Named(name)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<LimitKey, A::Error> {
                List::deserialize(SeqAccessDeserializer::new(list)).map(LimitKey::Several)
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for LimitPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor;

        impl<'de> Visitor<'de> for PartVisitor {
            type Value = LimitPart;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LimitPartWord::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<LimitPart, E> {
                LimitPartWord::from_text(text).map(LimitPart::Word).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LimitPart, A::Error> {
                LimitName::deserialize(MapAccessDeserializer::new(map)).map(LimitPart::Named)
            }
        }

        deserializer.deserialize_any(PartVisitor)
    }
}

impl<'de> Deserialize<'de> for Methods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MethodsVisitor;

        impl<'de> Visitor<'de> for MethodsVisitor {
            type Value = Methods;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(MethodsWord::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Methods, E> {
                MethodsWord::from_text(text).map(Methods::Word).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Methods, A::Error> {
                List::deserialize(SeqAccessDeserializer::new(list)).map(Methods::List)
            }
        }

        deserializer.deserialize_any(MethodsVisitor)
    }
}

impl JsonSchema for LimitKey {
    fn schema_name() -> Cow<'static, str> {
        "LimitKey".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<LimitPart>();
        json_schema!({"oneOf": [part, {"type": "array", "items": part, "minItems": 1}]})
    }
}

impl JsonSchema for LimitPart {
    fn schema_name() -> Cow<'static, str> {
        "LimitPart".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = LimitPartWord::schema();
        let name = generator.subschema_for::<LimitName>();
        json_schema!({"oneOf": [word, {"allOf": [name], "minProperties": 1, "maxProperties": 1}]})
    }
}

impl JsonSchema for Methods {
    fn schema_name() -> Cow<'static, str> {
        "Methods".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = MethodsWord::schema();
        json_schema!({"oneOf": [word, generator.subschema_for::<List<Leaf<Method>>>()]})
    }
}

//! Keys about the servers of an app: who is chosen, who is left out, what waits and what is sent again.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::config::shape::List;
use crate::config::suggest;
use crate::config::value::{
    BalanceWord, CookieName, Count, FieldText, Flag, Invalid, Leaf, Percent, RetryMethod, RetryWord, Seconds,
    ServerWord, Word,
};

/// One server.
#[derive(Debug)]
pub(in crate::config) enum Server {
    /// Where it listens.
    Word(ServerWord),
    /// And more.
    Detailed(Box<ServerDetails>),
}

/// One server, and what is special about it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{address: \"127.0.0.1:8000\", weight: 3}`")]
pub(in crate::config) struct ServerDetails {
    /// Where it listens: `127.0.0.1:8000`, `app:8000` or `unix:/run/app.sock`.
    #[schemars(required)]
    pub(in crate::config) address: Option<Leaf<ServerWord>>,
    /// Its share of the requests, relative to the others'. Default: 1.
    pub(in crate::config) weight: Option<Leaf<Count>>,
    /// Whether it is asked only when no other server may be. Default: `false`.
    pub(in crate::config) backup: Option<Leaf<Flag>>,
    /// How many requests it gets at a time, tunnels included; more wait, see `queue`. Default: any number.
    pub(in crate::config) max_in_flight: Option<Leaf<Count>>,
}

/// Who is chosen.
#[derive(Debug)]
pub(in crate::config) enum Balance {
    /// By how busy they are, or in turn.
    Word(BalanceWord),
    /// By something that the request has.
    Hash(HashOn),
}

/// Requests that have the same in common go to the same server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{hash: client_ip}`")]
pub(in crate::config) struct HashOn {
    /// What they have in common.
    #[schemars(required)]
    pub(in crate::config) hash: Option<HashKey>,
}

/// What requests have in common.
#[derive(Debug)]
pub(in crate::config) enum HashKey {
    /// The client's address.
    ClientIp,
    /// A header or a cookie.
    Named(HashName),
}

/// A header or a cookie. Exactly one of both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{cookie: sessionid}`")]
pub(in crate::config) struct HashName {
    /// The header whose value keeps requests together.
    pub(in crate::config) header: Option<Leaf<FieldText>>,
    /// The cookie whose value keeps requests together.
    pub(in crate::config) cookie: Option<Leaf<CookieName>>,
}

/// Requests that wait because every server is at as many as it may be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{max: 100, timeout: 5s}`, or `off`")]
pub(in crate::config) struct Queue {
    /// How many wait at the most, for all workers together. Default: 100.
    pub(in crate::config) max: Option<Leaf<Count>>,
    /// How long one waits at the most. Default: `5s`.
    pub(in crate::config) timeout: Option<Leaf<Seconds>>,
}

/// Requests that are sent again when a server did not answer them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{attempts: 2, budget: 20%}`, or `off`")]
pub(in crate::config) struct Retries {
    /// How often one request is sent again at the most. Default: 2.
    pub(in crate::config) attempts: Option<Leaf<Count>>,
    /// How many of all requests are sent again at the most. Default: `20%`.
    pub(in crate::config) budget: Option<Leaf<Percent>>,
    /// How many a second may be sent again in any case. Default: 10.
    pub(in crate::config) min_per_second: Option<Leaf<Count>>,
    /// Methods of requests that may be sent again when a server did not answer. Default: all that are idempotent, GET, HEAD, OPTIONS, PUT and DELETE.
    pub(in crate::config) methods: Option<List<Leaf<RetryMethod>>>,
    /// When idempotent requests are sent again besides: at a `timeout`, or at these statuses. Default: `[]`.
    pub(in crate::config) on: Option<List<Leaf<RetryWord>>>,
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ServerVisitor;

        impl<'de> Visitor<'de> for ServerVisitor {
            type Value = Server;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ServerWord::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Server, E> {
                ServerWord::from_text(text).map(Server::Word).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Server, E> {
                ServerWord::from_number(number).map(Server::Word).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Server, A::Error> {
                let details = ServerDetails::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Server::Detailed(Box::new(details)))
            }
        }

        deserializer.deserialize_any(ServerVisitor)
    }
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BalanceVisitor;

        impl<'de> Visitor<'de> for BalanceVisitor {
            type Value = Balance;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(BalanceWord::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Balance, E> {
                BalanceWord::from_text(text).map(Balance::Word).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Balance, A::Error> {
                HashOn::deserialize(MapAccessDeserializer::new(map)).map(Balance::Hash)
            }
        }

        deserializer.deserialize_any(BalanceVisitor)
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "`client_ip`, `{header: NAME}` or `{cookie: NAME}`";
        struct HashVisitor;

        impl<'de> Visitor<'de> for HashVisitor {
            type Value = HashKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<HashKey, E> {
                if word == "client_ip" {
                    return Ok(HashKey::ClientIp);
                }
                let invalid = Invalid::found(EXPECTED, &format!("`{word}`"));
                Err(E::custom(match suggest::nearest(word, ["client_ip"]) {
                    Some(_) => invalid.hint("did you mean `client_ip`?"),
                    None => invalid.hint(format!("write `{{cookie: {word}}}` or `{{header: {word}}}`")),
                }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HashKey, A::Error> {
                HashName::deserialize(MapAccessDeserializer::new(map)).map(HashKey::Named)
            }
        }

        deserializer.deserialize_any(HashVisitor)
    }
}

impl JsonSchema for Server {
    fn schema_name() -> Cow<'static, str> {
        "Server".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = ServerWord::schema();
        json_schema!({"oneOf": [word, generator.subschema_for::<ServerDetails>()]})
    }
}

impl JsonSchema for Balance {
    fn schema_name() -> Cow<'static, str> {
        "Balance".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = BalanceWord::schema();
        json_schema!({"oneOf": [word, generator.subschema_for::<HashOn>()]})
    }
}

impl JsonSchema for HashKey {
    fn schema_name() -> Cow<'static, str> {
        "HashKey".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<HashName>();
        json_schema!({"oneOf": [{"const": "client_ip"}, {"allOf": [name], "minProperties": 1, "maxProperties": 1}]})
    }
}

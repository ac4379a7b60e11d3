//! Keys about who may enter.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::config::shape::List;
use crate::config::suggest;
use crate::config::value::{Date, FieldText, FilePath, Flag, Invalid, Leaf, Name, SecretText, Sha256, Variable};

/// Tokens of which any one opens the door.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `header` and `slots`")]
pub(in crate::config) struct TokenSet {
    /// The header that carries the token. Default: `X-Probe-Token`.
    pub(in crate::config) header: Option<Leaf<FieldText>>,
    /// Whether apps see the header, too. Default: `false`, so that no app's log can hold the token.
    pub(in crate::config) forward: Option<Leaf<Flag>>,
    /// The tokens that are accepted, at least one. Two during a rotation.
    #[schemars(required)]
    pub(in crate::config) slots: Option<List<Slot>>,
}

/// One accepted token. Exactly one of `env`, `file`, `sha256` and `value` says which.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping such as `{name: ci, env: PROBE_TOKEN}`")]
pub(in crate::config) struct Slot {
    /// Its name in logs and metrics.
    #[schemars(required)]
    pub(in crate::config) name: Option<Leaf<Name>>,
    /// The environment variable that holds the token.
    pub(in crate::config) env: Option<Leaf<Variable>>,
    /// The file that holds the token; a line break at its end does not belong to it. Relative to the configuration file.
    pub(in crate::config) file: Option<Leaf<FilePath>>,
    /// The token's SHA-256 digest: the token itself is nowhere on this machine.
    pub(in crate::config) sha256: Option<Leaf<Sha256>>,
    /// The token in clear text. For experiments.
    pub(in crate::config) value: Option<Leaf<SecretText>>,
    /// Refused before this date.
    pub(in crate::config) not_before: Option<Leaf<Date>>,
    /// Refused from this date on.
    pub(in crate::config) expires: Option<Leaf<Date>>,
}

/// Who may enter.
#[derive(Clone, Debug)]
pub(in crate::config) enum Allow {
    /// `anyone`.
    Anyone,
    /// A mapping. Exactly one of its keys.
    Conditions(Box<Conditions>),
}

/// Who may enter. Exactly one key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Conditions {
    /// Clients whose address lies in this network.
    pub(in crate::config) network: Option<Leaf<Name>>,
    /// Clients that show a token of this set.
    pub(in crate::config) token: Option<Leaf<Name>>,
    /// Clients that showed a certificate of this set.
    pub(in crate::config) client_certificate: Option<Leaf<Name>>,
    /// Clients that meet at least one of these conditions.
    pub(in crate::config) any: Option<List<Allow>>,
    /// Clients that meet all of these conditions.
    pub(in crate::config) all: Option<List<Allow>>,
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AllowVisitor)
    }
}

struct AllowVisitor;

impl<'de> Visitor<'de> for AllowVisitor {
    type Value = Allow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`anyone` or a condition such as `{network: internal}`")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Allow, E> {
        if word == "anyone" {
            return Ok(Allow::Anyone);
        }
        let invalid = Invalid::found("`anyone` or a condition such as `{network: internal}`", &format!("`{word}`"));
        Err(E::custom(match word {
            "all" | "any" | "everyone" | "public" | "*" => invalid.hint("write `anyone`"),
            "none" | "nobody" | "deny" => invalid
                .hint("a network that nobody is in lets nobody in; to switch a probe off write `off` in its place"),
            _ => match suggest::nearest(word, ["anyone"]) {
                Some(_) => invalid.hint("did you mean `anyone`?"),
                None => {
                    invalid.hint(format!("write `{{network: {word}}}` for a network, `{{token: {word}}}` for a token"))
                }
            },
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Allow, A::Error> {
        Conditions::deserialize(MapAccessDeserializer::new(map))
            .map(|conditions| Allow::Conditions(Box::new(conditions)))
    }
}

impl JsonSchema for Allow {
    fn schema_name() -> Cow<'static, str> {
        "Allow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Who may enter.",
            "oneOf": [{"const": "anyone"}, {"allOf": [generator.subschema_for::<Conditions>()], "minProperties": 1, "maxProperties": 1}],
        })
    }
}

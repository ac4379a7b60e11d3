//! The words of a configuration: values that are written as one word and parse themselves.
//!
//! A type says with [`Word`] how it reads; [`Leaf`] makes it usable in the raw types. Reading goes through a visitor so that
//! every wrong shape (a number for a duration, a list for a name) is answered in the same voice, and the schema carries the
//! same pattern and description.

mod access;
mod address;
mod admin;
mod aggregate;
mod amount;
mod balance;
mod ban;
mod choice;
mod files;
mod headers;
mod invalid;
mod limit;
mod pages;
mod protocol;
mod shaping;
mod store;
mod template;
mod text;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

pub(super) use address::ServerWord;
pub(super) use admin::{AdminAddress, FileMode};
pub(super) use aggregate::{AggregateKindWord, AggregateSourceWord};
pub(super) use amount::{Count, Date, Seconds, Size, Workers};
pub(super) use balance::{BalanceWord, CookieName, FailureStatus, Percent, RetryMethod, RetryWord};
pub(super) use ban::OffenceStatus;
pub(super) use choice::{DenyWord, Flag, ListenerWord, Method, MissingWord, QueryWord, ServeWord, Upgrade};
pub(super) use files::{AbsentWord, CacheControlWord, FileName, IndexWord, MediaType, NamePattern};
pub(super) use headers::{FieldOrAny, FramesWord, OriginWord, RedirectStatus, ValueOrOff};
pub(super) use invalid::{Invalid, Said, UNTOLD};
pub(super) use limit::{AlgorithmWord, DelayWord, LimitPartWord, MethodsWord, ModeWord, Status, TellingWord};
pub(super) use pages::{PageWord, StatusesWord};
pub(super) use protocol::{AcmeDirectory, ChallengeWord, DomainName, ProtocolWord, RedirectWord, ServerHeaderWord};
pub(super) use shaping::{ByteRateWord, CodingWord};
pub(super) use store::{OnFailureWord, StoreUrl};
pub(super) use template::TemplateText;
pub(super) use text::{ExactPath, FieldText, FilePath, Host, LogLevel, Name, SecretText, Sha256, Text, Variable};

/// A value that is written as one word.
pub(super) trait Word: Sized {
    /// What to write, for "expected …": "a duration such as `10s`".
    const EXPECTED: &'static str;

    /// Regular expression for the schema; empty: any text.
    const PATTERN: &'static str = "";

    /// Reads text.
    fn from_text(text: &str) -> Result<Self, Invalid>;

    /// Reads a plain number, for the few words that are numbers too.
    fn from_number(number: u64) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("the number `{number}`"));
        // A name of digits only, say, is right but for the quotes.
        let quotes_help = Self::from_text(&number.to_string()).is_ok();
        Err(if quotes_help { invalid.hint(format!("put it in quotes: `\"{number}\"`")) } else { invalid })
    }

    /// Reads `true` or `false`, for the word that is either.
    fn from_bool(value: bool) -> Result<Self, Invalid> {
        let invalid = Invalid::expected::<Self>(&format!("`{value}`"));
        Err(if Self::PATTERN.is_empty() { invalid.hint(format!("put it in quotes: `\"{value}\"`")) } else { invalid })
    }

    /// The schema of the word.
    fn schema() -> Schema {
        if Self::PATTERN.is_empty() {
            json_schema!({"type": "string"})
        } else {
            json_schema!({"type": "string", "pattern": Self::PATTERN})
        }
    }
}

/// A [`Word`] in a raw type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf<T>(pub(super) T);

impl<'de, T: Word> Deserialize<'de> for Leaf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeafVisitor(PhantomData)).map(Self)
    }
}

struct LeafVisitor<T>(PhantomData<T>);

impl<T: Word> LeafVisitor<T> {
    fn refuse<E: Error>(found: &str) -> Result<T, E> {
        Err(E::custom(Invalid::expected::<T>(found)))
    }
}

impl<'de, T: Word> Visitor<'de> for LeafVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::from_number(number).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Self::refuse(&format!("the number `{number}`")),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let invalid = Invalid::expected::<T>(&format!("the number `{number}`"));
        Err(E::custom(if T::PATTERN.is_empty() { invalid.hint("put it in quotes") } else { invalid }))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value).map_err(E::custom)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Self::refuse("nothing")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        Self::refuse("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<T, A::Error> {
        Self::refuse("a mapping")
    }
}

impl<T: Word> JsonSchema for Leaf<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Leaf".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = T::schema();
        let mut description = T::EXPECTED.to_owned();
        if let Some(first) = description.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        schema.insert("description".into(), description.into());
        schema
    }
}

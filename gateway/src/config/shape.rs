//! The shapes that raw types are made of: lists, mappings by name, things that can be switched off.
//!
//! [`super::read`] replaces what it could not read by `null`. Lists and mappings keep such a hole as `None`: the other elements
//! keep their indices, and a name whose definition is broken is still known as a name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::value::Invalid;

/// A list.
#[derive(Clone, Debug)]
pub(super) struct List<T>(Vec<Option<T>>);

impl<T> List<T> {
    /// Whether the list was written without elements. One whose elements are all broken is not empty.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> IntoIterator for List<T> {
    type Item = (usize, T);
    type IntoIter = std::iter::FilterMap<
        std::iter::Enumerate<std::vec::IntoIter<Option<T>>>,
        fn((usize, Option<T>)) -> Option<(usize, T)>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().enumerate().filter_map(|(index, element)| Some((index, element?)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData)).map(Self)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<Option<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(elements)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Err(E::custom(Invalid::found("a list", &format!("`{text}`")).hint(format!("write `[{text}]`"))))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>()})
    }
}

/// Definitions by name, in the order of the text.
#[derive(Clone, Debug)]
pub(super) struct Named<T>(Vec<(Box<str>, Option<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The names, in the order of the text.
    pub(super) fn names(&self) -> Vec<Box<str>> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl<T> IntoIterator for Named<T> {
    type Item = (Box<str>, Option<T>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// All names; `None` where the definition could not be read.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedVisitor(PhantomData)).map(Self)
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Vec<(Box<str>, Option<T>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping from names to their definitions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Named".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": generator.subschema_for::<T>()})
    }
}

/// Something that is there, or switched `off`.
#[derive(Clone, Debug)]
pub(super) enum Toggle<T> {
    /// Switched off.
    Off,
    /// There, like this.
    On(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Toggle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToggleVisitor(PhantomData))
    }
}

struct ToggleVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ToggleVisitor<T> {
    type Value = Toggle<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or `off`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "off" => Ok(Toggle::Off),
            "on" => Err(E::custom(
                Invalid::found("a mapping or `off`", "`on`")
                    .hint("write `{}`, or leave the key out to get its default"),
            )),
            "no" | "none" | "false" | "disabled" => {
                Err(E::custom(Invalid::found("a mapping or `off`", &format!("`{text}`")).hint("write `off`")))
            }
            _ => Err(E::custom(Invalid::found("a mapping or `off`", &format!("`{text}`")))),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        let hint = if value { "write `{}`, or leave the key out to get its default" } else { "write `off`" };
        Err(E::custom(Invalid::found("a mapping or `off`", &format!("`{value}`")).hint(hint)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Toggle::On)
    }
}

impl<T: JsonSchema> JsonSchema for Toggle<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Toggle".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"const": "off"}, generator.subschema_for::<T>()]})
    }
}

/// Something with a preset: `true` for all of it, `false` for none, or a mapping that says what differs.
#[derive(Clone, Debug)]
pub(super) enum Preset<T> {
    /// None of it.
    Off,
    /// There, with these differences.
    On(T),
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Preset<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PresetVisitor(PhantomData))
    }
}

struct PresetVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for PresetVisitor<T> {
    type Value = Preset<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false` or a mapping")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(if value { Preset::On(T::default()) } else { Preset::Off })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Preset::On)
    }
}

impl<T: JsonSchema> JsonSchema for Preset<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Preset".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"type": "boolean"}, generator.subschema_for::<T>()]})
    }
}

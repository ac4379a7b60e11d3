//! YAML text to a tree, with the place of everything in it and without stopping at the first mistake.
//!
//! `serde_yaml` tells positions only with errors, so [`Seed`] makes every scalar fail on purpose: it keeps the value aside,
//! returns an error, and finds the scalar's line and column in that error once the parser has stamped it. One pass over the
//! text gives the values and all positions. An alias is found at the place of its anchor, where its text stands.

mod syntax;

use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Value};

use super::ConfigPath;
use super::locate::{Lines, Locations};
use super::path::Segment;
use super::problem::{Problem, Severity, Span};
use super::value::Said;

/// A text that was read.
pub(super) struct Document {
    /// Its values. Whatever was in `problems` has been left out or stands as `null`.
    pub(super) value: Value,
    /// Where they stand.
    pub(super) locations: Locations,
    /// What is not allowed in any part of a configuration: duplicate keys, tags, keys that are not text, empty values.
    pub(super) problems: Vec<Problem>,
    /// Keys that are not text, which have been left out.
    pub(super) unnamed: Vec<ConfigPath>,
}

/// Reads the text; fails with the one problem that kept it from being YAML.
pub(super) fn parse(text: &str) -> Result<Document, Problem> {
    let mut reader = Reader::new(text);
    let result = Seed(&mut reader).deserialize(serde_yaml::Deserializer::from_str(text));
    let value = match reader.settle(result) {
        Ok(value) => value,
        Err(error) => return Err(syntax::problem(text, &error)),
    };
    let Reader { locations, problems, unnamed, .. } = reader;
    Ok(Document { value, locations, problems, unnamed })
}

/// What has been gathered so far, and where the parser is.
struct Reader<'t> {
    lines: Lines<'t>,
    path: ConfigPath,
    /// The scalar that has just failed on purpose.
    scalar: Option<Value>,
    locations: Locations,
    problems: Vec<Problem>,
    unnamed: Vec<ConfigPath>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            lines: Lines::new(text),
            path: ConfigPath::root(),
            scalar: None,
            locations: Locations::default(),
            problems: Vec::new(),
            unnamed: Vec::new(),
        }
    }

    /// Turns the failure of a scalar back into the scalar, and keeps the place the failure gives away.
    fn settle<E: fmt::Display>(&mut self, result: Result<Value, E>) -> Result<Value, E> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(scalar) = self.scalar.take() else {
            return Err(error);
        };
        let span = self.span(&error, &scalar);
        if scalar.is_null() && !self.path.is_root() {
            let message = match self.path.segments().last() {
                Some(Segment::Key(key)) => format!("`{key}` has no value"),
                _ => "this list element has no value".to_owned(),
            };
            let span = self.locations.key(&self.path).or_else(|| span.clone());
            self.report(self.path.clone(), message, None, "write a value, or remove it to get the default", span);
        }
        if let Some(span) = span {
            self.locations.set_scalar(self.path.clone(), span);
        }
        Ok(scalar)
    }

    fn span<E: fmt::Display>(&self, error: &E, scalar: &Value) -> Option<Span> {
        let (line, column) = place(&error.to_string())?;
        // Numbers are found as long as they are written as JSON writes them.
        let content = scalar.as_str().map_or_else(|| scalar.to_string(), str::to_owned);
        self.lines.scalar(line, column, Some(&content))
    }

    /// `discreet`: the message without what was found, where that is in it.
    fn report(&mut self, path: ConfigPath, message: String, discreet: Option<&str>, hint: &str, span: Option<Span>) {
        self.problems.push(Problem {
            severity: Severity::Error,
            path,
            message,
            hint: Some(hint.to_owned()),
            discreet: discreet.map(|said| Box::new(Said { message: said.to_owned(), hint: Some(hint.to_owned()) })),
            span,
        });
    }

    /// Reads one value with `path` extended by one step.
    fn inside<T>(&mut self, segment: Segment, read: impl FnOnce(&mut Self) -> T) -> T {
        let below = self.path.with(segment);
        let path = std::mem::replace(&mut self.path, below);
        let value = read(self);
        self.path = path;
        value
    }

    /// Reads a mapping's next key. `Ok(None)`: there is none.
    fn key<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Option<(Value, Option<Span>)>, A::Error> {
        match map.next_key_seed(Seed(self)) {
            Ok(None) => Ok(None),
            // A mapping or a list: nothing that could be the name of anything.
            Ok(Some(_)) => Ok(Some((Value::Null, None))),
            Err(error) => match self.scalar.take() {
                Some(key) => Ok(Some((key.clone(), self.span(&error, &key)))),
                None => Err(error),
            },
        }
    }

    /// Says why a key cannot be used, if it cannot.
    fn refuse_key(&mut self, key: &Value, span: Option<&Span>, map: &Map<String, Value>) -> bool {
        const TEXT: &str = "a key must be text";
        let (message, hint) = match key {
            Value::String(key) if key == "<<" => (
                "merge keys (`<<`) are not supported".to_owned(),
                "write the keys out, or use an alias for the whole value",
            ),
            Value::String(key) if map.contains_key(key) => {
                let first = self.locations.origin(&self.path.key(key)).line;
                (format!("`{key}` is already defined on line {first}"), "remove one of the two")
            }
            Value::String(_) => return false,
            Value::Null | Value::Array(_) | Value::Object(_) => (TEXT.to_owned(), "write a name"),
            Value::Bool(_) | Value::Number(_) => (format!("{TEXT}, found `{key}`"), "put the key in quotes"),
        };
        match key.as_str() {
            Some(name) => self.report(self.path.key(name), message, None, hint, span.cloned()),
            // It may be a password that became a key: no path tells it.
            None => {
                self.unnamed.push(self.path.key(&key.to_string()));
                self.report(self.path.key("?"), message, Some(TEXT), hint, span.cloned());
            }
        }
        true
    }
}

/// Reads one value, whatever it is.
struct Seed<'r, 't>(&'r mut Reader<'t>);

impl Seed<'_, '_> {
    fn keep<E: serde::de::Error>(self, scalar: impl Into<Value>) -> Result<Value, E> {
        self.0.scalar = Some(scalar.into());
        Err(E::custom("a scalar"))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.keep(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.keep(value)
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.keep(value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.keep(value)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.keep(value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // Infinity and "not a number" do not exist in JSON's data model. As text they are refused wherever a number is wanted.
        match serde_json::Number::from_f64(value) {
            Some(number) => self.keep(number),
            None => self.keep(value.to_string()),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.keep(value)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.keep(Value::Null)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.keep(Value::Null)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, content) = tagged.variant::<String>()?;
        let span = self.0.locations.value(&self.0.path);
        let path = self.0.path.clone();
        // A password that begins with `!` is read as a tag.
        let message = format!("tags such as `!{tag}` are not supported");
        self.0.report(path, message, Some("tags are not supported"), "remove the tag", span);
        content.newtype_variant_seed(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            let element = self.0.inside(Segment::Index(values.len()), |reader| {
                let element = list.next_element_seed(Seed(reader)).transpose()?;
                Some(reader.settle(element))
            });
            match element {
                Some(value) => values.push(value?),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, span)) = self.0.key(&mut map)? {
            if self.0.refuse_key(&key, span.as_ref(), &values) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let Value::String(key) = key else { continue };
            let value = self.0.inside(Segment::Key(key.as_str().into()), |reader| {
                if let Some(span) = span {
                    reader.locations.set_key(reader.path.clone(), span);
                }
                let value = map.next_value_seed(Seed(reader));
                reader.settle(value)
            })?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

/// The line and column at the end of one of the parser's messages: `… at line 3 column 7`.
fn place(message: &str) -> Option<(usize, usize)> {
    let Some((_, place)) = message.rsplit_once(" at line ") else {
        // The parser leaves the very first place out.
        return Some((1, 1));
    };
    let (line, column) = place.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

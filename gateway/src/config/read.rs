//! Text to raw types, with every mistake and not just the first one.
//!
//! serde stops at an error. So the error is written down with its path, the value it is about is cut out of the tree, and the
//! tree is read again until nothing is left to complain about. What was cut out is remembered: nobody should be told that a key
//! is missing, or a name undefined, whose only mistake is being misspelt.

mod tree;
mod wording;

use std::collections::HashSet;

use serde_json::Value;

use super::locate::Locations;
use super::path::Segment;
use super::problem::{Problem, Severity};
use super::{ConfigPath, raw, yaml};
use tree::Tree;
use wording::Fault;

/// What could be read of a configuration.
pub(super) struct Reading {
    /// The raw configuration; `None` when not even its top is one.
    pub(super) config: Option<raw::Config>,
    /// Where its values stand.
    pub(super) locations: Locations,
    /// What was cut out of it.
    pub(super) broken: HashSet<ConfigPath>,
    /// Why.
    pub(super) problems: Vec<Problem>,
}

/// Mistakes after which reading stops: more would not be read by anybody either.
const MOST_PROBLEMS: usize = 100;

/// Reads a text; fails with the one problem that kept it from being YAML.
pub(super) fn read(text: &str) -> Result<Reading, Problem> {
    let yaml::Document { mut value, locations, mut problems, unnamed } = yaml::parse(text)?;
    let mut broken: HashSet<ConfigPath> = problems.iter().map(|problem| problem.path.clone()).chain(unnamed).collect();
    if value.is_null() {
        // An empty file has no services, and that is all that is wrong with it.
        value = Value::Object(serde_json::Map::new());
    }
    let config = loop {
        let error = match serde_path_to_error::deserialize::<_, raw::Config>(Tree(&value)) {
            Ok(config) => break Some(config),
            Err(error) => error,
        };
        let mut path = config_path(error.path());
        let Fault { message, hint, discreet, at_key, meant } = wording::fault(&error.inner().to_string());
        if !is_cut(&value, &path) {
            let span = if at_key { locations.key(&path) } else { locations.value(&path) };
            if let Some(meant) = meant
                && let Some(parent) = path.parent()
            {
                broken.insert(parent.key(&meant));
            }
            problems.push(Problem { severity: Severity::Error, path: path.clone(), message, hint, discreet, span });
        } else if let Some(parent) = path.parent() {
            // The hole itself is what cannot be read here; what it leaves behind is of no use without it.
            path = parent;
        }
        if path.is_root() || problems.len() >= MOST_PROBLEMS {
            break None;
        }
        cut(&mut value, &path, at_key);
        broken.insert(path);
    };
    Ok(Reading { config, locations, broken, problems })
}

fn config_path(path: &serde_path_to_error::Path) -> ConfigPath {
    path.iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
            serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.as_str().into())),
            // No raw type is a serde enum, and keys that are not text were refused before.
            serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
        })
        .collect()
}

fn is_cut(value: &Value, path: &ConfigPath) -> bool {
    let mut here = value;
    for segment in path.segments() {
        let below = match segment {
            Segment::Key(key) => here.get(&**key),
            Segment::Index(index) => here.get(index),
        };
        match below {
            Some(below) => here = below,
            None => return false,
        }
    }
    here.is_null()
}

/// Takes a key away with its value, or leaves `null` where a value stood.
fn cut(value: &mut Value, path: &ConfigPath, with_key: bool) {
    let Some((last, parents)) = path.segments().split_last() else {
        return;
    };
    let mut here = value;
    for segment in parents {
        let below = match segment {
            Segment::Key(key) => here.get_mut(&**key),
            Segment::Index(index) => here.get_mut(index),
        };
        match below {
            Some(below) => here = below,
            None => return,
        }
    }
    match (last, here) {
        (Segment::Key(key), Value::Object(map)) if with_key => {
            map.shift_remove(&**key);
        }
        (Segment::Key(key), Value::Object(map)) => {
            map.insert(String::from(&**key), Value::Null);
        }
        (Segment::Index(index), Value::Array(list)) => {
            if let Some(element) = list.get_mut(*index) {
                *element = Value::Null;
            }
        }
        _ => {}
    }
}

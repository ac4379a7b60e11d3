//! Configuration: from YAML to a [`Plan`], or to every problem at once with line, caret and hint.
//!
//! Three steps. `yaml` and `read` turn text into `raw` types, which are what was written; `compile` proves them by making
//! a plan, which is what runs; `problem` shows people what stood in the way. The only door is this file.
//!
//! Invariant: no plan comes out of a file with an error in it, and no secret ends up in a message.

mod compile;
mod environment;
mod lint;
mod locate;
mod path;
mod problem;
mod raw;
mod read;
mod shape;
mod suggest;
mod value;
mod yaml;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;

pub(crate) use environment::read_file;
pub use environment::{Environment, System};
pub use path::{ConfigPath, Segment};
pub use problem::{Problem, Problems, Severity, Span, render};

use crate::plan::Plan;

/// The default configuration, commented: what runs when nothing is configured, but for the server.
pub const DEFAULT: &str = include_str!("config/default.yaml");

/// The largest file that is read as a configuration, in bytes.
const LARGEST_FILE: usize = 16 << 20;

/// The server in [`DEFAULT`].
const DEFAULT_SERVER: &str = "127.0.0.1:8000";

/// The text of a configuration and what to call it.
#[derive(Clone)]
pub struct Source {
    /// Shown in messages: the path of the file, as it was given.
    pub name: String,
    /// The YAML.
    pub text: String,
}

impl fmt::Debug for Source {
    /// Without the text, which may hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A configuration that works.
#[derive(Debug)]
pub struct Loaded {
    /// What to run from.
    pub plan: Plan,
    /// What is odd about it, in the order of the file.
    pub lints: Vec<Problem>,
    /// What it was made from. For [`render`].
    pub source: Source,
}

impl Loaded {
    /// The lints as people read them; empty when there are none.
    pub fn render_lints(&self, colour: bool) -> String {
        render(&self.lints, &self.source, colour)
    }
}

/// Why a file gives no plan.
#[derive(Debug)]
pub enum Failure {
    /// It could not be read.
    Unreadable {
        /// The file, as it was given.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It could be read, and something in it is wrong.
    Invalid {
        /// What was read.
        source: Source,
        /// What is wrong.
        problems: Problems,
    },
}

impl Failure {
    /// The failure as people read it.
    pub fn render(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                format!("error: {self}\n  = help: `probegate init` prints a configuration to begin with\n")
            }
            Self::Unreadable { .. } => format!("error: {self}\n"),
            Self::Invalid { source, problems } => problems.render(source, colour),
        }
    }
}

impl fmt::Display for Failure {
    /// One line, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "`{}` cannot be read: {error}", path.display()),
            Self::Invalid { source, problems } => write!(f, "{}: {problems}", source.name),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            Self::Invalid { problems, .. } => Some(problems),
        }
    }
}

/// Reads and compiles a file. Relative paths in it begin at its folder.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let unreadable = |error| Failure::Unreadable { path: path.to_owned(), error };
    let bytes = environment::read_named(path, LARGEST_FILE).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))?;
    let source = Source { name: path.display().to_string(), text };
    let system = System::new(path.parent().unwrap_or_else(|| Path::new("")));
    compile(&source, &system).map_err(|problems| Failure::Invalid { source, problems })
}

/// Compiles a configuration. What it reads from around it, it reads through `environment`.
pub fn compile(source: &Source, environment: &dyn Environment) -> Result<Loaded, Problems> {
    let reading = read::read(&source.text).map_err(Problems::one)?;
    let mut cx = compile::Context::new(&reading.locations, &reading.broken, environment, reading.problems);
    let plan = reading.config.and_then(|config| compile::plan(config, &mut cx));
    let (problems, mut lints) = cx.finish();
    match (plan, Problems::new(problems)) {
        (Some(plan), None) => {
            problem::sort(&mut lints);
            Ok(Loaded { plan, lints, source: source.clone() })
        }
        (_, Some(problems)) => Err(problems),
        (None, None) => Err(Problems::one(problem::unexplained())),
    }
}

/// The default configuration for one server, `127.0.0.1:8000` or `unix:/run/app.sock`.
pub fn default_source(server: &str) -> Source {
    let quoted = serde_json::Value::from(server).to_string();
    Source {
        name: "default configuration".to_owned(),
        text: DEFAULT.replace(&format!("\"{DEFAULT_SERVER}\""), &quoted),
    }
}

/// A duration as it is written in configurations and in commands: `10s`, `5m`.
///
/// # Errors
/// It is none, for people.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    use self::value::Word as _;
    value::Seconds::from_text(text).map(|value::Seconds(time)| time).map_err(|error| match error.parts() {
        (message, Some(hint)) => format!("{message}: {hint}"),
        (message, None) => message.to_owned(),
    })
}

/// The JSON Schema of a configuration, for editors and for CI.
pub fn schema() -> serde_json::Value {
    let settings = SchemaSettings::draft07();
    let mut schema = settings.into_generator().into_root_schema_for::<raw::Config>().to_value();
    forbid_null(&mut schema);
    schema
}

/// Optional keys may be left out, but a key without a value is an error. `Option` would allow both.
fn forbid_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    match schema {
        Value::Array(list) => list.iter_mut().for_each(forbid_null),
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            for key in ["anyOf", "oneOf"] {
                if let Some(Value::Array(choices)) = map.get_mut(key) {
                    choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                }
            }
            map.values_mut().for_each(forbid_null);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

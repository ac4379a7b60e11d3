//! What a service or a route changes about its requests and answers. A route has what its service has, but for what it says itself.

use std::sync::Arc;

use probegate_policies::access::Origin;
use probegate_policies::cors::Origins;
use probegate_policies::fields::FieldName;
use probegate_policies::route::PathPrefix;

use super::Template;

/// What is changed. Nothing of it is there for most services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Fields of requests.
    pub request: RequestEdits,
    /// Fields of answers, the app's and the gateway's own.
    pub answer: AnswerEdits,
    /// What [`AnswerEdits::defaults`] were made of.
    pub security: SecurityGroups,
    /// Who may read answers.
    pub cors: Option<Arc<Cors>>,
    /// The path that the app gets.
    pub rewrite: Option<Rewrite>,
    /// Where clients are sent, in place of an answer of the app's.
    pub redirect: Option<Redirect>,
}

/// Where clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The place. Its host is written there, or the one that was asked for; or it has none, and begins with `/`.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The query of the request follows.
    pub keep_query: bool,
    /// The place is on the host that was asked for.
    pub relative: bool,
    /// Where it is said.
    pub origin: Origin,
}

/// Groups of fields with their values that answers get which have none of the group.
pub type SecurityGroups = Vec<Vec<(&'static str, Box<str>)>>;

/// Which origins may read answers, and what they may send. Lists are as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// The origins.
    pub origins: Origins,
    /// Methods, never empty.
    pub methods: Box<str>,
    /// Fields that may be sent; empty: those that need no question.
    pub headers: Box<str>,
    /// Fields that may be read; empty: those that always may.
    pub expose: Box<str>,
    /// Whether credentials may be sent.
    pub credentials: bool,
    /// How long browsers remember it, in seconds.
    pub max_age: u64,
}

impl Cors {
    /// Whether all origins may, so that no answer depends on which one asks.
    pub fn is_open(&self) -> bool {
        self.origins == Origins::Any
    }
}

/// How the path that the app gets differs from the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// What is cut off.
    pub strip: Option<PathPrefix>,
    /// The same, percent-encoded, without a slash at its end; empty where nothing is.
    pub outside: Arc<str>,
    /// What is put in front, as it is sent, without a slash at its end; empty where nothing is.
    pub inside: Arc<str>,
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldEdit {
    /// Which one.
    pub name: FieldName,
    /// Its name as it is sent.
    pub text: Box<str>,
    /// What becomes of it.
    pub change: Change,
    /// Where it is said.
    pub origin: Origin,
}

/// A change of a field. One whose value comes out empty is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Whatever is there goes, and this comes.
    Set(Template),
    /// This comes, too.
    Add(Template),
    /// Whatever is there goes.
    Remove,
}

impl FieldEdit {
    /// The value, where the change brings one.
    pub fn value(&self) -> Option<&Template> {
        match &self.change {
            Change::Set(value) | Change::Add(value) => Some(value),
            Change::Remove => None,
        }
    }

    /// Whether what is there goes.
    pub fn drops(&self) -> bool {
        !matches!(self.change, Change::Add(_))
    }
}

/// Changes of requests on their way to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestEdits {
    /// The changes, no two of one field.
    pub fields: Box<[FieldEdit]>,
    /// Fields of the client's that do not pass.
    pub drops: Box<[FieldName]>,
    /// Fields that do not pass as trailers: all that are named here.
    pub named: Box<[FieldName]>,
    /// `Host` to send; `None`: the client's.
    pub host: Option<Box<str>>,
}

/// Changes of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEdits {
    /// The changes, no two of one field.
    pub fields: Box<[FieldEdit]>,
    /// Fields of the app's that do not pass, neither before the body nor behind it.
    pub drops: Arc<[FieldName]>,
    /// Groups of field lines with CRLF, an empty line behind each: a group is put on answers that have none of its fields.
    pub defaults: Arc<[u8]>,
}

impl Default for AnswerEdits {
    fn default() -> Self {
        Self { fields: Box::default(), drops: Arc::new([]), defaults: Arc::new([]) }
    }
}

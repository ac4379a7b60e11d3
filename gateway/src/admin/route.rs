//! What the admin listener answers: paths, methods, who may, and by what.
//!
//! The description of the API is made from the same list ([`super::openapi`]), so that neither has what the other lacks.

use std::sync::Arc;

use serde_json::{Value, json};

use super::pulse::Pulse;
use super::query::{Query, decode};
use crate::local::Page;
use crate::local::feed::Feed;
use crate::state::{Active, State};
use crate::wire::text::reason_phrase;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody who gets this far: it tells nothing that is not to be known.
    Open,
    /// As [`Access::Read`], unless the configuration opens metrics.
    Metrics,
    /// Those who may look.
    Read,
    /// Those who may change something.
    Write,
}

/// A parameter of a query, or a part of a path that stands for something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub text: &'static str,
    /// Its JSON schema.
    pub schema: &'static str,
}

/// One method of one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// The method. Whoever answers GET answers HEAD.
    pub method: &'static str,
    /// The path; `{name}` stands for any one segment.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Parameters of its query.
    pub parameters: &'static [Parameter],
    /// The name of the schema of its answer; empty, or a media type: it is text.
    pub schema: &'static str,
    /// Makes the answer.
    pub answer: Answer,
}

/// How an answer is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// As JSON.
    Json(fn(&Call<'_>) -> Answered),
    /// In its own way.
    Page(fn(&Call<'_>) -> Page),
    /// In its own way, on a thread of its own: it may take a while. A change that is made so is not held against a hand-over.
    Slow(fn(&Arc<State>, &[String], &Query) -> Page),
}

/// Paths that belong together, with the schemas of what they answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource {
    /// Its paths.
    pub routes: &'static [Route],
    /// A JSON object: schemas by name.
    pub schemas: &'static str,
}

/// What a request is answered from.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// What all threads share.
    pub state: &'a Arc<State>,
    /// The plan in force.
    pub active: &'a Active,
    /// What was counted lately.
    pub pulse: &'a Pulse,
    /// Those who want to be told more.
    pub feed: &'a Feed,
    /// What stands in the path for its `{name}`s, in their order.
    pub names: Vec<String>,
    /// The query.
    pub query: Query,
    /// Whoever asks may look at everything, not only at what is open to anybody.
    pub may_look: bool,
}

impl Call<'_> {
    /// What stands for the `{name}` with this index.
    pub(super) fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", |name| name)
    }
}

/// An answer, or why there is none.
pub(super) type Answered = Result<Value, Failed>;

/// Why a request is refused: the status, a word for programs, and a sentence for people.
pub(super) type Refused = (u16, &'static str, String);

/// What went wrong, and the names that would have been right.
pub(super) type Failed = (Refused, Vec<String>);

/// A parameter is not what it should be.
pub(super) fn invalid(text: String) -> Failed {
    ((400, "parameter_invalid", text), vec![])
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// This route, and what stands in the path for its names.
    Route(&'static Route, Vec<String>),
    /// Other methods would be right.
    Method(Vec<&'static str>),
    /// Nothing.
    Nothing,
}

/// Finds the route of a request.
pub(super) fn find(resources: &'static [Resource], method: &[u8], path: &[u8]) -> Found {
    let method = if method == b"HEAD" { b"GET" } else { method };
    let mut others = Vec::new();
    for route in resources.iter().flat_map(|resource| resource.routes) {
        if let Some(names) = names(route.path, path) {
            if route.method.as_bytes() == method {
                return Found::Route(route, names);
            }
            others.push(route.method);
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::Method(others) }
}

/// What stands in `path` for the names of `template`; `None`: it is another path.
fn names(template: &str, path: &[u8]) -> Option<Vec<String>> {
    let path = std::str::from_utf8(path).ok()?;
    let (mut template, mut path, mut names) = (template.split('/'), path.split('/'), Vec::new());
    loop {
        match (template.next(), path.next()) {
            (None, None) => return Some(names),
            (Some(part), Some(text)) if part.starts_with('{') => {
                names.push(decode(text).filter(|name| !name.is_empty())?);
            }
            (Some(part), Some(text)) if part == text => {}
            _ => return None,
        }
    }
}

/// A refusal, as a problem document (RFC 9457).
pub(super) fn refusal(refused: &Refused, known: &[String]) -> Page {
    problem(refused, (!known.is_empty()).then(|| ("known", known.into())))
}

/// A refusal that says more.
pub(super) fn problem((status, reason, text): &Refused, more: impl IntoIterator<Item = (&'static str, Value)>) -> Page {
    let mut value = json!({
        "type": "about:blank",
        "title": reason_phrase(*status),
        "status": status,
        "detail": text,
        "reason": reason,
    });
    if let Some(fields) = value.as_object_mut() {
        fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    Page { reason: Some(reason), ..page(*status, "application/problem+json", &value) }
}

/// An answer.
pub(super) fn page(status: u16, content_type: &'static str, value: &Value) -> Page {
    Page { content_type, ..Page::new(status, format!("{value:#}\n").into_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_its_parts_and_no_other_way() {
        let found = |path: &str| names("/services/{service}/servers/{server}/drain", path.as_bytes());
        let two = |a: &str, b: &str| Some(vec![a.to_owned(), b.to_owned()]);
        assert_eq!(found("/services/shop/servers/unix%3A%2Frun%2Fapp.sock/drain"), two("shop", "unix:/run/app.sock"));
        assert_eq!(found("/services/shop/servers/127.0.0.1:80/drain"), two("shop", "127.0.0.1:80"));
        for other in ["/services/shop/servers//drain", "/services/shop/servers/a/drain/", "/services/shop", "/", ""] {
            assert_eq!(found(other), None, "{other}");
        }
        assert_eq!(names("/services", b"/services"), Some(vec![]));
        assert_eq!(names("/services", b"/%73ervices"), None);
    }
}

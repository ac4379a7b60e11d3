//! Changes of header fields: which ones may be changed, and what a route leaves of its service's.

use std::sync::Arc;

use probegate_policies::fields::FieldName;
use probegate_policies::forwarded::is_forwarding_field;

use super::preset;
use crate::config::compile::{Context, Definitions};
use crate::config::shape::Named;
use crate::config::value::{FieldText, Leaf, TemplateText, Word as _};
use crate::config::{ConfigPath, raw};
use crate::plan::{AnswerEdits, Change, FieldEdit, SecurityGroups, Template};

/// Whose fields are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Those of requests on their way to the app.
    Request,
    /// Those of answers.
    Answer,
}

impl Side {
    fn key(self) -> &'static str {
        match self {
            Self::Request => "request_headers",
            Self::Answer => "response_headers",
        }
    }
}

/// Fields that tell how a message travels, or that every hop makes for itself.
const TRAVEL: [&str; 17] = [
    "connection",
    "content-length",
    "date",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// The changes that are written at `path`, in the order of `set`, `add`, `remove`.
pub(super) fn fields(
    raw: Option<raw::FieldEdits>,
    side: Side,
    path: &ConfigPath,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Vec<FieldEdit> {
    let Some(raw) = raw else { return Vec::new() };
    let path = path.key(side.key());
    let raw::FieldEdits { set, add, remove } = raw;
    if set.is_none()
        && add.is_none()
        && remove.is_none()
        && !["set", "add", "remove"].iter().any(|key| cx.is_broken(&path.key(key)))
    {
        cx.error(&path, format!("`{}` changes nothing", side.key()), "write `set`, `add` or `remove` below it");
    }
    let mut edits = Vec::new();
    valued(set, &path.key("set"), Change::Set, &mut edits, cx);
    valued(add, &path.key("add"), Change::Add, &mut edits, cx);
    let removed = path.key("remove");
    for (index, Leaf(field)) in remove.into_iter().flatten() {
        push(field, Change::Remove, removed.index(index), &mut edits, cx);
    }
    for (edit, path) in &edits {
        if let Some((message, hint)) = taken(edit, side, definitions) {
            cx.key_error(path, message, hint);
        }
    }
    edits.into_iter().map(|(edit, _)| edit).collect()
}

type Written = Vec<(FieldEdit, ConfigPath)>;

/// The fields of `set` or `add`.
fn valued(
    raw: Option<Named<Leaf<TemplateText>>>,
    path: &ConfigPath,
    change: fn(Template) -> Change,
    edits: &mut Written,
    cx: &mut Context<'_>,
) {
    for (name, value) in raw.into_iter().flatten() {
        let path = path.key(&name);
        // The reason is told as for every other name of a field, but at the key.
        let field = match FieldText::from_text(&name) {
            Ok(field) => field,
            Err(invalid) => {
                let (message, hint) = invalid.parts();
                cx.key_error(&path, message, hint.unwrap_or_default());
                continue;
            }
        };
        let Some(Leaf(TemplateText(value))) = value else { continue };
        push(field, change(value), path, edits, cx);
    }
}

fn push(field: FieldText, change: Change, path: ConfigPath, edits: &mut Written, cx: &mut Context<'_>) {
    let FieldText { name, text } = field;
    if edits.iter().any(|(other, _)| other.name == name) {
        cx.key_error(
            &path,
            format!("what becomes of `{text}` is said already"),
            "`set` replaces what is there, `add` leaves it, `remove` drops it: keep one of them",
        );
    }
    let origin = cx.origin(&path);
    edits.push((FieldEdit { name, text, change, origin }, path));
}

/// Why a field is not to be changed here, and what to write instead.
fn taken(edit: &FieldEdit, side: Side, definitions: &Definitions) -> Option<(String, String)> {
    let (name, text) = (edit.name.as_str(), &edit.text);
    let told = |why: &str, hint: &str| Some((format!("`{text}` {why}"), hint.to_owned()));
    if TRAVEL.contains(&name) {
        return told("tells how the message travels, which the gateway decides", "remove it");
    }
    if side == Side::Answer {
        return match name {
            "server" => told("has a key of its own", "write `server_header: …` in the service"),
            "strict-transport-security" => told("has a key of its own", "write `hsts: {max_age: …}` in the service"),
            "content-encoding" | "content-range" => {
                told("tells what the body is, which this does not change", "remove it")
            }
            "vary" if edit.drops() => {
                told("must keep what others have said", "write it under `add`, or let caches mix answers up")
            }
            _ if name.starts_with("x-accel-") || name == "x-sendfile" => {
                told("is what apps ask the gateway with: clients never see it", "remove it")
            }
            _ => None,
        };
    }
    if name == "host" {
        return told("has a key of its own", "write `host: …` beside `request_headers`");
    }
    if name == "x-forwarded-prefix" {
        return told("is told by the gateway", "`strip_prefix` sends it");
    }
    if is_forwarding_field(name.as_bytes()) {
        return told(
            "tells about the client, and is written by the gateway alone",
            "the app gets the verified client in `X-Forwarded-For` and its kin; choose another name for something else",
        );
    }
    let tokens = definitions
        .tokens
        .iter()
        .find(|entry| entry.value.as_ref().is_some_and(|tokens| tokens.set.field == edit.name))?;
    told(
        &format!("carries the tokens `{}`", tokens.name),
        "choose another name; `forward: true` lets apps see that header",
    )
}

/// What is written, and what `base` says of other fields.
pub(super) fn merged(mut written: Vec<FieldEdit>, base: &[FieldEdit]) -> Vec<FieldEdit> {
    let inherited: Vec<_> =
        base.iter().filter(|edit| !written.iter().any(|own| own.name == edit.name)).cloned().collect();
    written.splice(0..0, inherited);
    written
}

/// Names of fields that go.
pub(super) fn dropped(edits: &[FieldEdit]) -> impl Iterator<Item = FieldName> {
    edits.iter().filter(|edit| edit.drops()).map(|edit| edit.name.clone())
}

/// Reports changes of fields that `cors` decides about.
pub(super) fn leave_to_cors(answer: &[FieldEdit], path: &ConfigPath, cx: &mut Context<'_>) {
    for edit in answer.iter().filter(|edit| preset::CORS_FIELDS.contains(&edit.name.as_str())) {
        let message = format!("`cors` decides about `{}`, and `response_headers` changes it", edit.text);
        cx.key_error(&path.key("cors"), message, "keep one of the two");
    }
}

/// The changes of answers.
pub(super) fn answer(fields: Vec<FieldEdit>, security: &SecurityGroups, cors: bool) -> AnswerEdits {
    let theirs = preset::cors_fields().filter(|_| cors);
    let drops: Arc<[FieldName]> = dropped(&fields).chain(theirs).collect();
    let said = |name: &str| fields.iter().any(|edit| edit.name.matches(name.as_bytes()));
    let defaults = preset::lines(security, said).into();
    AnswerEdits { fields: fields.into(), drops, defaults }
}

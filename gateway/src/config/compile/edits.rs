//! What services and routes change about requests and answers.

mod fields;
mod preset;
mod redirect;
mod rewrite;

use std::sync::Arc;

use super::{Context, Definitions};
use crate::config::shape::{Preset, Toggle};
use crate::config::value::{Host, Leaf};
use crate::config::{ConfigPath, raw};
use crate::plan::{self, Edits, RequestEdits, Rewrite};

pub(super) use rewrite::rewrite;

/// What a service or a route says about it.
#[derive(Default)]
pub(super) struct Written {
    pub(super) request_headers: Option<raw::FieldEdits>,
    pub(super) response_headers: Option<raw::FieldEdits>,
    pub(super) host: Option<Leaf<Host>>,
    pub(super) security_headers: Option<Preset<raw::SecurityHeaders>>,
    pub(super) cors: Option<Toggle<raw::Cors>>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) redirect: Option<raw::Redirect>,
    /// Files answer.
    pub(super) files: bool,
}

impl Written {
    fn is_empty(&self) -> bool {
        let Self { request_headers, response_headers, host, security_headers, cors, rewrite, redirect, files } = self;
        request_headers.is_none()
            && response_headers.is_none()
            && host.is_none()
            && security_headers.is_none()
            && cors.is_none()
            && rewrite.is_none()
            && redirect.is_none()
            && !files
    }
}

/// What is changed at `path`: what is written there, and what `base` says of the rest.
pub(super) fn edits(
    written: Written,
    path: &ConfigPath,
    base: Option<&Arc<Edits>>,
    definitions: &Definitions,
    cx: &mut Context<'_>,
) -> Option<Arc<Edits>> {
    if written.is_empty() {
        return base.cloned();
    }
    let Written { request_headers, response_headers, host, security_headers, cors, rewrite, redirect, files } = written;
    let none = Edits::default();
    let base = base.map_or(&none, |base| base);
    let request = fields::fields(request_headers, fields::Side::Request, path, definitions, cx);
    let answer = fields::fields(response_headers, fields::Side::Answer, path, definitions, cx);
    let request = fields::merged(request, &base.request.fields);
    let own_answer = answer.clone();
    let answer = fields::merged(answer, &base.answer.fields);
    let says_cors = cors.is_some();
    let security = security_headers.map_or_else(|| base.security.clone(), preset::security);
    let cors = match cors {
        None => base.cors.clone(),
        Some(Toggle::Off) => None,
        Some(Toggle::On(raw)) => preset::cors(raw, &path.key("cors"), cx).map(Arc::new),
    };
    let redirect = match redirect {
        None => base.redirect.clone().filter(|_| !files),
        Some(raw) => {
            let path = path.key("redirect");
            if host.is_some() || rewrite.is_some() {
                cx.key_error(
                    &path,
                    "`redirect` asks no app: there is nobody to send another host or path to",
                    "keep one of the two",
                );
            }
            if files {
                cx.key_error(
                    &path,
                    "`redirect` stands beside `files`: only one of them can answer",
                    "keep one of the two",
                );
            }
            redirect::redirect(raw, &path, cx)
        }
    };
    if cors.is_some() {
        // What was said above was told above.
        fields::leave_to_cors(if says_cors { &answer } else { &own_answer }, path, cx);
    }
    let host = host.map(|Leaf(Host(host))| host).or_else(|| base.request.host.clone());
    Some(Arc::new(Edits {
        request: RequestEdits {
            drops: fields::dropped(&request).collect(),
            named: request.iter().map(|edit| edit.name.clone()).collect(),
            fields: request.into(),
            host,
        },
        answer: fields::answer(answer, &security, cors.is_some()),
        security,
        cors,
        rewrite,
        redirect,
    }))
}

/// Reports fields of requests that carry the token of a probe as well, which is asked with the changes of its service.
pub(super) fn leave_to_tokens(edits: Option<&Edits>, probes: &[plan::Probe], path: &ConfigPath, cx: &mut Context<'_>) {
    let fields = edits.map_or(&[][..], |edits| &edits.request.fields);
    for probe in probes {
        let plan::Serve::Forward(forward) = &probe.serve else { continue };
        let Some(token) = &forward.token else { continue };
        let key = |edit: &plan::FieldEdit| match edit.change {
            plan::Change::Set(_) => Some("set"),
            plan::Change::Add(_) => Some("add"),
            plan::Change::Remove => None,
        };
        for edit in fields.iter().filter(|edit| edit.name.matches(token.field.as_bytes())) {
            let Some(key) = key(edit) else { continue };
            let kind = probe.kind.name();
            let message = format!("`{}` carries the token that the probe `{kind}` shows to the app", edit.text);
            let path = path.key("request_headers").key(key).key(&edit.text);
            cx.key_error(&path, message, "choose another name, or write this in the routes that need it");
        }
    }
}

/// A service that sends all its clients elsewhere has no app: none is named, and no probe is put to it.
pub(super) fn without_app(has_app: bool, probes: &mut Vec<plan::Probe>, path: &ConfigPath, cx: &mut Context<'_>) {
    if has_app {
        let hint = "remove `upstream`, or put the redirect into a route";
        cx.key_error(&path.key("upstream"), "with `redirect` beside it, this app would never be asked", hint);
    }
    for probe in probes.iter().filter(|probe| matches!(probe.serve, plan::Serve::Forward(_)) && probe.origin.line > 0) {
        let path = path.key("probes").key(probe.kind.name());
        cx.key_error(&path, "there is no app that could be asked", "write `serve: answer`, or remove the probe");
    }
    probes.retain(|probe| matches!(probe.serve, plan::Serve::Answer(_)));
}

//! What services and routes change about requests and answers.

mod fields;

use std::sync::Arc;

use super::{Context, Definitions};
use crate::config::value::{Host, Leaf};
use crate::config::{ConfigPath, raw};
use crate::plan::{Edits, RequestEdits};

/// What a service or a route says about it.
#[derive(Default)]
pub(super) struct Written {
    pub(super) request_headers: Option<raw::FieldEdits>,
    pub(super) response_headers: Option<raw::FieldEdits>,
    pub(super) host: Option<Leaf<Host>>,
}

impl Written {
    fn is_empty(&self) -> bool {
        let Self { request_headers, response_headers, host } = self;
        request_headers.is_none() && response_headers.is_none() && host.is_none()
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
    let Written { request_headers, response_headers, host } = written;
    let none = Edits::default();
    let base = base.map_or(&none, |base| base);
    let request = fields::fields(request_headers, fields::Side::Request, path, definitions, cx);
    let answer = fields::fields(response_headers, fields::Side::Answer, path, definitions, cx);
    let host = host.map(|Leaf(Host(host))| host).or_else(|| base.request.host.clone());
    let request = fields::merged(request, &base.request.fields);
    let answer = fields::merged(answer, &base.answer.fields);
    Some(Arc::new(Edits {
        request: RequestEdits {
            drops: fields::dropped(&request).collect(),
            named: request.iter().map(|edit| edit.name.clone()).collect(),
            fields: request.into(),
            host,
        },
        answer: fields::answer(answer),
    }))
}

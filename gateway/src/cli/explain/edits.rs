//! What the configuration changes about the request and its answer.

use super::Out;
use crate::plan::{Action, Change, FieldEdit, Missing, Serve, Service};
use crate::request::judge::{Judgement, Part, Way};
use crate::request::values::Values;

impl Out {
    /// What is changed about the request on its way to the app.
    pub(super) fn request_edits(&mut self, values: &Values<'_>) {
        let handling = values.service.handling(values.judgement.part.route());
        let Some(edits) = handling.edits.as_deref() else { return };
        if let Some(host) = &edits.request.host {
            self.line("to app", &format!("`Host` is `{host}`"));
        }
        self.fields("to app", &edits.request.fields, values);
    }

    /// What is changed about its answer, whoever gives it.
    pub(super) fn answer_edits(&mut self, values: &Values<'_>) {
        let handling = values.service.handling(values.judgement.part.route());
        let Some(edits) = handling.edits.as_deref() else { return };
        self.fields("answer", &edits.answer.fields, values);
    }

    fn fields(&mut self, what: &str, edits: &[FieldEdit], values: &Values<'_>) {
        for edit in edits {
            let mut value = Vec::new();
            edit.value().iter().for_each(|template| values.write(template, &mut value));
            let value = String::from_utf8_lossy(&value);
            let at = self.at(edit.origin.line);
            let text = match &edit.change {
                Change::Remove => format!("`{}` is removed{at}", edit.text),
                Change::Set(_) if value.is_empty() => format!("`{}` is removed: its value is empty{at}", edit.text),
                Change::Add(_) if value.is_empty() => format!("`{}` is not added: its value is empty{at}", edit.text),
                Change::Set(_) => format!("`{}: {value}` is set{at}", edit.text),
                Change::Add(_) => format!("`{}: {value}` is added{at}", edit.text),
            };
            self.line(what, &text);
        }
    }
}

/// Whether the request goes to the app.
pub(super) fn asks_app(service: &Service, judgement: &Judgement<'_>) -> bool {
    let probe = match judgement.part {
        Part::Probe(index) => service.probes.get(index),
        Part::Rest | Part::Route(_) => None,
    };
    let goes = match service.action(judgement.part.route()) {
        Action::Forward => true,
        Action::Files(files) => files.missing == Missing::App,
    };
    goes && matches!(judgement.verdict, Ok(Way::In(_)))
        && !probe.is_some_and(|probe| matches!(probe.serve, Serve::Answer(_)))
}

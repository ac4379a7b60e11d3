//! What the configuration changes about the request and its answer.

use std::time::{Duration, Instant};

use super::Out;
use crate::connection::Facts;
use crate::plan::{Action, Change, Edits, FieldEdit, Missing, ProbeForward, Serve, Service};
use crate::request::instead::{self, Instead};
use crate::request::judge::{Judgement, Part, Way};
use crate::request::values::Values;
use crate::request::{Received, answer, cors, redirect};
use crate::wire::head::RequestHead;

impl Out {
    /// What is changed about the request on its way to the app, and about its answer, whoever gives it.
    pub(super) fn edits(&mut self, values: &Values<'_>) {
        let Some(edits) = edits(values) else { return };
        if asks_app(values.service, values.judgement) && instead(values).is_none() {
            if let Some(sent) = values.judgement.sent {
                self.line("to app", &format!("the path is `{}`", String::from_utf8_lossy(sent)));
            }
            let probe = forwarded(values);
            if let Some(host) = probe.and_then(|probe| probe.host.as_ref()).or(edits.request.host.as_ref()) {
                self.line("to app", &format!("`Host` is `{host}`"));
            }
            self.fields("to app", &edits.request.fields, values);
        }
        // What the gateway's own answers say of themselves stays.
        let refused = values.judgement.verdict.is_err();
        let (kept, changed): (Vec<_>, Vec<_>) =
            edits.answer.fields.iter().cloned().partition(|edit| refused && answer::says(&edit.text));
        self.fields("answer", &changed, values);
        for edit in kept {
            self.line("answer", &format!("`{}` is the gateway's own{}", edit.text, self.at(edit.origin.line)));
        }
        let mut lines = Vec::new();
        if let Some(cors) = &edits.cors {
            cors::lines(cors, values, &mut lines);
        }
        let (lines, defaults) = (String::from_utf8_lossy(&lines), String::from_utf8_lossy(&edits.answer.defaults));
        for line in lines.lines() {
            self.line("answer", &format!("`{line}` is set (cors)"));
        }
        for line in defaults.lines().filter(|line| !line.is_empty()) {
            self.line("answer", &format!("`{line}`, unless the app has said it"));
        }
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

/// The probe that is put to the app.
fn forwarded<'a>(values: &Values<'a>) -> Option<&'a ProbeForward> {
    let Part::Probe(index) = values.judgement.part else { return None };
    match &values.service.probes.get(index)?.serve {
        Serve::Forward(forward) => Some(forward),
        Serve::Answer(_) => None,
    }
}

/// Whether the request goes to the app.
pub(super) fn asks_app(service: &Service, judgement: &Judgement<'_>) -> bool {
    let probe = match judgement.part {
        Part::Probe(index) => service.probes.get(index),
        Part::Rest | Part::Route(_) | Part::Aggregate(_) => None,
    };
    let goes = match service.action(judgement.part.route()) {
        Action::Forward => true,
        Action::Files(files) => files.missing == Missing::App,
    };
    goes && matches!(judgement.verdict, Ok(Way::In(_)))
        && !probe.is_some_and(|probe| matches!(probe.serve, Serve::Answer(_)))
}

/// What the configuration has the gateway answer in the app's place.
pub(super) fn instead(values: &Values<'_>) -> Option<String> {
    if !matches!(values.judgement.verdict, Ok(Way::In(_))) || matches!(values.judgement.part, Part::Probe(_)) {
        return None;
    }
    match instead::find(edits(values)?, values)? {
        Instead::Preflight => Some("passes: the gateway answers the preflight".to_owned()),
        Instead::Redirect(to) => {
            let mut place = Vec::new();
            redirect::elsewhere(to, values, &mut place);
            Some(format!("redirected: {}, to {}", to.status, String::from_utf8_lossy(&place)))
        }
    }
}

fn edits<'a>(values: &Values<'a>) -> Option<&'a Edits> {
    values.service.handling(values.judgement.part.route()).edits.as_deref()
}

/// The request, as what asks about it wants it.
pub(super) fn received<'a>(head: &'a RequestHead, bytes: &'a [u8], facts: &'a Facts) -> Received<'a> {
    Received {
        head,
        bytes,
        broken: None,
        asks_upgrade: false,
        demands_upgrade: false,
        started: Instant::now(),
        complete: Instant::now(),
        at: Duration::ZERO,
        facts,
        ended: None,
    }
}

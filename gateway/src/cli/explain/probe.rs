//! `explain`: how the app is asked for a probe, and whom its answer serves.

use std::time::Duration;

use super::Out;
use crate::plan::{Plan, Probe, Serve};
use crate::request::shield;
use crate::request::target::Target;
use crate::wire::head::FieldView;

impl Out {
    /// What stands between the client and the app's answer.
    pub(super) fn probe(&mut self, probe: &Probe, asked: &Target<'_>, fields: &FieldView<'_>, plan: &Plan) {
        let Serve::Forward(forward) = &probe.serve else { return };
        let query = if asked.query.is_empty() || forward.query { "" } else { ", without its query" };
        self.line("asked", &format!("`{}`{query}, within {:?}", forward.path, forward.timeout));
        let Some(terms) = &forward.cache else {
            self.line("shield", "none: each client has the app asked");
            return;
        };
        if shield::is_own(fields, plan) {
            self.line(
                "shield",
                "passed by: the app may judge by what the client shows, and is asked for this client alone",
            );
            return;
        }
        let mut text =
            format!("what it says serves everybody, a 2xx for {:?}, anything else for {:?}", terms.ok, terms.fail);
        if terms.latch {
            text = format!("what it says serves everybody, a 2xx for good, anything else for {:?}", terms.fail);
        }
        if terms.stale > Duration::ZERO {
            text.push_str(&format!("; that it says nothing is covered for {:?}", terms.stale));
        }
        self.line("shield", &text);
    }
}

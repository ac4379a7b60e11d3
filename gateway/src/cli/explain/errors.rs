//! What is told of errors, and whether a service in maintenance serves the request.

use super::{Out, Watched};
use crate::plan::Errors;
use crate::request::hidden;
use crate::request::judge::{Part, Question, Way};
use crate::request::maintenance;
use crate::request::values::Values;
use crate::wire::head::FieldView;

impl Out {
    /// Whether the configuration has the service in maintenance, and that keeps the request out. What somebody has switched is not known here.
    pub(super) fn maintenance(&mut self, values: &Values<'_>, question: &Question<'_, '_, FieldView<'_>>) -> bool {
        let maintenance = &values.service.maintenance;
        let Some(origin) = maintenance.origin else { return false };
        let hidden = match &values.judgement.verdict {
            Ok(Way::In(_)) => false,
            Err(refused) if hidden::is_hidden(*refused) => true,
            _ => return false,
        };
        let mut watched = Watched { walk: Vec::new(), rules: Vec::new(), limits: Vec::new() };
        let kept_out = maintenance::keeps_out(values, question, &mut watched);
        let at = self.at(origin.line);
        let text = match (maintenance.enabled, kept_out) {
            (true, true) if hidden => {
                format!("on{at}, unless somebody has switched it off: the client sees that, and no 404")
            }
            (_, _) if hidden => return false,
            (true, true) => format!("on{at}, unless somebody has switched it off: keeps the request out"),
            (true, false) => format!("on{at}: serves this request all the same"),
            (false, true) => format!("off{at}; switched on, it would keep the request out"),
            (false, false) => format!("off{at}; switched on, it would serve this request all the same"),
        };
        self.line("maintenance", &text);
        self.rules(&watched);
        if let Some(page) = maintenance.page.as_ref().filter(|_| kept_out) {
            self.line("", &format!("page `{}`", page.name));
        }
        maintenance.enabled && kept_out && !hidden
    }

    /// The pages for errors, and whose bodies are replaced. A probe gets none.
    pub(super) fn errors(&mut self, errors: Option<&Errors>, part: Part) {
        let Some(errors) = errors.filter(|_| !matches!(part, Part::Probe(_) | Part::Aggregate(_))) else { return };
        let pages = errors.pages.iter().map(|(statuses, page)| match page {
            Some(page) => format!("{statuses} from `{}`", page.name),
            None => format!("{statuses} built in"),
        });
        let pages: Vec<_> = pages.collect();
        if !pages.is_empty() {
            self.line("errors", &format!("pages for browsers: {}", pages.join(", ")));
        }
        let taken: Vec<_> = errors.intercept.iter().map(ToString::to_string).collect();
        if !taken.is_empty() {
            self.line("errors", &format!("of the app's with {}: the body is replaced", taken.join(", ")));
        }
    }
}

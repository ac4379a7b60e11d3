//! Whom a service in maintenance serves all the same. Asked behind the rules and the limits, so that nobody learns more than before; of what is hidden,
//! as if it were not there.
//!
//! Invariant: no I/O and no clock. `probegate explain` runs this same code.

use probegate_policies::access::Trace;
use probegate_policies::fields::Fields;

use super::cors;
use super::judge::{Part, Question};
use super::values::Values;

/// Whether a request is kept out while its service is in maintenance. Its probes never are: what they say is the app's business, and maintenance is no
/// reason to start it again. Nor are a browser's questions about what it may ask: who has been told may see the 503, and the one who is served.
pub fn keeps_out<F: Fields + ?Sized>(
    values: &Values<'_>,
    question: &Question<'_, '_, F>,
    observer: &mut impl Trace,
) -> bool {
    let (service, judgement) = (values.service, values.judgement);
    if matches!(judgement.seen, Part::Probe(_)) {
        return false;
    }
    let edits = service.handling(judgement.seen.route()).edits.as_deref();
    if edits.is_some_and(|edits| edits.cors.is_some()) && cors::is_preflight(values) {
        return false;
    }
    let facts = question.facts(&judgement.identity);
    service.maintenance.allow.as_ref().is_none_or(|rule| rule.judge(&facts, observer).is_err())
}

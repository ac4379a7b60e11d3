//! Aggregates: where they are found, and who may ask. They stand before services, and like probes they know no ban, no limit and no redirect.

use probegate_policies::fields::Fields;
use probegate_policies::reason::Reason;

use super::{Judgement, Observer, Part, Question, Refused, Way};
use crate::plan::Plan;

/// The aggregate that is asked for; `None`: none is. A path with more than one reading is none's.
pub(super) fn find<F: ?Sized>(plan: &Plan, question: &Question<'_, '_, F>, judgement: &Judgement<'_>) -> Option<usize> {
    let path = judgement.path.as_ref().filter(|path| path.folded.is_none() && path.cut.is_none())?.path;
    plan.aggregates.iter().position(|aggregate| {
        aggregate.path.as_bytes() == path && (question.probes_only || aggregate.hosts.find(question.host).is_some())
    })
}

/// Judges whoever asks for the aggregate with this index.
pub(super) fn judge<F: Fields + ?Sized>(
    plan: &Plan,
    index: usize,
    question: &Question<'_, '_, F>,
    judgement: &mut Judgement<'_>,
    observer: &mut impl Observer,
) -> Result<Way, Refused> {
    judgement.part = Part::Aggregate(index);
    let aggregate = plan.aggregates.get(index).ok_or(Reason::ProbeUnknown)?;
    let permit = aggregate.allow.judge(&question.facts(&judgement.identity), observer);
    let permit = permit.map_err(|refusal| Refused { reason: refusal.into(), deny: aggregate.deny })?;
    // After the rule, as for probes (D10).
    if matches!(question.method, b"GET" | b"HEAD") { Ok(Way::In(permit)) } else { Err(Reason::MethodNotAllowed.into()) }
}

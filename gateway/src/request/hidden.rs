//! What is hidden (`deny: 404`): whoever may not enter sees what would be seen if nothing were there.
//!
//! Invariant: what is configured about a hidden part shows in no answer to somebody whom it does not let in; nor does its name.

use probegate_policies::access::Rule;
use probegate_policies::fields::Fields;
use probegate_policies::reason::Reason;

use super::answer;
use super::judge::{Judgement, Part, Question, Refused};
use super::maintenance;
use super::values::Values;
use crate::plan::{Action, Deny, Missing, Plan, Service};
use crate::state::Active;

/// What would answer a judged request if nothing were hidden where it goes.
pub(super) fn seen<F: Fields + ?Sized>(plan: &Plan, question: &Question<'_, '_, F>, judgement: &Judgement<'_>) -> Part {
    let Some(service) = judgement.service.and_then(|index| plan.services.get(index)) else { return Part::Rest };
    let facts = question.facts(&judgement.identity);
    let path = judgement.path.as_ref().map_or(&b"/"[..], |path| path.path);
    around(service, path, |rule| rule.judge(&facts, &mut ()).is_ok())
}

/// The part of a service that would answer if what is hidden from this client were not there. `lets_in` tells whether a rule does.
fn around(service: &Service, path: &[u8], lets_in: impl Fn(&Rule) -> bool) -> Part {
    let routes = service.routes.iter().enumerate();
    routes
        .filter(|(_, route)| route.path.covers(path) && (route.deny != Deny::Hidden || lets_in(&route.allow)))
        .max_by_key(|(_, route)| route.path.as_str().len())
        .map_or(Part::Rest, |(index, _)| Part::Route(index))
}

/// What follows from a limit, where the rules have refused the request already and say `denied` to that. A limit that counts for the hidden part alone
/// would tell that there is one. `limit`: the one that is exceeded; `None`: the store that counts it can not be asked.
pub(super) fn by_limit(
    service: &Service,
    around: Part,
    denied: Option<Deny>,
    reason: Reason,
    limit: Option<usize>,
) -> Refused {
    let outside = around.route().and_then(|index| service.routes.get(index)).map_or(&[][..], |route| &route.limits);
    let shows = limit.is_some_and(|limit| service.limits.contains(&limit) || outside.contains(&limit));
    Refused { reason, deny: denied.filter(|_| !shows).unwrap_or_default() }
}

/// What the client is told of a refusal. While its service is in maintenance, what is hidden answers as everything else does, probes too.
pub(super) fn told<F: Fields + ?Sized>(
    active: &Active,
    values: Option<&Values<'_>>,
    question: &Question<'_, '_, F>,
    refused: Refused,
) -> Refused {
    let is_shown = |values: &&Values<'_>| {
        is_hidden(refused)
            && refused.reason != Reason::Banned
            && values.judgement.service.is_some_and(|index| active.in_maintenance(index).is_some())
            && maintenance::keeps_out(values, question, &mut ())
    };
    values.filter(is_shown).map_or(refused, |_| Reason::Maintenance.into())
}

/// Whether the client may be told of what its limits have left: not of one that counts for a hidden part alone.
pub(super) fn may_tell_limit(values: &Values<'_>) -> bool {
    let judgement = values.judgement;
    judgement.seen == judgement.part
        || judgement.limited.is_some_and(|limited| values.service.limits.contains(&limited.limit))
}

/// Whether a refusal looks as if nothing were there.
pub fn is_hidden(refused: Refused) -> bool {
    refused.deny == Deny::Hidden && answer::status(refused) == 404 && refused.reason.status() != 404
}

/// Whether a 404 for what is not there is the gateway's own here, and not the app's.
pub(super) fn is_own(service: Option<&Service>, around: Part) -> bool {
    service.is_some_and(|service| match service.action(around.route()) {
        Action::Files(files) => files.missing != Missing::App || files.internal,
        Action::Forward => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Source, System};

    #[test]
    fn what_lies_around_is_what_the_client_may_see() {
        let text = "networks: {office: [192.0.2.0/24]}\nservices:\n  app:\n    upstream: {servers: [\"127.0.0.1:1\"]}\n    routes:\n\
            \x20     - {path: /, allow: {network: office}}\n      - {path: /a/, allow: {network: office}, deny: 404}\n\
            \x20     - {path: /a/b/, allow: {network: office}, deny: 404}\n      - {path: /c/, allow: {network: office}, deny: close}\n";
        let source = Source { name: "test".into(), text: text.into() };
        let plan = config::compile(&source, &System::new("")).unwrap().plan;
        let route = |path: &str| plan.services[0].routes.iter().position(|route| route.path.as_str() == path).unwrap();
        for (path, lets_in, expected) in [
            (&b"/a/b/c"[..], false, "/"),
            (b"/a/b/c", true, "/a/b"),
            (b"/a", false, "/"),
            (b"/c/d", false, "/c"),
            (b"/ab", true, "/"),
        ] {
            let found = around(&plan.services[0], path, |_| lets_in);
            assert_eq!(found, Part::Route(route(expected)), "{path:?}");
        }
    }
}

//! The answer to whoever asks an aggregate: in the shape of django-deploy-probes 0.6.3 (`DETAIL_LEVEL` `safe`), or of the draft for health checks
//! (draft-inadarei-api-health-check-06, `application/health+json`).
//!
//! Invariant: without checks, no name and no reason is in it, and it tells a stranger no more than its status does.

use super::{Need, Verdict};
use crate::accept;
use crate::probe::{ProbeKind, push_json};

/// In which form a client is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As django-deploy-probes answers.
    Package,
    /// As the draft says.
    Draft,
}

impl Form {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Package => "application/json",
            Self::Draft => "application/health+json",
        }
    }
}

/// The form that a client wants which sent these values of `Accept`. The draft's has to be named.
pub fn form<'v>(accepted: &(impl Iterator<Item = &'v [u8]> + Clone)) -> Form {
    if accept::names_health(accepted) { Form::Draft } else { Form::Package }
}

/// What is told about one of its parts.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether the whole fails with it.
    pub need: Need,
    /// Whether it passes.
    pub passes: bool,
    /// What the last observation found wrong; `None`: nothing.
    pub reason: Option<&'a str>,
}

/// The body. `checks`: `None` where the client may not see them.
pub fn body(form: Form, kind: ProbeKind, verdict: Verdict, checks: Option<&[Check<'_>]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + checks.map_or(0, |checks| checks.len() * 64));
    out.extend_from_slice(b"{\"status\": ");
    let status = match form {
        Form::Package => word(kind, verdict.passes()),
        // Whoever sees no checks does not see that one of them fails, either.
        Form::Draft if verdict == Verdict::Warn && checks.is_some() => "warn",
        Form::Draft if verdict.passes() => "pass",
        Form::Draft => "fail",
    };
    push_json(&mut out, status);
    match (form, checks) {
        (Form::Draft, None) => {}
        (_, checks) => {
            out.extend_from_slice(b", \"checks\": {");
            for (index, check) in checks.unwrap_or_default().iter().enumerate() {
                out.extend_from_slice(if index == 0 { b"" } else { b", " });
                match form {
                    Form::Package => package(&mut out, check),
                    Form::Draft => draft(&mut out, kind, check),
                }
            }
            out.push(b'}');
        }
    }
    out.push(b'}');
    out
}

/// What django-deploy-probes calls it.
const fn word(kind: ProbeKind, passes: bool) -> &'static str {
    match (kind, passes) {
        (ProbeKind::Healthz | ProbeKind::Version, true) => "ok",
        (ProbeKind::Healthz | ProbeKind::Version, false) => "fail",
        (ProbeKind::Readyz, true) => "ready",
        (ProbeKind::Readyz, false) => "not_ready",
        (ProbeKind::Startupz, true) => "started",
        (ProbeKind::Startupz, false) => "not_started",
    }
}

fn package(out: &mut Vec<u8>, check: &Check<'_>) {
    push_json(out, check.name);
    out.extend_from_slice(b": ");
    let status = if check.passes { "ok" } else { "fail" };
    if check.passes && check.reason.is_none() {
        return push_json(out, status);
    }
    out.extend_from_slice(b"{\"status\": ");
    push_json(out, status);
    if let Some(reason) = check.reason {
        out.extend_from_slice(b", \"reason\": ");
        push_json(out, reason);
    }
    if check.need == Need::Optional {
        out.extend_from_slice(b", \"required\": false");
    }
    out.push(b'}');
}

fn draft(out: &mut Vec<u8>, kind: ProbeKind, check: &Check<'_>) {
    let mut name = check.name.to_owned();
    name.push(':');
    name.push_str(kind.name());
    push_json(out, &name);
    out.extend_from_slice(b": [{\"componentType\": \"component\", \"status\": ");
    let status = match (check.passes, check.reason) {
        (true, None) => "pass",
        (true, Some(_)) => "warn",
        (false, _) => "fail",
    };
    push_json(out, status);
    // Not where everything is well (section 4.9 of the draft).
    if let Some(reason) = check.reason {
        out.extend_from_slice(b", \"output\": ");
        push_json(out, reason);
    }
    out.extend_from_slice(b"}]");
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKS: [Check<'_>; 4] = [
        Check { name: "shop", need: Need::Required, passes: true, reason: None },
        Check { name: "blog", need: Need::Required, passes: false, reason: Some("probe_timeout") },
        Check { name: "search", need: Need::Optional, passes: false, reason: Some("status_503") },
        Check { name: "pay", need: Need::Required, passes: true, reason: Some("status_500") },
    ];

    fn text(form: Form, kind: ProbeKind, verdict: Verdict, checks: Option<&[Check<'_>]>) -> String {
        let text = String::from_utf8(body(form, kind, verdict, checks)).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(parsed["status"].is_string());
        text
    }

    #[test]
    fn the_package_would_answer_like_this() {
        assert_eq!(
            text(Form::Package, ProbeKind::Readyz, Verdict::Fail, Some(&CHECKS)),
            concat!(
                r#"{"status": "not_ready", "checks": {"shop": "ok", "blog": {"status": "fail", "reason": "probe_timeout"}, "#,
                r#""search": {"status": "fail", "reason": "status_503", "required": false}, "#,
                r#""pay": {"status": "ok", "reason": "status_500"}}}"#
            )
        );
        assert_eq!(
            text(Form::Package, ProbeKind::Readyz, Verdict::Warn, CHECKS.get(..1)),
            r#"{"status": "ready", "checks": {"shop": "ok"}}"#
        );
        assert_eq!(
            text(Form::Package, ProbeKind::Startupz, Verdict::Pass, Some(&[])),
            r#"{"status": "started", "checks": {}}"#
        );
    }

    #[test]
    fn the_draft_would_answer_like_this() {
        assert_eq!(
            text(Form::Draft, ProbeKind::Readyz, Verdict::Warn, CHECKS.get(2..)),
            concat!(
                r#"{"status": "warn", "checks": {"search:readyz": [{"componentType": "component", "status": "fail", "#,
                r#""output": "status_503"}], "pay:readyz": [{"componentType": "component", "status": "warn", "#,
                r#""output": "status_500"}]}}"#
            )
        );
        assert_eq!(
            text(Form::Draft, ProbeKind::Healthz, Verdict::Pass, CHECKS.get(..1)),
            r#"{"status": "pass", "checks": {"shop:healthz": [{"componentType": "component", "status": "pass"}]}}"#
        );
    }

    #[test]
    fn whoever_may_not_see_the_checks_learns_the_status_alone() {
        for (form, kind, verdict, expected) in [
            (Form::Package, ProbeKind::Readyz, Verdict::Pass, r#"{"status": "ready", "checks": {}}"#),
            (Form::Package, ProbeKind::Readyz, Verdict::Warn, r#"{"status": "ready", "checks": {}}"#),
            (Form::Package, ProbeKind::Readyz, Verdict::Fail, r#"{"status": "not_ready", "checks": {}}"#),
            (Form::Package, ProbeKind::Healthz, Verdict::Fail, r#"{"status": "fail", "checks": {}}"#),
            (Form::Draft, ProbeKind::Readyz, Verdict::Warn, r#"{"status": "pass"}"#),
            (Form::Draft, ProbeKind::Readyz, Verdict::Fail, r#"{"status": "fail"}"#),
        ] {
            assert_eq!(text(form, kind, verdict, None), expected);
        }
    }

    #[test]
    fn the_draft_is_for_whoever_names_it() {
        for (accept, expected) in [
            (&[][..], Form::Package),
            (&["*/*"], Form::Package),
            (&["application/*"], Form::Package),
            (&["application/health+json"], Form::Draft),
            (&["application/json", "Application/Health+JSON"], Form::Draft),
            (&["application/health+json;q=0.5, application/json"], Form::Package),
            (&["application/health+json, */*;q=0.1"], Form::Draft),
            (&["application/health+json;q=0"], Form::Package),
            (&["text/html, application/json"], Form::Package),
        ] {
            let accepted: Vec<&[u8]> = accept.iter().map(|value| value.as_bytes()).collect();
            assert_eq!(form(&accepted.iter().copied()), expected, "{accept:?}");
        }
    }
}

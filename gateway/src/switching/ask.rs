//! What the servers of a slot say: each is asked by itself, as the service's probes are put to the app.

use std::sync::Arc;

use probegate_policies::probe::ProbeKind;
use probegate_policies::reason::Reason;
use probegate_policies::switch::{Finding, Said};
use serde_json::Value;

use super::{Means, Run, find};
use crate::health::check::Question;
use crate::plan::{ProbeForward, Serve, Service};
use crate::state::Active;

/// The order of the questions: whether it lives, has started, is ready, and what it is.
const ORDER: [ProbeKind; 4] = [ProbeKind::Healthz, ProbeKind::Startupz, ProbeKind::Readyz, ProbeKind::Version];

/// Asks every server of a slot that is not drained everything that the app answers itself, all servers at a time.
pub(super) async fn everything(means: &Means, active: &Arc<Active>, run: &Run) -> Vec<Finding> {
    let (service, slot) = (&run.service, &run.to);
    // Who has the requests has shown the rest.
    let kinds: &'static [ProbeKind] = if run.moves() { &ORDER } else { &[ProbeKind::Version] };
    let tasks: Vec<_> = servers(active, service, slot)
        .into_iter()
        .map(|(index, label)| {
            let (means, active, service) = (means.clone(), Arc::clone(active), service.clone());
            let name = label.clone();
            let task = tokio::task::spawn_local(async move {
                let mut findings = Vec::new();
                for &kind in kinds {
                    findings.extend(one(&means, &active, &service, (index, &label), kind).await);
                }
                findings
            });
            (name, task)
        })
        .collect();
    let mut findings = Vec::new();
    for (server, task) in tasks {
        // A fault of the gateway is no word in favour of a server.
        findings.extend(task.await.unwrap_or_else(|_| {
            let answer = Err(Reason::Panicked.text().into());
            vec![Finding { server, probe: ProbeKind::Readyz, answer, said: None }]
        }));
    }
    findings
}

/// What tells whether a server may get requests: whether it is ready, else whether it lives. `None`: nothing does.
pub(super) fn readiness(service: &Service) -> Option<ProbeKind> {
    [ProbeKind::Readyz, ProbeKind::Healthz].into_iter().find(|kind| forward(service, *kind).is_some())
}

/// Whether the app is who tells a version.
pub(super) fn tells_version(active: &Active, run: &Run) -> bool {
    find(active, &run.service).is_some_and(|(service, ..)| forward(service, ProbeKind::Version).is_some())
}

/// Asks one server of the slot that a switch moves to one thing. `None`: it is drained, or not there.
pub(super) async fn server(
    means: &Means,
    active: &Arc<Active>,
    run: &Run,
    server: &str,
    kind: ProbeKind,
) -> Option<Finding> {
    let (index, label) = servers(active, &run.service, &run.to).into_iter().find(|(_, label)| **label == *server)?;
    one(means, active, &run.service, (index, &label), kind).await
}

/// The servers of a slot that are not drained.
fn servers(active: &Active, service: &str, slot: &str) -> Vec<(usize, Box<str>)> {
    let Some((_, slots, servers)) = find(active, service) else { return Vec::new() };
    let slot = slots.index(slot);
    let each = servers.sites().iter().enumerate();
    each.filter(|(_, site)| slot.is_some() && site.slot == slot && !site.state.is_drained())
        .map(|(index, site)| (index, site.label.clone()))
        .collect()
}

/// Asks one server one thing. `None`: the app is not who answers that.
async fn one(
    means: &Means,
    active: &Active,
    service: &str,
    (index, label): (usize, &str),
    kind: ProbeKind,
) -> Option<Finding> {
    let (service, _, _) = find(active, service)?;
    let probe = forward(service, kind)?;
    let host = probe.host.as_deref().or(probe.own.as_deref());
    let question = Question { path: &probe.path, host, token: probe.token.as_ref() };
    let deadline = means.deadlines.slot();
    let answer = question.put(&means.pools, &service.upstream, index, probe.timeout, &deadline).await;
    let said = match &answer {
        Ok((200..=299, body)) if kind == ProbeKind::Version => said(body),
        _ => None,
    };
    let answer = answer.map(|(status, _)| status).map_err(|reason| reason.text().into());
    Some(Finding { server: label.into(), probe: kind, answer, said })
}

fn forward(service: &Service, kind: ProbeKind) -> Option<&ProbeForward> {
    let probe = service.probes.iter().find(|probe| probe.kind == kind)?;
    match &probe.serve {
        Serve::Forward(forward) => Some(forward),
        Serve::Answer(_) => None,
    }
}

/// What a server says about itself, in the words of django-deploy-probes.
fn said(body: &[u8]) -> Option<Said> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| {
        let text = value.get(key)?.as_str()?;
        // What the package says when it was told nothing. It is shown line by line, on terminals too.
        let printable = || text.chars().filter(|c| !c.is_control()).collect();
        (text != "unknown" && text.len() <= 200).then(printable)
    };
    let said = Said { version: text("version"), commit: text("commit") };
    (said != Said::default()).then_some(said)
}

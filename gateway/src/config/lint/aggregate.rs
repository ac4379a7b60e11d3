//! What works in aggregates, but probably not as meant.

use std::time::Duration;

use super::{ConfigPath, Context};
use crate::plan::{AggregateMember, Serve, Service};

/// Services whose probe may take longer than the aggregate waits: their late answers are good for those who ask the probe, and failures here.
pub(in crate::config) fn aggregate_timeout(
    timeout: Duration,
    members: &[AggregateMember],
    services: &[Service],
    path: &ConfigPath,
    cx: &mut Context<'_>,
) {
    for member in members {
        let Some(service) = services.get(member.service) else { continue };
        let Some(probe) = service.probes.get(member.probe) else { continue };
        let Serve::Forward(forward) = &probe.serve else { continue };
        if forward.timeout <= timeout {
            continue;
        }
        let (name, kind) = (&service.name, probe.kind.name());
        let (ours, theirs) = (timeout.as_millis(), forward.timeout.as_millis());
        cx.lint(
            &path.key("timeout"),
            format!("probe `{kind}` of service `{name}` may take {theirs} ms, but fails here after {ours} ms"),
            "give the probe a `timeout` that is no longer than the aggregate's",
        );
    }
}
